import { describe, expect, it } from "vitest";
import { statusNames } from "../../src/base/status.js";
import { MemoryTarget, type MemoryTargetOptions } from "./support/memory-target.js";
import { eventually, Prober } from "./support/prober.js";
import { serve } from "./support/serving.js";
import { cmd, errno, request, u32 } from "./support/wire.js";

const MiB = 1024 * 1024;

async function openOne(
  options: MemoryTargetOptions = {},
  more: { limits?: object; isEnforced?: boolean } = {},
) {
  const target = new MemoryTarget(options);
  const { path, server } = await serve({
    exports: [{ name: "", target, isBlockSizeEnforced: more.isEnforced ?? false }],
    limits: more.limits ?? {},
  });
  return { target, path, server, prober: await Prober.open(path, "", more.isEnforced ? [3] : []) };
}

describe("a request", () => {
  it("reads what was written, and zeroes read as zero", async () => {
    const { prober } = await openOne();
    const payload = Buffer.from("forged");
    expect(await prober.ask({ type: cmd.write, offset: 5, payload })).toBe(0);
    prober.request({ type: cmd.read, cookie: 0xfedcba9876543210n, offset: 4, length: 8 });
    expect(await prober.readReply(8)).toEqual({
      error: 0,
      cookie: 0xfedcba9876543210n,
      payload: Buffer.from("\0forged\0"),
    });
    expect(await prober.ask({ type: cmd.zeroes, offset: 5, length: 3 })).toBe(0);
    expect(await prober.ask({ type: cmd.trim, offset: 8, length: 1 })).toBe(0);
    prober.request({ type: cmd.read, offset: 4, length: 8 });
    expect((await prober.readReply(8)).payload.toString()).toBe("\0\0\0\0\0ed\0");
  });

  it("carries FUA on every command, and NO_HOLE on write-zeroes, to the device", async () => {
    const { prober, target } = await openOne();
    const types = [cmd.read, cmd.flush, cmd.trim, cmd.zeroes];
    for (const type of types) expect(await prober.ask({ type, flags: 1, length: 512 })).toBe(0);
    expect(await prober.ask({ type: cmd.write, flags: 1, payload: Buffer.alloc(512) })).toBe(0);
    expect(await prober.ask({ type: cmd.zeroes, flags: 3, length: 512 })).toBe(0);
    expect(target.seen.map(({ flags }) => flags)).toEqual([1, 1, 1, 1, 1, 3]);
  });

  const size = 1024 * 1024;
  const maximum = 2n ** 64n - 1n;
  it.each([
    ["READ past the end", { type: cmd.read, offset: size - 1, length: 2 }, errno.EINVAL],
    ["READ at the end of nothing", { type: cmd.read, offset: size, length: 0 }, 0],
    ["READ of length 0", { type: cmd.read, length: 0 }, 0],
    ["READ far past the end", { type: cmd.read, offset: maximum, length: 1 }, errno.EINVAL],
    ["READ whose end wraps around", { type: cmd.read, offset: maximum, length: 512 }, errno.EINVAL],
    ["READ at 2^53 + 1", { type: cmd.read, offset: 2n ** 53n + 1n, length: 1 }, errno.EINVAL],
    ["READ of 33 MiB", { type: cmd.read, length: 33 * MiB }, errno.EINVAL],
    ["READ of 65 MiB", { type: cmd.read, length: 65 * MiB }, errno.EINVAL],
    ["READ of 4 GiB", { type: cmd.read, length: 0xffffffff }, errno.EINVAL],
    ["WRITE past the end", { type: cmd.write, offset: size - 1, payload: Buffer.alloc(2) }, errno.ENOSPC],
    ["WRITE far past the end", { type: cmd.write, offset: maximum, payload: Buffer.alloc(2) }, errno.ENOSPC],
    ["WRITE of length 0", { type: cmd.write, length: 0 }, 0],
    ["WRITE of length 0 past the end", { type: cmd.write, offset: size + 1, length: 0 }, errno.ENOSPC],
    ["WRITE of 33 MiB", { type: cmd.write, payload: Buffer.alloc(33 * MiB) }, errno.EINVAL],
    ["WRITE_ZEROES past the end", { type: cmd.zeroes, offset: size, length: 1 }, errno.ENOSPC],
    ["WRITE_ZEROES of 4 GiB", { type: cmd.zeroes, length: 0xffffffff }, errno.ENOSPC],
    ["WRITE_ZEROES of length 0", { type: cmd.zeroes, length: 0 }, 0],
    ["TRIM past the end", { type: cmd.trim, offset: size, length: 1 }, errno.EINVAL],
    ["TRIM of length 0", { type: cmd.trim, length: 0 }, 0],
    ["FLUSH with an offset", { type: cmd.flush, offset: 512, length: 512 }, 0],
    ["an unknown flag", { type: cmd.read, flags: 0x8000, length: 1 }, errno.EINVAL],
    ["DF, not negotiated", { type: cmd.read, flags: 4, length: 1 }, errno.EINVAL],
    ["FAST_ZERO, where it is not fast", { type: cmd.zeroes, flags: 16, length: 1 }, errno.ENOTSUP],
    ["FAST_ZERO past the end", { type: cmd.zeroes, flags: 16, offset: size, length: 1 }, errno.ENOSPC],
    ["FAST_ZERO on a write", { type: cmd.write, flags: 16, payload: Buffer.alloc(9) }, errno.EINVAL],
    ["PAYLOAD_LEN, not negotiated", { type: cmd.write, flags: 32, payload: Buffer.alloc(9) }, errno.EINVAL],
    ["REQ_ONE on a read", { type: cmd.read, flags: 8, length: 1 }, errno.EINVAL],
    ["NO_HOLE on a write", { type: cmd.write, flags: 2, payload: Buffer.alloc(9) }, errno.EINVAL],
    ["CACHE past the end", { type: cmd.cache, offset: size, length: 1 }, errno.EINVAL],
    ["CACHE with an unknown flag", { type: cmd.cache, flags: 2, length: 1 }, errno.EINVAL],
    ["CACHE of length 0", { type: cmd.cache, length: 0 }, 0],
    ["BLOCK_STATUS, nothing selected", { type: cmd.status, length: 1 }, errno.EINVAL],
    ["RESIZE", { type: cmd.resize, length: 1 }, errno.EINVAL],
    ["an unknown command", { type: 0xffff, length: 1 }, errno.EINVAL],
  ])("%s is answered as the protocol says, and the next one in step", async (_, fields, error) => {
    const { prober, target } = await openOne({ sizeBytes: size });
    prober.request({ ...fields, cookie: 7n });
    expect(await prober.readReply()).toMatchObject({ error, cookie: 7n });
    if (error !== 0) expect(target.seen).toHaveLength(0);
    expect(await prober.ask({ type: cmd.read, length: 1 })).toBe(0);
  });

  it.each([
    ["WRITE", { type: cmd.write, payload: Buffer.alloc(100_000) }],
    ["WRITE_ZEROES", { type: cmd.zeroes, length: 512 }],
    ["TRIM", { type: cmd.trim, length: 512 }],
  ])("%s on a read-only export is not permitted", async (_, fields) => {
    const { prober } = await openOne({ isReadOnly: true });
    expect(await prober.ask(fields)).toBe(errno.EPERM);
    expect(await prober.ask({ type: cmd.read, length: 512 })).toBe(0);
    expect(await prober.ask({ type: cmd.flush })).toBe(0);
  });

  it("TRIM is invalid where it is not advertised", async () => {
    const { prober } = await openOne({ canTrim: false });
    expect(await prober.ask({ type: cmd.trim, length: 512 })).toBe(errno.EINVAL);
  });

  it("FAST_ZERO that would not be fast is refused at once, the data untouched, while the device is busy", async () => {
    const { prober, target } = await openOne({ mode: "manual" });
    target.bytes.fill(7);
    prober.request({ type: cmd.flush, cookie: 1n });
    await eventually(() => target.pending.length === 1);
    expect(await prober.ask({ type: cmd.zeroes, flags: 16, length: 4096 })).toBe(errno.ENOTSUP);
    expect(target.seen).toHaveLength(1);
    expect(target.bytes.every((byte) => byte === 7)).toBe(true);
    target.completeAll();
    expect((await prober.readReply()).cookie).toBe(1n);
  });

  it("FAST_ZERO zeroes where that is fast, unless the blocks shall stay allocated", async () => {
    const { prober, target } = await openOne({ canZeroFast: true });
    target.bytes.fill(7);
    expect(await prober.ask({ type: cmd.zeroes, flags: 16 | 1, length: 4096 })).toBe(0);
    expect(await prober.ask({ type: cmd.zeroes, flags: 16 | 2, offset: 4096, length: 4096 })).toBe(
      errno.ENOTSUP,
    );
    expect(target.bytes.subarray(0, 4096).every((byte) => byte === 0)).toBe(true);
    expect(target.bytes.subarray(4096).every((byte) => byte === 7)).toBe(true);
  });

  it("may be unaligned, unless the export enforces its block size", async () => {
    const lenient = await openOne({ minimumBlockBytes: 4096 });
    expect(await lenient.prober.ask({ type: cmd.read, offset: 1, length: 3 })).toBe(0);
    const strict = await openOne({ minimumBlockBytes: 4096 }, { isEnforced: true });
    expect(await strict.prober.ask({ type: cmd.read, offset: 1, length: 4096 })).toBe(errno.EINVAL);
    expect(await strict.prober.ask({ type: cmd.write, payload: Buffer.alloc(512) })).toBe(errno.EINVAL);
    expect(await strict.prober.ask({ type: cmd.read, offset: 4096, length: 4096 })).toBe(0);
  });

  it("keeps 64-bit offsets exact on a device of 8 PiB", async () => {
    const { prober, target } = await openOne({ sizeBytes: 2 ** 53 - 4096, mode: "manual" });
    prober.request({ type: cmd.trim, offset: 2n ** 53n - 4097n, length: 1 });
    await eventually(() => target.pending.length === 1);
    expect(target.seen[0].offsetBytes).toBe(2 ** 53 - 4097);
    expect(await prober.ask({ type: cmd.trim, offset: 2n ** 53n - 4097n, length: 2 })).toBe(errno.EINVAL);
  });

  it("of 32 MiB is accepted from any client, both ways", async () => {
    const { prober, target } = await openOne({ sizeBytes: 32 * MiB });
    const payload = Buffer.alloc(32 * MiB, "blkforge");
    expect(await prober.ask({ type: cmd.write, payload })).toBe(0);
    expect(target.bytes.equals(payload)).toBe(true);
    prober.request({ type: cmd.read, length: 32 * MiB });
    expect((await prober.readReply(32 * MiB)).payload.equals(payload)).toBe(true);
  });

  it("to write more than would be drained closes the connection", async () => {
    const { prober } = await openOne({}, { limits: { drainedWriteBytes: 64 * MiB } });
    prober.request({ type: cmd.write, length: 64 * MiB + 1 });
    expect(await prober.readEnd()).toHaveLength(0);
  });

  it("with a bad magic closes the connection, and harms no other", async () => {
    const { prober, path, target } = await openOne();
    const other = await Prober.open(path);
    prober.send(u32(0x25609514), Buffer.alloc(24));
    expect(await prober.readEnd()).toHaveLength(0);
    expect(await other.ask({ type: cmd.read, length: 512 })).toBe(0);
    expect(target.abandoned).toBe(1);
  });
});

