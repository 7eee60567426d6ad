/** Structured replies and extended headers: what comes in chunks, and the maps only they can carry. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Op } from "../../src/base/request.js";
import { Status } from "../../src/base/status.js";
import { MemoryTarget, type MemoryTargetOptions } from "./support/memory-target.js";
import { type Chunk, Prober } from "./support/prober.js";
import { serve } from "./support/serving.js";
import {
  cmd,
  errno,
  extendedRequest,
  infoRequest,
  metaQuery,
  option,
  request,
  u16,
  u32,
  u64,
} from "./support/wire.js";

const KiB = 1024;
const MiB = 1024 * KiB;
const chunk = { none: 0, data: 1, hole: 2, status: 5, statusExtended: 6, error: 0x8001, errorOffset: 0x8002 };

async function open(
  options: MemoryTargetOptions & { isEnforced?: boolean } = {},
  client: Parameters<typeof Prober.openChunked>[1] = {},
) {
  const target = new MemoryTarget(options);
  const { path } = await serve({
    exports: [{ name: "", target, isBlockSizeEnforced: options.isEnforced ?? false }],
  });
  return { target, path, prober: await Prober.openChunked(path, client) };
}

/** Extents of a chunk of type 5 or 6, after checking that its lengths fit together. */
function extentsOf({ type, body }: Chunk): { context: number; runs: [length: number, flags: number][] } {
  const runs: [number, number][] = [];
  if (type === chunk.statusExtended) {
    expect(body.readUInt32BE(4) * 16).toBe(body.length - 8);
    for (let at = 8; at < body.length; at += 16) {
      runs.push([Number(body.readBigUInt64BE(at)), Number(body.readBigUInt64BE(at + 8))]);
    }
  } else {
    expect(type).toBe(chunk.status);
    for (let at = 4; at < body.length; at += 8) runs.push([body.readUInt32BE(at), body.readUInt32BE(at + 4)]);
  }
  return { context: body.readUInt32BE(0), runs };
}

