/**
 * Whole conversations in chunks, structured or extended, against a reference model written from the protocol alone:
 * whatever is asked, in whatever pieces it comes, each request has one well-formed reply, and it is the right one.
 */
import fc from "fast-check";
import { expect, it } from "vitest";
import { BufferPool } from "../../src/nbd/buffer-pool.js";
import { Connection } from "../../src/nbd/connection.js";
import { defaultLimits, type NbdLimits } from "../../src/nbd/limits.js";
import { silentLogger } from "../../src/nbd/logger.js";
import { SlotNotes } from "../../src/nbd/slot-notes.js";
import { FakeSocket } from "./support/fake-socket.js";
import { MemoryTarget } from "./support/memory-target.js";
import { cmd, errno, extendedRequest, infoRequest, metaQuery, option, request, u32 } from "./support/wire.js";

const KiB = 1024;
const sizeBytes = 512 * KiB;
const holes = [
  { offsetBytes: 64 * KiB, lengthBytes: 100 * KiB },
  { offsetBytes: 300 * KiB, lengthBytes: 4 * KiB },
  { offsetBytes: 400 * KiB, lengthBytes: 112 * KiB },
];

interface Asked {
  type: number;
  flags: number;
  offset: bigint;
  length: number;
}

function newTarget(): MemoryTarget {
  const target = new MemoryTarget({ sizeBytes, isReadOnly: true });
  target.bytes.fill("held");
  for (const { offsetBytes, lengthBytes } of holes)
    target.bytes.fill(0, offsetBytes, offsetBytes + lengthBytes);
  target.holes = holes;
  return target;
}

/** Opens the export, says `wire` cut at `places`, and takes leave; returns what the server said from the first reply on. */
async function converse(
  target: MemoryTarget,
  isExtended: boolean,
  wire: Buffer[],
  places: number[],
  changedLimits: Partial<NbdLimits>,
): Promise<{ said: Buffer; pool: BufferPool }> {
  const limits = { ...defaultLimits, ...changedLimits };
  const pool = new BufferPool(limits.payloadBytes);
  const socket = new FakeSocket();
  const notes = new SlotNotes(target.requests.capacity);
  new Connection({
    socket,
    number: 0,
    exports: [{ name: "", target }],
    tls: null,
    limits,
    pool,
    notesOf: () => notes,
    logger: silentLogger,
    onClose: () => undefined,
  });
  const opening = [
    u32(3),
    option(isExtended ? 11 : 8),
    option(10, metaQuery("", ["base:allocation"])),
    option(7, infoRequest("")),
  ];
  const end = isExtended ? extendedRequest({ type: cmd.disc }) : request({ type: cmd.disc });
  const bytes = Buffer.concat([...opening, ...wire, end]);
  const cuts = [0, ...places.map((place) => place % bytes.length), bytes.length].sort((a, b) => a - b);
  const pieces = cuts.slice(1).map((to, i) => bytes.subarray(cuts[i], to));
  const said = await socket.converse(pieces.filter((piece) => piece.length > 0));
  // Greeting; replies to options 8 or 11, 10 (two), 7 (two).
  const preambleBytes = 18 + 20 + (20 + 4 + 15) + 20 + (20 + 12) + 20;
  return { said: said.subarray(preambleBytes), pool };
}

/** The error the protocol demands on a read-only export. */
function expectedError({ type, flags, offset, length }: Asked, isExtended: boolean): number {
  const allowed = { [cmd.read]: 1 | 4, [cmd.zeroes]: 1 | 2 | 16, [cmd.status]: 1 | 8 }[type] ?? 1;
  const isKnown = [cmd.read, cmd.write, cmd.flush, cmd.trim, cmd.cache, cmd.zeroes, cmd.status].includes(
    type,
  );
  const withPayload = isExtended && type === cmd.write ? 32 : 0;
  if (!isKnown || (flags & ~(allowed | withPayload)) !== 0) return errno.EINVAL;
  if (type === cmd.flush) return 0;
  if (type === cmd.write && isExtended && (flags & 32) === 0) return errno.EINVAL;
  if ([cmd.write, cmd.trim, cmd.zeroes].includes(type)) return errno.EPERM;
  if (type === cmd.status && length === 0) return errno.EINVAL;
  return offset + BigInt(length) > BigInt(sizeBytes) ? errno.EINVAL : 0;
}