describe("a reply", () => {
  it("tells every status by one of the protocol's eight errors", async () => {
    const { prober, target } = await openOne();
    const allowed = new Set<number>([0, ...Object.values(errno)]);
    const told: Record<string, number> = {};
    for (const [status, name] of statusNames.entries()) {
      target.failWith = status;
      told[name] = await prober.ask({ type: cmd.read, length: 512 });
    }
    expect(Object.values(told).filter((error) => !allowed.has(error))).toEqual([]);
    expect(told).toMatchObject({ ok: 0, io: 5, medium: 5, nospc: 28, perm: 1, inval: 22, shutdown: 108 });
  });

  it("carries no data when reading the bytes fails at the last moment", async () => {
    const { prober, target } = await openOne();
    target.readStatus = statusNames.indexOf("medium");
    expect(await prober.ask({ type: cmd.read, length: 100_000 })).toBe(errno.EIO);
    target.readStatus = 0;
    expect(await prober.ask({ type: cmd.read, length: 512 })).toBe(0);
  });

  it("comes when its request completes, in the order of completion", async () => {
    const { prober, target } = await openOne({ mode: "manual" });
    for (const cookie of [1n, 2n, 3n]) prober.request({ type: cmd.read, cookie, length: 4096 });
    await eventually(() => target.pending.length === 3);
    const [first, second, third] = target.pending;
    target.complete(second);
    expect((await prober.readReply(4096)).cookie).toBe(2n);
    target.complete(third, first);
    expect((await prober.readReply(4096)).cookie).toBe(3n);
    expect((await prober.readReply(4096)).cookie).toBe(1n);
    expect(target.requests.inFlight).toBe(0);
  });

  it("goes only to the connection that asked, which is the device's queue of the same number", async () => {
    const { prober, path, target } = await openOne({ mode: "manual" });
    const other = await Prober.open(path);
    prober.request({ type: cmd.flush, cookie: 1n });
    await eventually(() => target.pending.length === 1);
    other.request({ type: cmd.flush, cookie: 2n });
    await eventually(() => target.pending.length === 2);
    expect(target.seen.map(({ queue }) => queue)).toEqual([0, 1]);
    target.complete(target.pending[1]);
    expect((await other.readReply()).cookie).toBe(2n);
    expect(prober.unreadBytes).toBe(0);
    target.completeAll();
    expect((await prober.readReply()).cookie).toBe(1n);
  });
});