describe("negotiating", () => {
  it.each([8, 11])("option %i with data is invalid", async (type) => {
    const { path } = await open();
    const prober = await Prober.greet(path, 3);
    prober.send(option(type, Buffer.from("x")));
    expect((await prober.readOptionReply()).type).toBe(0x80000003);
  });

  it("structured replies after extended headers says that those are in force, and repeats are fine", async () => {
    const { path } = await open();
    const prober = await Prober.greet(path, 3);
    const answers: number[] = [];
    for (const type of [8, 8, 11, 11, 8]) {
      prober.send(option(type));
      answers.push((await prober.readOptionReply()).type);
    }
    expect(answers).toEqual([1, 1, 1, 1, 0x8000000a]);
  });

  it("the DF flag depends on it", async () => {
    const { path } = await open();
    const prober = await Prober.greet(path, 3);
    const flagsOf = async () => {
      prober.send(option(6, infoRequest("")));
      const flags = (await prober.readOptionReply()).data.readUInt16BE(10);
      await prober.readOptionReply();
      return flags & 0x80;
    };
    expect(await flagsOf()).toBe(0);
    prober.send(option(8));
    await prober.readOptionReply();
    expect(await flagsOf()).toBe(0x80);
  });

  it("EXPORT_NAME may not follow extended headers", async () => {
    const { path } = await open();
    const prober = await Prober.greet(path, 3);
    prober.send(option(11));
    await prober.readOptionReply();
    prober.send(option(1));
    expect(await prober.readEnd()).toHaveLength(0);
  });

  it("contexts are listed by name, namespace or all, with no number", async () => {
    const { path } = await open();
    const prober = await Prober.greet(path, 3);
    const list = async (queries: string[]) => {
      prober.send(option(9, metaQuery("", queries)));
      const names: string[] = [];
      for (
        let reply = await prober.readOptionReply();
        reply.type !== 1;
        reply = await prober.readOptionReply()
      ) {
        expect([reply.type, reply.data.readUInt32BE(0)]).toEqual([4, 0]);
        names.push(reply.data.toString("utf8", 4));
      }
      return names;
    };
    expect(await list([])).toEqual(["base:allocation", "x-blkforge:fault"]);
    expect(await list(["base:"])).toEqual(["base:allocation"]);
    expect(await list(["x-blkforge:", "qemu:", "base:nonsense"])).toEqual(["x-blkforge:fault"]);
  });

  it("contexts are chosen by their full names, under numbers of their own", async () => {
    const { path } = await open();
    const prober = await Prober.greet(path, 3);
    prober.send(option(8));
    await prober.readOptionReply();
    prober.send(
      option(10, metaQuery("", ["base:", "base:allocation", "x-blkforge:fault", "base:allocation"])),
    );
    const first = (await prober.readOptionReply()).data.readUInt32BE(0);
    expect((await prober.readOptionReply()).data.readUInt32BE(0)).not.toBe(first);
    expect((await prober.readOptionReply()).type).toBe(1);
  });

  it.each([
    ["before chunked replies", false, metaQuery("", ["base:allocation"]), 0x80000003],
    ["with a name that reaches past the end", true, Buffer.concat([u32(9), u32(0)]), 0x80000003],
    [
      "with fewer queries than counted",
      true,
      Buffer.concat([u32(0), u32(2), u32(1), Buffer.from("b")]),
      0x80000003,
    ],
    ["with 4 billion queries", true, Buffer.concat([u32(0), u32(0xffffffff)]), 0x80000003],
    ["with bytes left over", true, Buffer.concat([metaQuery("", []), Buffer.from("x")]), 0x80000003],
    ["with nothing", true, Buffer.alloc(0), 0x80000003],
    ["for an unknown export", true, metaQuery("other", ["base:allocation"]), 0x80000006],
  ])("a choice of contexts %s fails, and clears the one before", async (_, isChunked, data, error) => {
    const { path } = await open();
    const prober = await Prober.greet(path, 3);
    if (isChunked) {
      prober.send(option(8), option(10, metaQuery("", ["base:allocation"])));
      for (let i = 0; i < 3; i++) await prober.readOptionReply();
    }
    prober.send(option(10, data));
    expect((await prober.readOptionReply()).type).toBe(error);
    if (!isChunked) return;
    prober.send(option(7, infoRequest("")));
    while ((await prober.readOptionReply()).type !== 1);
    prober.request({ type: cmd.status, length: 512 });
    expect((await prober.readChunk()).body.readUInt32BE(0)).toBe(errno.EINVAL);
  });

  it("contexts chosen for one name do not hold for another", async () => {
    const targets = ["a", "b"].map((name) => ({ name, target: new MemoryTarget() }));
    const { path } = await serve({ exports: targets });
    const prober = await Prober.greet(path, 3);
    prober.send(option(8), option(10, metaQuery("a", ["base:allocation"])), option(7, infoRequest("b")));
    for (let i = 0; i < 5; i++) await prober.readOptionReply();
    prober.request({ type: cmd.status, length: 512 });
    expect((await prober.readChunk()).body.readUInt32BE(0)).toBe(errno.EINVAL);
  });
});

