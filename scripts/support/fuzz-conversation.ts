/**
 * What a hostile or unlucky NBD client says: mostly right, with bits flipped, parts missing, or an end too early. Which
 * of all this a conversation gets depends on nothing but its generator.
 *
 * One block is left alone, the canary: no change in a conversation may reach it, wherever a bit was flipped. A server
 * changes bytes only when it finds the magic of a request before a changing command, so it is enough to look for that
 * at every byte, whatever the rest may mean to it.
 */
import type { Random } from "../../src/base/random.js";
import {
  extendedRequest,
  infoRequest,
  metaQuery,
  option,
  request,
  u32,
} from "../../test/nbd/support/wire.js";

export interface Device {
  sizeBytes: number;
  /** The last bytes, from here on, are the canary. */
  canaryAt: number;
  exportNames: readonly string[];
}

const largestPayloadBytes = 200_000;
const changing = [1, 4, 6];

/** Whole numbers from 0 to `limit`, which is not among them. */
export function below(random: Random, limit: number): number {
  return Math.floor(random.next() * limit);
}

export function chance(random: Random, probability: number): boolean {
  return random.next() < probability;
}

/** Flags, options and requests as one piece of bytes. */
export function conversation(random: Random, device: Device): Buffer {
  const isExtended = chance(random, 0.3);
  const name = device.exportNames[below(random, device.exportNames.length)];
  const parts = [u32(chance(random, 0.95) ? 3 : below(random, 8))];
  for (let i = below(random, 4); i > 0; i--) parts.push(anyOption(random));
  if (isExtended) parts.push(option(11));
  else if (chance(random, 0.5)) parts.push(option(8));
  if (chance(random, 0.5)) parts.push(option(10, metaQuery(name, ["base:allocation", "x-blkforge:fault"])));
  if (!isExtended && chance(random, 0.1)) parts.push(option(1, Buffer.from(name)));
  else if (chance(random, 0.9)) parts.push(option(7, infoRequest(name, [3])));
  for (let i = below(random, 12); i > 0; i--) parts.push(anyRequest(random, device, isExtended));
  if (chance(random, 0.5)) parts.push(isExtended ? extendedRequest({ type: 2 }) : request({ type: 2 }));
  const bytes = Buffer.concat(parts);
  const said = chance(random, 0.3) ? flipBits(random, parts, device) : bytes;
  return chance(random, 0.2) ? said.subarray(0, below(random, said.length)) : said;
}

/** Some bits flipped, most of them in headers, where they do something. */
function flipBits(random: Random, parts: readonly Buffer[], device: Device): Buffer {
  const whole = Buffer.concat(parts);
  for (let tries = 0; tries < 10; tries++) {
    const broken = Buffer.from(whole);
    for (let flips = 1 + below(random, 4); flips > 0; flips--) {
      const part = below(random, parts.length);
      const partAt = parts.slice(0, part).reduce((sum, { length }) => sum + length, 0);
      const reach = chance(random, 0.8) ? Math.min(32, parts[part].length) : parts[part].length;
      if (reach > 0) broken[partAt + below(random, reach)] ^= 1 << below(random, 8);
    }
    if (!mayReachCanary(broken, device)) return broken;
  }
  return whole;
}

/** Whether any bytes could be taken for a change of the canary, in either format of requests. */
function mayReachCanary(bytes: Buffer, { canaryAt, sizeBytes }: Device): boolean {
  for (let at = 0; at + 28 <= bytes.length; at++) {
    // Both magics begin with one of these bytes: most places need no closer look.
    if (bytes[at] !== 0x25 && bytes[at] !== 0x21) continue;
    const magic = bytes.readUInt32BE(at);
    const isExtended = magic === 0x21e41c71;
    if (magic !== 0x25609513 && !(isExtended && at + 32 <= bytes.length)) continue;
    if (!changing.includes(bytes.readUInt16BE(at + 6))) continue;
    const offset = bytes.readBigUInt64BE(at + 16);
    const length = isExtended ? bytes.readBigUInt64BE(at + 24) : BigInt(bytes.readUInt32BE(at + 24));
    if (offset < BigInt(sizeBytes) && offset + length > BigInt(canaryAt)) return true;
  }
  return false;
}

/** None that agrees on TLS: whoever wants that does it in earnest. */
function anyOption(random: Random): Buffer {
  const data = Buffer.alloc(below(random, 200), below(random, 256));
  const type = below(random, 13);
  if (type === 5) return option(type, Buffer.from("x"));
  return option(type, chance(random, 0.5) ? data : infoRequest("disk", [below(random, 5)]));
}

/** Changes keep away from the canary, or reach beyond the end and are refused as a whole. */
function anyRequest(random: Random, { sizeBytes, canaryAt }: Device, isExtended: boolean): Buffer {
  const type = below(random, 10);
  // The end of a conversation comes at its end.
  if (type === 2) return Buffer.alloc(0);
  const isBeyond = chance(random, 0.1);
  const lengthBytes = chance(random, 0.1) ? 0 : below(random, largestPayloadBytes);
  const offset = isBeyond ? sizeBytes + below(random, 1 << 30) : below(random, canaryAt - lengthBytes);
  const flags = chance(random, 0.8) ? 0 : below(random, 64);
  const fields = { type, offset, cookie: BigInt(below(random, 2 ** 31)), flags };
  if (type === 1) {
    const payload = Buffer.alloc(lengthBytes, below(random, 256));
    if (!isExtended) return request({ ...fields, payload });
    return extendedRequest({ ...fields, flags: chance(random, 0.9) ? flags | 32 : flags, payload });
  }
  if (!isExtended) return request({ ...fields, length: lengthBytes });
  const hasPayload = (flags & 32) !== 0;
  return extendedRequest({
    ...fields,
    ...(hasPayload ? { payload: Buffer.alloc(lengthBytes) } : { length: lengthBytes }),
  });
}