describe("the end of a connection", () => {
  it("by DISC waits for the replies still owed, even when the client has closed its side", async () => {
    const { prober, target } = await openOne({ mode: "manual" });
    prober.request({ type: cmd.read, cookie: 5n, length: 4096 });
    // What follows DISC is nobody's business any more.
    prober.send(request({ type: cmd.disc }), Buffer.from("rubbish"));
    prober.socket.end();
    await eventually(() => target.pending.length === 1);
    target.completeAll();
    expect((await prober.readReply(4096)).cookie).toBe(5n);
    expect(await prober.readEnd()).toHaveLength(0);
    expect(target.requests.inFlight).toBe(0);
  });

  it("by DISC waits for a slow reader to take its last reply, however long the linger", async () => {
    const { prober, path, target } = await openOne({ sizeBytes: 32 * MiB }, { limits: { lingerMs: 1 } });
    prober.socket.pause();
    prober.request({ type: cmd.read, length: 32 * MiB });
    prober.request({ type: cmd.disc });
    await eventually(() => target.seen.length === 1 && target.requests.inFlight === 0);
    // Another conversation takes longer than the linger.
    const other = await Prober.open(path);
    for (let i = 0; i < 100; i++) expect(await other.ask({ type: cmd.flush })).toBe(0);
    prober.socket.resume();
    expect((await prober.readReply(32 * MiB)).error).toBe(0);
    expect(await prober.readEnd()).toHaveLength(0);
  });

  it("by DISC with nothing in flight comes at once", async () => {
    const { prober, server } = await openOne();
    prober.request({ type: cmd.disc });
    expect(await prober.readEnd()).toHaveLength(0);
    prober.close();
    await eventually(() => server.connectionCount === 0);
  });

  it("without DISC forgets what was in flight; it still runs, and other connections go on", async () => {
    const { prober, path, target, server } = await openOne({ mode: "manual" });
    const other = await Prober.open(path);
    prober.request({ type: cmd.write, payload: Buffer.from("still written") });
    await eventually(() => target.pending.length === 1);
    prober.close();
    await eventually(() => server.connectionCount === 1);
    other.request({ type: cmd.read, cookie: 8n, length: 13 });
    await eventually(() => target.pending.length === 2);
    target.completeAll();
    expect((await other.readReply(13)).payload.toString()).toBe("still written");
    expect(target.requests.inFlight).toBe(0);
  });

  it("leaves no reply to whoever connects next", async () => {
    const { prober, path, target, server } = await openOne({ mode: "manual" });
    for (const cookie of [1n, 2n]) prober.request({ type: cmd.read, cookie, length: 4096 });
    await eventually(() => target.pending.length === 2);
    prober.close();
    await eventually(() => server.connectionCount === 0);
    const next = await Prober.open(path);
    next.request({ type: cmd.flush, cookie: 1n });
    await eventually(() => target.pending.length === 3);
    target.completeAll();
    expect(await next.readReply()).toMatchObject({ error: 0, cookie: 1n });
    target.mode = "auto";
    expect(await next.ask({ type: cmd.flush })).toBe(0);
    expect(next.unreadBytes).toBe(0);
  });

  it("in the midst of a write gives back what the write held", async () => {
    const { prober, path, target, server } = await openOne(
      { sizeBytes: 32 * MiB },
      { limits: { payloadBytes: MiB } },
    );
    prober.send(request({ type: cmd.write, length: MiB }), Buffer.alloc(1000));
    prober.socket.end();
    await eventually(() => server.connectionCount === 0);
    // All the payload memory there is would be gone otherwise.
    const other = await Prober.open(path);
    expect(await other.ask({ type: cmd.write, payload: Buffer.alloc(MiB) })).toBe(0);
    expect(target.seen).toHaveLength(1);
  });
});

