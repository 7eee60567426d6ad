/**
 * Whole conversations against a reference model written from the protocol alone: cut anywhere, valid or not, the
 * server must say the same.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BufferPool } from "../../src/nbd/buffer-pool.js";
import { Connection } from "../../src/nbd/connection.js";
import { defaultLimits, type NbdLimits } from "../../src/nbd/limits.js";
import { silentLogger } from "../../src/nbd/logger.js";
import { SlotNotes } from "../../src/nbd/slot-notes.js";
import { FakeSocket } from "./support/fake-socket.js";
import { MemoryTarget, type MemoryTargetOptions } from "./support/memory-target.js";
import {
  cmd,
  errno,
  infoRequest,
  option,
  type RequestFields,
  request,
  u16,
  u32,
  u64,
} from "./support/wire.js";

const sizeBytes = 4096;
const opening = Buffer.concat([u32(3), option(99, Buffer.from("?")), option(7, infoRequest("", [3]))]);

/** What the server says until transmission begins: learnt once, and checked against the protocol in other tests. */
async function converse(
  pieces: Buffer[],
  options: MemoryTargetOptions = {},
  limits: Partial<NbdLimits> = {},
): Promise<{ said: Buffer; target: MemoryTarget; pool: BufferPool }> {
  const target = new MemoryTarget({ sizeBytes, ...options });
  target.bytes.fill("the upper half is only read; ");
  const all = { ...defaultLimits, ...limits };
  const pool = new BufferPool(all.payloadBytes);
  const socket = new FakeSocket();
  const notes = new SlotNotes(target.requests.capacity);
  new Connection({
    socket,
    number: 0,
    exports: [{ name: "", target }],
    tls: null,
    limits: all,
    pool,
    notesOf: () => notes,
    logger: silentLogger,
    onClose: () => undefined,
  });
  const said = await socket.converse(pieces);
  return { said, target, pool };
}

/** Cuts `bytes` at the given places. */
function cut(bytes: Buffer, places: number[]): Buffer[] {
  const sorted = [0, ...new Set(places.map((place) => place % bytes.length)), bytes.length].sort(
    (a, b) => a - b,
  );
  return sorted
    .slice(1)
    .map((end, i) => bytes.subarray(sorted[i], end))
    .filter((piece) => piece.length > 0);
}

interface Expected {
  error: number;
  cookie: bigint;
  /** Length of the read that succeeds. */
  readFrom: number;
  readBytes: number;
}

/** The reference: what the protocol demands of a writable export of `sizeBytes`, without a block size to enforce. */
function expectedReply({
  type,
  flags = 0,
  cookie = 0n,
  offset = 0,
  length,
  payload,
}: RequestFields): Expected {
  const lengthBytes = BigInt(length ?? payload?.length ?? 0);
  const end = BigInt(offset) + lengthBytes;
  const isBeyond = end > BigInt(sizeBytes);
  const allowedFlags = type === cmd.zeroes ? 3 | 16 : 1;
  let error = 0;
  if (![cmd.read, cmd.write, cmd.flush, cmd.trim, cmd.cache, cmd.zeroes].includes(type)) error = errno.EINVAL;
  else if ((flags & ~allowedFlags) !== 0) error = errno.EINVAL;
  else if (type === cmd.read && lengthBytes > 32n << 20n) error = errno.EINVAL;
  else if (type !== cmd.flush && isBeyond) {
    error = type === cmd.write || type === cmd.zeroes ? errno.ENOSPC : errno.EINVAL;
  } else if (type === cmd.zeroes && (flags & 16) !== 0) error = errno.ENOTSUP;
  const isRead = type === cmd.read && error === 0;
  return { error, cookie, readFrom: Number(offset), readBytes: isRead ? Number(lengthBytes) : 0 };
}

