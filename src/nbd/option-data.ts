/**
 * What options of the handshake carry: strings, and lists of them, read with every length checked.
 *
 * Source: NetworkBlockDevice/nbd, `doc/proto.md`, "Option types".
 */
import { Info, maximumStringBytes } from "./constants.js";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Data of INFO and GO: name length, name, count, that many information types, and nothing else. */
export function parseInfoRequest(data: Buffer): { name: string; infos: Set<number> } | null {
  if (data.length < 6) return null;
  const nameBytes = data.readUInt32BE(0);
  if (nameBytes > data.length - 6) return null;
  const name = decodeString(data.subarray(4, 4 + nameBytes));
  const count = data.readUInt16BE(4 + nameBytes);
  if (name === null || data.length !== 6 + nameBytes + 2 * count) return null;
  const infos = new Set<number>();
  for (let i = 0; i < count; i++) infos.add(data.readUInt16BE(6 + nameBytes + 2 * i));
  // It is always told, first and once.
  infos.delete(Info.export);
  return { name, infos };
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT: name length, name, count, that many strings, and nothing else. */
export function parseMetaQuery(data: Buffer): { name: string; queries: string[] } | null {
  let at = 0;
  const takeString = (): string | null => {
    if (data.length - at < 4) return null;
    const lengthBytes = data.readUInt32BE(at);
    at += 4;
    if (lengthBytes > data.length - at) return null;
    const text = decodeString(data.subarray(at, at + lengthBytes));
    at += lengthBytes;
    return text;
  };
  const name = takeString();
  if (name === null || data.length - at < 4) return null;
  const count = data.readUInt32BE(at);
  at += 4;
  const queries: string[] = [];
  // A count that lies ends at the first string that is not there.
  for (let i = 0; i < count; i++) {
    const query = takeString();
    if (query === null) return null;
    queries.push(query);
  }
  return at === data.length ? { name, queries } : null;
}

/** A protocol string, or null where it breaks the rules: UTF-8 without NUL, at most 4096 bytes. */
export function decodeString(bytes: Uint8Array): string | null {
  if (bytes.length > maximumStringBytes || bytes.includes(0)) return null;
  try {
    return utf8.decode(bytes);
  } catch {
    return null;
  }
}

export function encodeString(text: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length <= maximumStringBytes) return bytes;
  // Cut at a character: decoding drops what is torn at the end.
  return Buffer.from(new TextDecoder().decode(bytes.subarray(0, maximumStringBytes), { stream: true }));
}