describe.each([false, true])("with extended headers: %s,", (isExtended) => {
  const ask = isExtended ? extendedRequest : request;
  const offsetField = (offset: bigint) => (isExtended ? { offset } : {});

  it("a read is one chunk of data, an empty success a chunk of nothing", async () => {
    const { prober, target } = await open({}, { isExtended });
    target.bytes.write("forged", 1000);
    prober.send(ask({ type: cmd.read, cookie: 5n, offset: 1000, length: 6 }));
    const body = Buffer.concat([u64(1000), Buffer.from("forged")]);
    expect(await prober.readChunks()).toEqual([
      { isDone: true, type: chunk.data, cookie: 5n, body, ...offsetField(1000n) },
    ]);
    prober.send(ask({ type: cmd.flush, cookie: 6n }));
    expect(await prober.readChunks()).toEqual([
      { isDone: true, type: chunk.none, cookie: 6n, body: Buffer.alloc(0), ...offsetField(0n) },
    ]);
  });

  it.each([
    ["READ past the end", { type: cmd.read, offset: MiB, length: 1 }, errno.EINVAL],
    ["READ at 2^64 - 1", { type: cmd.read, offset: 2n ** 64n - 1n, length: 2 }, errno.EINVAL],
    ["WRITE past the end", { type: cmd.write, offset: MiB, payload: Buffer.alloc(70_000) }, errno.ENOSPC],
    ["an unknown command", { type: 99, offset: 2n ** 60n, length: 1 }, errno.EINVAL],
    ["BLOCK_STATUS without contexts", { type: cmd.status, length: 1 }, errno.EINVAL],
    ["CACHE of 33 MiB", { type: cmd.cache, length: 33 * MiB }, errno.EOVERFLOW],
    ["FAST_ZERO", { type: cmd.zeroes, flags: 16, length: 1 }, errno.ENOTSUP],
  ])("%s is refused by a chunk, early as it is", async (_, fields, error) => {
    const { prober, target } = await open(
      { sizeBytes: fields.type === cmd.cache ? 64 * MiB : MiB },
      { isExtended },
    );
    prober.send(ask({ ...fields, cookie: 3n }));
    const offset = BigInt("offset" in fields ? fields.offset : 0);
    expect(await prober.readChunks()).toEqual([
      {
        isDone: true,
        type: chunk.error,
        cookie: 3n,
        body: Buffer.concat([u32(error), u16(0)]),
        ...offsetField(offset),
      },
    ]);
    expect(target.seen).toHaveLength(0);
    prober.send(ask({ type: cmd.flush }));
    expect((await prober.readChunk()).type).toBe(chunk.none);
  });

  it("long holes are told, short ones sent as zeros, and DF has everything in one piece", async () => {
    const { prober, target } = await open({}, { isExtended });
    target.bytes.fill(7);
    target.holes = [
      { offsetBytes: 100 * KiB, lengthBytes: 100 * KiB },
      { offsetBytes: 300 * KiB, lengthBytes: 4 * KiB },
      { offsetBytes: 500 * KiB, lengthBytes: 400 * KiB },
    ];
    for (const { offsetBytes, lengthBytes } of target.holes) {
      target.bytes.fill(0, offsetBytes, offsetBytes + lengthBytes);
    }
    prober.send(ask({ type: cmd.read, offset: 4 * KiB, length: 800 * KiB }));
    const chunks = await prober.readChunks();
    expect(chunks.map(({ type }) => type)).toEqual([chunk.data, chunk.hole, chunk.data, chunk.hole]);
    const got = Buffer.alloc(800 * KiB, 255);
    for (const { type, body } of chunks) {
      const at = Number(body.readBigUInt64BE(0)) - 4 * KiB;
      if (type === chunk.hole) got.fill(0, at, at + body.readUInt32BE(8));
      else body.copy(got, at, 8);
    }
    expect(got.equals(target.bytes.subarray(4 * KiB, 804 * KiB))).toBe(true);
    prober.send(ask({ type: cmd.read, flags: 4, offset: 4 * KiB, length: 800 * KiB }));
    const [whole, ...rest] = await prober.readChunks();
    expect(rest).toEqual([]);
    expect(whole.body.subarray(8).equals(got)).toBe(true);
  });

  it("a latent sector leaves what lies before it good", async () => {
    const { prober, target } = await open({}, { isExtended });
    target.bytes.fill("good");
    target.failWith = Status.medium;
    target.errorAtBytes = 6144;
    for (const flags of [0, 4]) {
      prober.send(ask({ type: cmd.read, flags, offset: 4096, length: 8192 }));
      const [data, error] = await prober.readChunks();
      expect(data).toMatchObject({ type: chunk.data, isDone: false });
      expect(data.body).toEqual(Buffer.concat([u64(4096), target.bytes.subarray(4096, 6144)]));
      expect(error).toMatchObject({ type: chunk.errorOffset, isDone: true });
      expect(error.body).toEqual(Buffer.concat([u32(errno.EIO), u16(0), u64(6144)]));
    }
    target.errorAtBytes = 4096;
    prober.send(ask({ type: cmd.read, offset: 4096, length: 8192 }));
    expect((await prober.readChunks()).map(({ type }) => type)).toEqual([chunk.errorOffset]);
    prober.send(ask({ type: cmd.trim, offset: 4096, length: 8192 }));
    expect((await prober.readChunks()).map(({ type }) => type)).toEqual([chunk.errorOffset]);
    target.errorAtBytes = -1;
    prober.send(ask({ type: cmd.read, offset: 4096, length: 8192 }));
    expect((await prober.readChunks()).map(({ type }) => type)).toEqual([chunk.error]);
  });

  it("of 32 MiB fits, with data before an error at its last byte", async () => {
    const { prober, target } = await open({ sizeBytes: 32 * MiB }, { isExtended });
    target.failWith = Status.medium;
    target.errorAtBytes = 32 * MiB - 1;
    prober.send(ask({ type: cmd.read, length: 32 * MiB }));
    const [data, error] = await prober.readChunks();
    expect(data.body).toHaveLength(32 * MiB - 1 + 8);
    expect(error.type).toBe(chunk.errorOffset);
  });

  it("CACHE reads and answers without data, FAST_ZERO zeroes where that is fast and may free", async () => {
    const { prober, target } = await open({ canZeroFast: true }, { isExtended });
    target.bytes.fill(1);
    prober.send(ask({ type: cmd.cache, length: 4096 }), ask({ type: cmd.zeroes, flags: 16, length: 512 }));
    expect((await prober.readChunk()).type).toBe(chunk.none);
    expect((await prober.readChunk()).type).toBe(chunk.none);
    expect(target.seen.map(({ op }) => op)).toEqual([Op.read, Op.zeroes]);
    prober.send(ask({ type: cmd.zeroes, flags: 18, offset: 512, length: 512 }));
    expect((await prober.readChunk()).body.readUInt32BE(0)).toBe(errno.ENOTSUP);
    expect([...target.bytes.subarray(511, 513)]).toEqual([0, 1]);
  });

  it("BLOCK_STATUS tells both maps, coalesced, within the range, and one run when one is asked for", async () => {
    const contexts = ["base:allocation", "x-blkforge:fault"];
    const { prober, target } = await open({}, { isExtended, contexts });
    target.holes = [
      { offsetBytes: 64 * KiB, lengthBytes: 32 * KiB },
      { offsetBytes: 96 * KiB, lengthBytes: 32 * KiB },
    ];
    target.faultRuns = [{ offsetBytes: 8192, lengthBytes: 512, opMask: 3 }];
    prober.send(ask({ type: cmd.status, offset: 4096, length: MiB - 4096 }));
    const [allocation, faults] = (await prober.readChunks()).map(extentsOf);
    expect(allocation.runs).toEqual([
      [60 * KiB, 0],
      [64 * KiB, 3],
      [896 * KiB, 0],
    ]);
    expect(faults.runs).toEqual([
      [4096, 0],
      [512, 3],
      [MiB - 8704, 0],
    ]);
    expect(faults.context).not.toBe(allocation.context);
    prober.send(ask({ type: cmd.status, flags: 8, offset: 4096, length: 8192 }));
    expect((await prober.readChunks()).map((one) => extentsOf(one).runs)).toEqual([[[8192, 0]], [[4096, 0]]]);
  });

  it("BLOCK_STATUS has a bound: the client asks on from where the answer ends", async () => {
    const { prober, target } = await open(
      { sizeBytes: 64 * MiB },
      { isExtended, contexts: ["base:allocation"] },
    );
    for (let at = 0; at < 64 * MiB; at += 8192) target.holes.push({ offsetBytes: at, lengthBytes: 4096 });
    let covered = 0;
    for (let rounds = 0; covered < 64 * MiB; rounds++) {
      expect(rounds).toBeLessThan(20);
      prober.send(ask({ type: cmd.status, offset: covered, length: 64 * MiB - covered }));
      const [answer] = (await prober.readChunks()).map(extentsOf);
      for (const [length] of answer.runs) covered += length;
    }
    expect(covered).toBe(64 * MiB);
  });

  it("BLOCK_STATUS speaks in whole blocks where the export enforces them", async () => {
    const { prober, target } = await open(
      { minimumBlockBytes: 4096, isEnforced: true },
      { isExtended, contexts: ["base:allocation", "x-blkforge:fault"], infos: [3] },
    );
    const runs = fc.array(fc.tuple(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: 9000 })), {
      maxLength: 30,
    });
    await fc.assert(
      fc.asyncProperty(
        runs,
        fc.nat(15),
        fc.integer({ min: 1, max: 64 }),
        async (gaps, firstBlock, blocks) => {
          target.holes = [];
          target.faultRuns = [];
          let at = 0;
          for (const [gap, lengthBytes] of gaps) {
            target.holes.push({ offsetBytes: at + gap, lengthBytes });
            target.faultRuns.push({ offsetBytes: at + gap, lengthBytes, opMask: 1 });
            at += gap + lengthBytes;
          }
          const offset = firstBlock * 4096;
          prober.send(ask({ type: cmd.status, offset, length: blocks * 4096 }));
          const [allocation, faults] = (await prober.readChunks()).map((one) => extentsOf(one).runs);
          for (const [isHeldSafe, answer] of [
            [true, allocation],
            [false, faults],
          ] as const) {
            let block = firstBlock;
            for (const [i, [length, flags]] of answer.entries()) {
              expect(length % 4096).toBe(0);
              if (i > 0) expect(flags).not.toBe(answer[i - 1][1]);
              for (const end = block + length / 4096; block < end; block++) {
                const covered = target.holes.reduce((sum, hole) => {
                  const from = Math.max(hole.offsetBytes, block * 4096);
                  const to = Math.min(hole.offsetBytes + hole.lengthBytes, (block + 1) * 4096);
                  return sum + Math.max(0, to - from);
                }, 0);
                expect(flags !== 0).toBe(isHeldSafe ? covered === 4096 : covered > 0);
              }
            }
            expect(block).toBe(firstBlock + blocks);
          }
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe("extended headers", () => {
  it("carry lengths beyond 32 bits", async () => {
    const sizeBytes = 2 ** 50;
    const { prober, target } = await open(
      { sizeBytes, mode: "manual" },
      { isExtended: true, contexts: ["base:allocation"] },
    );
    target.holes = [{ offsetBytes: 2 ** 41, lengthBytes: 2 ** 42 }];
    prober.send(extendedRequest({ type: cmd.status, length: BigInt(sizeBytes) }));
    expect(extentsOf(await prober.readChunk()).runs).toEqual([
      [2 ** 41, 0],
      [2 ** 42, 3],
      [2 ** 50 - 2 ** 42 - 2 ** 41, 0],
    ]);
    prober.send(
      extendedRequest({ type: cmd.trim, offset: 512, length: 2n ** 49n }),
      extendedRequest({ type: cmd.trim, cookie: 9n, offset: 512, length: 2n ** 64n - 1n }),
    );
    expect(await prober.readChunk()).toMatchObject({ type: chunk.error, cookie: 9n });
    expect(target.seen).toMatchObject([{ op: Op.trim, lengthBytes: 2 ** 49 }]);
  });

  it("demand PAYLOAD_LEN on writes and nowhere else, and stay in step either way", async () => {
    const { prober, target } = await open({}, { isExtended: true });
    const payload = Buffer.alloc(70_000, 7);
    prober.send(
      extendedRequest({ type: cmd.write, flags: 0, cookie: 1n, length: 512 }),
      extendedRequest({ type: cmd.read, flags: 32, cookie: 2n, payload }),
      extendedRequest({ type: cmd.status, flags: 32, cookie: 3n, payload: Buffer.alloc(12) }),
      extendedRequest({ type: cmd.write, flags: 33, cookie: 4n, payload }),
    );
    const answers: unknown[] = [];
    for (let i = 0; i < 4; i++) {
      const { cookie, type, body } = await prober.readChunk();
      answers.push([cookie, type === chunk.none ? 0 : body.readUInt32BE(0)]);
    }
    expect(answers).toEqual([
      [1n, errno.EINVAL],
      [2n, errno.EINVAL],
      [3n, errno.EINVAL],
      [4n, 0],
    ]);
    expect(target.bytes.subarray(0, payload.length).equals(payload)).toBe(true);
  });

  it("refuse the compact request magic", async () => {
    const { prober } = await open({}, { isExtended: true });
    prober.send(request({ type: cmd.flush }), Buffer.alloc(4));
    expect(await prober.readEnd()).toHaveLength(0);
  });
});