/** Replies to any order of completion, keyed by their cookie; `reads` tells how much payload each may have. */
function parseReplies(
  said: Buffer,
  reads: Map<bigint, number>,
): Map<bigint, { error: number; payload: Buffer }> {
  const replies = new Map<bigint, { error: number; payload: Buffer }>();
  for (let at = 0; at < said.length; ) {
    expect(said.readUInt32BE(at)).toBe(0x67446698);
    const error = said.readUInt32BE(at + 4);
    const cookie = said.readBigUInt64BE(at + 8);
    const payloadBytes = error === 0 ? (reads.get(cookie) ?? 0) : 0;
    expect(replies.has(cookie)).toBe(false);
    replies.set(cookie, { error, payload: said.subarray(at + 16, at + 16 + payloadBytes) });
    at += 16 + payloadBytes;
  }
  return replies;
}

const offset = fc.oneof(
  { weight: 6, arbitrary: fc.bigInt(0n, BigInt(sizeBytes)) },
  fc.bigInt(0n, 2n ** 64n - 1n),
  fc.constantFrom(2n ** 64n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 32n, 2n ** 32n - 1n),
);
const flags = fc.oneof({ weight: 6, arbitrary: fc.constantFrom(0, 1) }, fc.integer({ min: 0, max: 65535 }));
const length = fc.oneof({ weight: 6, arbitrary: fc.nat(2048) }, fc.integer({ min: 0, max: 0xffffffff }));
/** Reads keep to the upper half and changes to the lower one, so the order of completion makes no difference. */
const anyRequest: fc.Arbitrary<RequestFields> = fc.oneof(
  fc.record({ type: fc.constant(cmd.read), flags, offset: offset.map((at) => at | 2048n), length }),
  fc
    .record({ type: fc.constant(cmd.write), flags, offset, payload: fc.uint8Array({ maxLength: 3000 }) })
    .map(({ payload, ...rest }) => ({ ...rest, payload: Buffer.from(payload) })),
  fc.record({ type: fc.constantFrom(cmd.trim, cmd.zeroes), flags, offset, length }),
  fc.record({ type: fc.constant(cmd.flush), flags }),
  fc.record({
    type: fc.integer({ min: 5, max: 65535 }).filter((type) => type !== cmd.zeroes),
    flags,
    offset,
    length,
  }),
);