describe("backpressure", () => {
  it("holds requests back while the table is full, and goes on when a slot is free", async () => {
    const { prober, path, target } = await openOne({ capacity: 4, mode: "manual" });
    const other = await Prober.open(path);
    for (let i = 0; i < 10; i++) prober.request({ type: cmd.flush, cookie: BigInt(i) });
    await eventually(() => target.requests.isFull);
    other.request({ type: cmd.write, cookie: 99n, payload: Buffer.alloc(200_000, 1) });
    for (let i = 0; i < 10; i++) {
      await eventually(() => target.pending.length > 0);
      target.complete(target.pending.find((slot) => target.requests.queue[slot] === 0)!);
      expect((await prober.readReply()).cookie).toBe(BigInt(i));
    }
    await eventually(() => target.pending.length === 1);
    target.completeAll();
    expect(await other.readReply()).toMatchObject({ error: 0, cookie: 99n });
  });

  it("bounds what one connection may have in flight", async () => {
    const { prober, target } = await openOne(
      { capacity: 64, mode: "manual" },
      { limits: { requestsPerConnection: 3 } },
    );
    for (let i = 0; i < 8; i++) prober.request({ type: cmd.flush, cookie: BigInt(i) });
    await eventually(() => target.pending.length === 3);
    for (let i = 0; i < 8; i++) {
      await eventually(() => target.pending.length > 0);
      expect(target.requests.inFlight).toBeLessThanOrEqual(3);
      target.complete(target.pending[0]);
      expect((await prober.readReply()).cookie).toBe(BigInt(i));
    }
  });

  it("keeps the replies a client does not read with the device, and serves others meanwhile", async () => {
    const { prober, path, target, server } = await openOne(
      { sizeBytes: 4 * MiB, capacity: 8 },
      { limits: { queuedReplyBytes: MiB } },
    );
    target.bytes.fill("data");
    prober.socket.pause();
    for (let i = 0; i < 30; i++) prober.request({ type: cmd.read, cookie: BigInt(i), length: MiB });
    // The table is full of replies nobody takes.
    await eventually(() => target.requests.isFull);
    const other = await Prober.open(path);
    other.request({ type: cmd.flush });
    prober.socket.resume();
    for (let i = 0; i < 30; i++) {
      const reply = await prober.readReply(MiB);
      expect(reply.cookie).toBe(BigInt(i));
      expect(reply.payload.equals(target.bytes.subarray(0, MiB))).toBe(true);
    }
    expect((await other.readReply()).error).toBe(0);
    expect(server.requestsInFlight).toBe(0);
  });

  it("makes writes wait for each other's payload memory, and closes who stalls on it", async () => {
    const { prober, path } = await openOne(
      { sizeBytes: 4 * MiB },
      { limits: { payloadBytes: MiB, stallMs: 30 } },
    );
    prober.send(request({ type: cmd.write, length: MiB }), Buffer.alloc(MiB / 2));
    expect(await (await Prober.open(path)).ask({ type: cmd.write, length: 0 })).toBe(0);
    const other = await Prober.open(path);
    expect(await other.ask({ type: cmd.write, cookie: 2n, payload: Buffer.alloc(MiB) })).toBe(0);
    expect(await prober.readEnd()).toHaveLength(0);
  });
});