/** The chunks of each reply, by cookie; checks all that holds of any chunk. */
function parseChunks(
  said: Buffer,
  isExtended: boolean,
  asked: Asked[],
): Map<number, { type: number; body: Buffer }[]> {
  const replies = new Map<number, { type: number; body: Buffer }[]>();
  const done = new Set<number>();
  const headerBytes = isExtended ? 32 : 20;
  for (let at = 0; at < said.length; ) {
    expect(said.readUInt32BE(at)).toBe(isExtended ? 0x6e8a278c : 0x668e33ef);
    const cookie = Number(said.readBigUInt64BE(at + 8));
    if (isExtended) expect(said.readBigUInt64BE(at + 16)).toBe(asked[cookie].offset);
    const bodyBytes = isExtended ? Number(said.readBigUInt64BE(at + 24)) : said.readUInt32BE(at + 16);
    expect(done.has(cookie)).toBe(false);
    if ((said.readUInt16BE(at + 4) & 1) === 1) done.add(cookie);
    const chunks = replies.get(cookie) ?? [];
    const body = said.subarray(at + headerBytes, at + headerBytes + bodyBytes);
    expect(body).toHaveLength(bodyBytes);
    chunks.push({ type: said.readUInt16BE(at + 6), body });
    replies.set(cookie, chunks);
    at += headerBytes + bodyBytes;
  }
  expect(done.size).toBe(asked.length);
  return replies;
}

function checkRead(
  chunks: { type: number; body: Buffer }[],
  { offset, length, flags }: Asked,
  bytes: Buffer,
): void {
  const got = Buffer.alloc(length, "?");
  let covered = 0;
  for (const { type, body } of chunks) {
    const from = Number(body.readBigUInt64BE(0) - offset);
    // In order and without gaps, which is more than the protocol asks for.
    expect(from).toBe(covered);
    const pieceBytes = type === 2 ? body.readUInt32BE(8) : body.length - 8;
    if (type === 2) got.fill(0, from, from + pieceBytes);
    else body.copy(got, from, 8);
    covered += pieceBytes;
  }
  if ((flags & 4) !== 0) expect(chunks).toHaveLength(1);
  expect(covered).toBe(length);
  expect(got.equals(bytes.subarray(Number(offset), Number(offset) + length))).toBe(true);
}

function checkStatus(chunk: { type: number; body: Buffer }, { offset, length, flags }: Asked): void {
  let at = Number(offset);
  let runs = 0;
  const isWide = chunk.type === 6;
  for (let i = isWide ? 8 : 4; i < chunk.body.length; i += isWide ? 16 : 8, runs++) {
    const runBytes = isWide ? Number(chunk.body.readBigUInt64BE(i)) : chunk.body.readUInt32BE(i);
    const state = isWide ? Number(chunk.body.readBigUInt64BE(i + 8)) : chunk.body.readUInt32BE(i + 4);
    const around = holes.find((hole) => at >= hole.offsetBytes && at < hole.offsetBytes + hole.lengthBytes);
    expect(state).toBe(around === undefined ? 0 : 3);
    at += runBytes;
  }
  expect(runs).toBeGreaterThan(0);
  if ((flags & 8) !== 0) expect(runs).toBe(1);
  else expect(at).toBe(Number(offset) + length);
}

const anyRequest = fc.record({
  type: fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom(0, 0, 7, 7, 1, 3, 4, 5, 6) },
    fc.integer({ min: 3, max: 65535 }),
  ),
  flags: fc.oneof({ weight: 3, arbitrary: fc.constantFrom(0, 0, 1, 4, 8, 32) }, fc.nat(63)),
  offset: fc.oneof({ weight: 5, arbitrary: fc.bigInt(0n, BigInt(sizeBytes)) }, fc.bigInt(0n, 2n ** 64n - 1n)),
  length: fc.oneof(fc.nat(2 * KiB), fc.nat(300 * KiB)),
});

it.each([false, true])(
  "any conversation agrees with the reference model (extended headers: %s)",
  async (isExtended) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(anyRequest, { minLength: 1, maxLength: 12 }),
        fc.array(fc.nat(), { maxLength: 8 }),
        fc.integer({ min: 1, max: 400_000 }),
        async (asked, places, queuedReplyBytes) => {
          const target = newTarget();
          const wire = asked.map(({ type, flags, offset, length }, index) => {
            const cookie = BigInt(index);
            const hasPayload = isExtended ? (flags & 32) !== 0 : type === cmd.write;
            const payload = hasPayload ? { payload: Buffer.alloc(length) } : {};
            const fields = { type, flags, offset, length, cookie, ...payload };
            return isExtended ? extendedRequest(fields) : request(fields);
          });
          const { said, pool } = await converse(target, isExtended, wire, places, { queuedReplyBytes });
          const replies = parseChunks(said, isExtended, asked);
          for (const [index, one] of asked.entries()) {
            const chunks = replies.get(index)!;
            const error = expectedError(one, isExtended);
            if (error !== 0) {
              expect(chunks).toHaveLength(1);
              expect([chunks[0].type, chunks[0].body.readUInt32BE(0)]).toEqual([0x8001, error]);
            } else if (one.type === cmd.read && one.length > 0) checkRead(chunks, one, target.bytes);
            else if (one.type === cmd.status) checkStatus(chunks[0], one);
            else expect(chunks).toEqual([{ type: 0, body: Buffer.alloc(0) }]);
          }
          expect(target.requests.inFlight).toBe(0);
          expect(pool.usedBytes).toBe(0);
        },
      ),
      { numRuns: 300, seed: 4 },
    );
  },
);