describe("a conversation", () => {
  const short = Buffer.concat([
    opening,
    request({ type: cmd.write, cookie: 1n, offset: 100, payload: Buffer.from("across the cut") }),
    request({ type: cmd.write, cookie: 2n, offset: 4090, payload: Buffer.from("refused") }),
    request({ type: 77, cookie: 3n }),
    request({ type: cmd.read, cookie: 4n, offset: 3000, length: 5 }),
    request({ type: cmd.disc }),
  ]);

  /** The preamble, then the replies in the order of their cookies: errors found early may overtake completions. */
  function sorted(said: Buffer, preambleBytes: number): unknown {
    const replies = parseReplies(said.subarray(preambleBytes), new Map([[4n, 5]]));
    return [said.subarray(0, preambleBytes), [...replies].sort(([a], [b]) => Number(a - b))];
  }

  it("is the same wherever it is cut in two, and byte by byte", async () => {
    const preambleBytes = (await converse([opening])).said.length;
    const said = sorted((await converse([short])).said, preambleBytes);
    for (let place = 1; place < short.length; place++) {
      const again = await converse(cut(short, [place]));
      expect(sorted(again.said, preambleBytes), `cut at byte ${place}`).toEqual(said);
      expect(again.target.bytes.toString("latin1", 100, 114)).toBe("across the cut");
    }
    const single = await converse(Array.from(short, (byte) => Buffer.from([byte])));
    expect(sorted(single.said, preambleBytes)).toEqual(said);
  });

  it("may end anywhere: nothing is left in flight, and no memory lent", async () => {
    for (let end = 0; end < short.length; end++) {
      const { target, pool } = await converse([short.subarray(0, end)]);
      expect(target.requests.inFlight).toBe(0);
      expect(pool.usedBytes).toBe(0);
    }
  });

  it("of any requests, cut anywhere, under any limits, agrees with the reference model", async () => {
    const preamble = (await converse([opening])).said.length;
    await fc.assert(
      fc.asyncProperty(
        fc.array(anyRequest, { minLength: 1, maxLength: 20 }),
        fc.array(fc.nat(), { maxLength: 12 }),
        fc.record({
          capacity: fc.integer({ min: 1, max: 8 }),
          requestsPerConnection: fc.integer({ min: 1, max: 8 }),
          queuedReplyBytes: fc.integer({ min: 1, max: 100_000 }),
          payloadBytes: fc.integer({ min: 1, max: 200_000 }),
        }),
        async (bodies, places, { capacity, ...limits }) => {
          const requests = bodies.map((fields, i) => {
            // The lower half is for changes: long ones would reach into what is read.
            const isChange =
              fields.type === cmd.trim || fields.type === cmd.zeroes || fields.type === cmd.write;
            const at = BigInt(fields.offset ?? 0);
            const bytes = fields.payload?.length ?? fields.length ?? 0;
            const reachesUp = isChange && at + BigInt(bytes) > 2048n && at <= BigInt(sizeBytes);
            return { ...fields, offset: reachesUp ? at + 4096n : at, cookie: BigInt(i) << 40n };
          });
          const bytes = Buffer.concat([opening, ...requests.map(request), request({ type: cmd.disc })]);
          const { said, target, pool } = await converse(cut(bytes, places), { capacity }, limits);

          const expected = requests.map(expectedReply);
          const reads = new Map(expected.map(({ cookie, readBytes }) => [cookie, readBytes]));
          const replies = parseReplies(said.subarray(preamble), reads);
          const untouched = Buffer.alloc(sizeBytes, "the upper half is only read; ");
          const memory = Buffer.from(untouched);
          expect(replies.size).toBe(expected.length);
          for (const [i, { error, cookie, readFrom, readBytes }] of expected.entries()) {
            const reply = replies.get(cookie)!;
            expect(reply.error).toBe(error);
            expect(reply.payload.equals(untouched.subarray(readFrom, readFrom + readBytes))).toBe(true);
            if (error !== 0) continue;
            const { type, offset: from, payload, length: lengthBytes = 0 } = requests[i];
            if (type === cmd.write) payload!.copy(memory, Number(from));
            if (type === cmd.trim || type === cmd.zeroes) {
              memory.fill(0, Number(from), Number(from) + lengthBytes);
            }
          }
          expect(target.bytes.equals(memory)).toBe(true);
          expect(target.requests.inFlight).toBe(0);
          expect(pool.usedBytes).toBe(0);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("goes on when a complete write has the memory that the reply in the only place of the table needs", async () => {
    const write = request({ type: cmd.write, cookie: 2n, offset: 4n, payload: Buffer.from("cut in two") });
    const pieces = [
      opening,
      Buffer.concat([
        request({ type: cmd.read, cookie: 1n, offset: 3000n, length: 5 }),
        write.subarray(0, 30),
      ]),
      Buffer.concat([write.subarray(30), request({ type: cmd.disc })]),
    ];
    const limits = { payloadBytes: 100_000 };
    const { said, target, pool } = await converse(pieces, { capacity: 1 }, limits);
    const { said: preamble } = await converse([opening]);
    const replies = parseReplies(said.subarray(preamble.length), new Map([[1n, 5]]));
    expect([...replies.values()].map(({ error }) => error)).toEqual([0, 0]);
    expect(target.bytes.toString("latin1", 4, 14)).toBe("cut in two");
    expect(pool.usedBytes).toBe(0);
  });

  it("of any bytes whatever ends in peace", async () => {
    const anyOption = fc
      .tuple(fc.integer({ min: 0, max: 12 }), fc.uint8Array({ maxLength: 40 }))
      .map(([type, data]) => option(type, Buffer.from(data)));
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
      anyOption,
      anyRequest.map(request),
      fc.constant(opening),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(0, 1, 2, 3, 4),
        fc.array(piece, { maxLength: 10 }),
        async (clientFlags, pieces) => {
          const { said, target, pool } = await converse([u32(clientFlags), ...pieces]);
          expect(said.subarray(0, 18)).toEqual(Buffer.concat([Buffer.from("NBDMAGICIHAVEOPT"), u16(3)]));
          expect(target.requests.inFlight).toBe(0);
          expect(pool.usedBytes).toBe(0);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("is told the size as 64 bits", async () => {
    const { said } = await converse([opening], { sizeBytes: 2 ** 53 - 512 });
    expect(said.includes(u64(2n ** 53n - 512n))).toBe(true);
  });
});