interface Change {
  type: number;
  flags: number;
  offset: bigint;
  /** Of a write the payload's, filled with `byte`. */
  length: number;
  byte: number;
}

/** A write is nearly always told with its payload, as extended headers demand. */
const anyChange: fc.Arbitrary<Change> = fc.record({
  type: fc.constantFrom(cmd.write, cmd.write, cmd.trim, cmd.zeroes, cmd.flush, cmd.cache),
  flags: fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(0, 0, 1, 2, 16) },
    { weight: 1, arbitrary: fc.nat(127) },
  ),
  offset: fc.oneof(
    { weight: 8, arbitrary: fc.bigInt(0n, BigInt(sizeBytes)) },
    fc.constantFrom(2n ** 64n - 1n, 2n ** 53n, 2n ** 32n),
  ),
  length: fc.oneof(fc.nat(2 * KiB), fc.nat(200 * KiB)),
  byte: fc.integer({ min: 1, max: 255 }),
});

/** The error the protocol demands on a writable export, where zeroing is as fast as a client may ask for. */
function expectedErrorOfChange({ type, flags, offset, length }: Change, isExtended: boolean): number {
  const allowed = { [cmd.zeroes]: 1 | 2 | 16, [cmd.write]: isExtended ? 1 | 32 : 1 }[type] ?? 1;
  if ((flags & ~allowed) !== 0) return errno.EINVAL;
  if (type === cmd.flush) return 0;
  if (type === cmd.write && isExtended && (flags & 32) === 0) return errno.EINVAL;
  if (offset + BigInt(length) > BigInt(sizeBytes)) {
    return type === cmd.write || type === cmd.zeroes ? errno.ENOSPC : errno.EINVAL;
  }
  return (flags & 16) !== 0 && (flags & 2) !== 0 ? errno.ENOTSUP : 0;
}

it.each([false, true])(
  "changes of any kind leave the bytes the reference model has (extended headers: %s)",
  async (isExtended) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(anyChange, fc.nat(9)), { minLength: 1, maxLength: 12 }),
        fc.array(fc.nat(), { maxLength: 8 }),
        fc.record({
          requestsPerConnection: fc.integer({ min: 1, max: 8 }),
          queuedReplyBytes: fc.integer({ min: 1, max: 10_000 }),
          payloadBytes: fc.integer({ min: 1, max: 300_000 }),
        }),
        async (drawn, places, limits) => {
          const asked = drawn.map(([change, sloppiness]) => {
            const isProper = isExtended && change.type === cmd.write && sloppiness > 0;
            return isProper ? { ...change, flags: change.flags | 32 } : change;
          });
          const target = new MemoryTarget({ sizeBytes, canZeroFast: true });
          target.bytes.fill("held");
          const memory = Buffer.from(target.bytes);
          const wire = asked.map(({ type, flags, offset, length, byte }, index) => {
            const hasPayload = isExtended ? (flags & 32) !== 0 : type === cmd.write;
            const payload = hasPayload ? { payload: Buffer.alloc(length, byte) } : {};
            const fields = { type, flags, offset, length, cookie: BigInt(index), ...payload };
            return isExtended ? extendedRequest(fields) : request(fields);
          });
          const { said, pool } = await converse(target, isExtended, wire, places, limits);
          const replies = parseChunks(said, isExtended, asked);
          for (const [index, one] of asked.entries()) {
            const [{ type, body }, ...more] = replies.get(index)!;
            expect(more).toEqual([]);
            const error = expectedErrorOfChange(one, isExtended);
            expect(type === 0 ? 0 : body.readUInt32BE(0)).toBe(error);
            const changes = one.type === cmd.write || one.type === cmd.trim || one.type === cmd.zeroes;
            if (error !== 0 || !changes) continue;
            const from = Number(one.offset);
            memory.fill(one.type === cmd.write ? one.byte : 0, from, from + one.length);
          }
          expect(target.bytes.equals(memory)).toBe(true);
          expect(target.requests.inFlight).toBe(0);
          expect(pool.usedBytes).toBe(0);
        },
      ),
      { numRuns: 300, seed: 5 },
    );
  },
);
