/**
 * Plain requests are answered natively, all others by TypeScript: nobody may see who it was. Two devices, one of which answers
 * natively where it may, hear the same conversations over real sockets, good and bad, cut anywhere, and have to say and to hold the same.
 */
import fc from "fast-check";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { loadNative } from "../../src/base/native.js";
import { operations, RequestTable } from "../../src/base/request.js";
import type { Clock } from "../../src/device/clock.js";
import { Device } from "../../src/device/device.js";
import { LiveClock, timings } from "../../src/device/live-clock.js";
import { DeviceStats } from "../../src/device/stats.js";
import { VirtualClock } from "../../src/device/virtual-clock.js";
import { FaultSet } from "../../src/fault/set.js";
import { createModel } from "../../src/model/create.js";
import type { NbdLimits } from "../../src/nbd/limits.js";
import { loadProfile } from "../../src/profile/load.js";
import { MemoryStore } from "../../src/store/memory.js";
import { eventually, Prober } from "./support/prober.js";
import { serve } from "./support/serving.js";
import { cmd, errno, extendedRequest, type RequestFields, request } from "./support/wire.js";

const KiB = 1024;
const sizeBytes = 1024 * KiB;
/** Changes keep below, reads above: which of two requests in flight comes first then makes no difference. */
const changedBytes = sizeBytes / 2;

const isNative = loadNative().SocketMover !== undefined;

interface Options {
  /** Of the profile `fixed`; without, the device is `instant`. */
  settings?: string[];
  /** Whether JavaScript decides everything, as where a floor is taken off. */
  isScripted?: boolean;
  isReadOnly?: boolean;
  isBlockSizeEnforced?: boolean;
  limitBytes?: number;
  limits?: Partial<NbdLimits>;
}

async function open(clock: Clock, options: Options = {}) {
  const { isReadOnly = false, isBlockSizeEnforced = false, limitBytes = Number.POSITIVE_INFINITY } = options;
  const { settings, isScripted = false } = options;
  const store = new MemoryStore({ sizeBytes, limitBytes: Number.POSITIVE_INFINITY });
  // The upper half: data with holes of all sizes in it.
  for (let at = changedBytes; at < sizeBytes; at += 176 * KiB) store.write(at, pattern(75 * KiB, at / KiB));
  const limited = new MemoryStore({ sizeBytes, limitBytes: store.allocatedBytes() + limitBytes });
  for (let at = changedBytes; at < sizeBytes; at += 176 * KiB) limited.write(at, pattern(75 * KiB, at / KiB));
  store.close();
  const requests = new RequestTable(64);
  const faults = new FaultSet({ seed: 1, requests, sizeBytes, onRelease: () => undefined });
  const profile =
    settings === undefined
      ? loadProfile("instant", { size: "1M" })
      : loadProfile("fixed", { size: "1M", settings });
  const stats = new DeviceStats();
  const device = new Device({
    identity: { ...profile, isReadOnly },
    requests,
    store: limited,
    model: createModel({ profile, requests, seed: 1, sizeBytes }),
    faults,
    clock,
    stats,
    floorsNs: isScripted ? new Float64Array(operations.length) : null,
  });
  const served = await serve({
    exports: [{ name: "", target: device, isBlockSizeEnforced }],
    limits: options.limits ?? {},
  });
  onTestFinished(() => clock.close());
  return { device, store: limited, faults, stats, submit: vi.spyOn(device, "submit"), ...served };
}

type Opened = Awaited<ReturnType<typeof open>>;

function pattern(lengthBytes: number, seed: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  for (let i = 0; i < lengthBytes; i++) bytes[i] = (i * 31 + (i >> 8) * 17 + seed * 101 + 1) & 255;
  return bytes;
}

const modes = ["simple", "structured", "extended"] as const;
type Mode = (typeof modes)[number];

/** Who asks for it keeps to the block size, where one is enforced, or has himself to blame. */
const blockSizeInfo = 3;

async function connectTo(path: string, mode: Mode): Promise<Prober> {
  return mode === "simple"
    ? Prober.open(path, "", [blockSizeInfo])
    : Prober.openChunked(path, { isExtended: mode === "extended", infos: [blockSizeInfo] });
}

function encode(mode: Mode, fields: RequestFields): Buffer {
  return mode === "extended" ? extendedRequest(fields) : request(fields);
}

/** All that was said about each request, by its cookie: replies may come in any order, chunks of one may not. */
function sortReplies(said: Buffer, mode: Mode, readBytes: ReadonlyMap<number, number>): Map<number, string> {
  const replies = new Map<number, string>();
  for (let at = 0; at < said.length; ) {
    const cookie = Number(said.readBigUInt64BE(at + 8));
    let end = at + 16;
    if (mode === "simple") end += said.readUInt32BE(at + 4) === 0 ? (readBytes.get(cookie) ?? 0) : 0;
    else if (mode === "structured") end += 4 + said.readUInt32BE(at + 16);
    else end += 16 + Number(said.readBigUInt64BE(at + 24));
    replies.set(cookie, (replies.get(cookie) ?? "") + said.toString("latin1", at, end));
    at = end;
  }
  return replies;
}

interface Conversation {
  mode: Mode;
  requests: RequestFields[];
  /** Where the stream is cut, in parts of its length. */
  cuts: number[];
}

/** Says it all, then takes its leave; returns what the server said. */
async function converse(
  opened: Opened,
  { mode, requests, cuts }: Conversation,
): Promise<Map<number, string>> {
  const readBytes = new Map<number, number>();
  const parts = requests.map((fields, index) => {
    if (fields.type === cmd.read) readBytes.set(index, fields.length ?? 0);
    return encode(mode, { ...fields, cookie: BigInt(index) });
  });
  const stream = Buffer.concat([...parts, encode(mode, { type: cmd.disc })]);
  const prober = await connectTo(opened.path, mode);
  const places = cuts.map((cut) => Math.floor(cut * stream.length)).sort((a, b) => a - b);
  for (const [i, place] of [...places, stream.length].entries()) {
    prober.send(stream.subarray(i === 0 ? 0 : places[i - 1], place));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const said = await prober.readEnd();
  prober.close();
  return sortReplies(said, mode, readBytes);
}

const blockStarts = fc.integer({ min: 0, max: 127 }).map((block) => block * 4096);
const anywhere = fc.oneof(
  { weight: 6, arbitrary: fc.nat(changedBytes) },
  { weight: 3, arbitrary: blockStarts },
  fc.constantFrom(
    2n ** 64n - 1n,
    2n ** 53n,
    2n ** 53n + 1n,
    2n ** 32n,
    2n ** 63n,
    BigInt(sizeBytes),
    BigInt(sizeBytes - 1),
  ),
);
const lengths = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(512, 4096, 8192, 0) },
  { weight: 2, arbitrary: fc.nat(6000) },
  { weight: 2, arbitrary: fc.integer({ min: 30 * KiB, max: 140 * KiB }) },
);
const flags = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(0, 0, 1) },
  { weight: 2, arbitrary: fc.constantFrom(4, 5, 32, 33, 2, 16) },
  fc.integer({ min: 0, max: 65535 }),
);
const upper = anywhere.map((at) => (typeof at === "number" ? at + changedBytes : at));
/** Ends before the upper half, unless it is out of bounds anyway. */
const below = (at: number | bigint, length: number) =>
  typeof at === "number" ? Math.min(length, changedBytes - at) : length;
const anyRequest: fc.Arbitrary<RequestFields> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ type: fc.constant(cmd.read), flags, offset: upper, length: lengths }) },
  {
    weight: 5,
    arbitrary: fc
      .record({ flags: fc.option(flags), offset: anywhere, length: lengths, seed: fc.nat(255) })
      .map(({ flags, offset, length, seed }) => ({
        type: cmd.write,
        offset,
        payload: pattern(below(offset, length), seed),
        // Without flags of its own a write has those that its format asks for.
        ...(flags === null ? {} : { flags }),
      })),
  },
  fc
    .record({ type: fc.constantFrom(cmd.trim, cmd.zeroes), flags, offset: anywhere, length: lengths })
    .map((fields) => ({ ...fields, length: below(fields.offset, fields.length) })),
  fc.record({
    type: fc.constantFrom(cmd.flush, cmd.cache, cmd.status, 8, 77),
    flags,
    offset: upper,
    length: lengths,
  }),
);

/** Whether a payload comes with it is said in two ways; what contradicts itself would end in a stream out of step. */
function isInStep(mode: Mode, { type, flags, payload }: RequestFields): boolean {
  if (mode !== "extended") return true;
  const says = ((flags ?? (payload === undefined ? 0 : 32)) & 32) !== 0;
  return says === (payload !== undefined) && (type === cmd.write || !says);
}

const conversation: fc.Arbitrary<Conversation> = fc
  .record({
    mode: fc.constantFrom(...modes),
    requests: fc.array(anyRequest, { minLength: 1, maxLength: 14 }),
    cuts: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 6 }),
  })
  .map((said) => ({ ...said, requests: said.requests.filter((fields) => isInStep(said.mode, fields)) }));

/** What statistics tell apart from times. */
function counted({ stats }: Opened) {
  return Object.entries(stats.read().operations).map(([name, { count, bytes, errors, latency }]) => ({
    ...{ name, count, bytes, errors },
    latencies: latency.count,
  }));
}

function contents({ store }: Opened): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  store.read(0, bytes);
  return bytes;
}

describe.skipIf(!isNative)("a device that answers natively", () => {
  const variants: [string, Options][] = [
    ["as it is", {}],
    ["read-only", { isReadOnly: true }],
    ["with strict blocks", { isBlockSizeEnforced: true }],
    ["with little memory", { limitBytes: 96 * KiB }],
    ["with a short queue of replies", { limits: { queuedReplyBytes: 64 * KiB } }],
    ["taking its time", { settings: ["latency.read=200us", "latency.write=350us"] }],
    ["taking its time for writes", { settings: ["latency.read=0", "latency.write=300us"] }],
    [
      "taking its time, for few at once",
      { settings: ["latency=200us"], limits: { requestsPerConnection: 2, queuedReplyBytes: 64 * KiB } },
    ],
  ];

  it.each(variants)("says, holds and counts what one that does not would, %s", async (_, options) => {
    const ours = await open(new LiveClock(), options);
    const { settings } = options;
    const reference =
      settings === undefined
        ? await open(new VirtualClock(), options)
        : await open(new LiveClock(), { ...options, isScripted: true });
    await fc.assert(
      fc.asyncProperty(conversation, fc.boolean(), async (said, isFaulted) => {
        for (const { faults } of [ours, reference]) {
          if (!isFaulted) continue;
          faults.add({
            kind: "error",
            name: "bad",
            trigger: { ops: ["write"], ranges: [{ offset: 0, length: "64K" }] },
          });
        }
        expect(await converse(ours, said)).toEqual(await converse(reference, said));
        expect(contents(ours).equals(contents(reference))).toBe(true);
        expect(ours.store.allocatedBytes()).toBe(reference.store.allocatedBytes());
        expect(counted(ours)).toEqual(counted(reference));
        for (const { faults } of [ours, reference]) faults.reset();
      }),
      { numRuns: 200, seed: 20 },
    );
    expect(ours.submit.mock.calls.length).toBeLessThan(reference.submit.mock.calls.length);
  });

  it("is the same wherever a conversation is cut in two", async () => {
    const requests: RequestFields[] = [
      { type: cmd.write, offset: 100, payload: pattern(700, 1) },
      { type: cmd.read, offset: changedBytes + 50, length: 900 },
      { type: 77 },
      { type: cmd.write, offset: sizeBytes - 5, payload: pattern(30, 2) },
      { type: cmd.write, flags: 1, offset: 4096, payload: pattern(40, 3) },
    ];
    const ours = await open(new LiveClock());
    const whole = await converse(ours, { mode: "simple", requests, cuts: [] });
    const bytes = contents(ours);
    for (let place = 1; place < 1000; place++) {
      ours.store.write(0, Buffer.alloc(8192));
      const cuts = [place / 1000];
      expect(await converse(ours, { mode: "simple", requests, cuts })).toEqual(whole);
      expect(contents(ours).equals(bytes)).toBe(true);
    }
  });

  it("asks JavaScript as soon as a fault is set, and no longer when it is gone", async () => {
    const { path, faults, submit } = await open(new LiveClock());
    const prober = await Prober.open(path);
    const write = { type: cmd.write, offset: 0, payload: pattern(4096, 1) };
    expect(await prober.ask(write)).toBe(0);
    expect(submit).not.toHaveBeenCalled();
    faults.add({ kind: "error", name: "bad" });
    expect(await prober.ask(write)).toBe(errno.EIO);
    expect(submit).toHaveBeenCalledOnce();
    faults.remove("bad");
    expect(await prober.ask(write)).toBe(0);
    expect(await prober.ask({ type: cmd.read, length: 4096 })).toBe(0);
    expect(submit).toHaveBeenCalledOnce();
  });

  it.each(modes)("lets a fault meet a write that is under way when it is set, in %s mode", async (mode) => {
    const opened = await open(new LiveClock());
    const { path, faults, store, submit } = opened;
    for (const lengthBytes of [8 * KiB, 128 * KiB]) {
      const payload = pattern(lengthBytes, 7);
      const bytes = encode(mode, { type: cmd.write, offset: 0, payload });
      const before = store.allocatedBytes();
      const prober = await connectTo(path, mode);
      const good = encode(mode, { type: cmd.read, offset: changedBytes, length: 512 });
      prober.send(good, bytes.subarray(0, bytes.length - 3000));
      // It answers the read, so what was sent with it has arrived; what is long has begun to land.
      await prober.read(16);
      if (lengthBytes > 32 * KiB) await eventually(() => store.allocatedBytes() > before);
      faults.add({ kind: "error", name: "bad", trigger: { ops: ["write"] } });
      submit.mockClear();
      prober.send(
        bytes.subarray(bytes.length - 3000),
        encode(mode, { type: cmd.flush }),
        encode(mode, { type: cmd.disc }),
      );
      const said = await prober.readEnd();
      expect(submit).toHaveBeenCalledTimes(2);
      expect(said.includes(Buffer.from([0, 0, 0, errno.EIO]))).toBe(true);
      faults.remove("bad");
      store.trim(0, changedBytes);
    }
  });

  it("refuses what begins after a shutdown was asked for, and drops what was half sent", async () => {
    const { path, server, store } = await open(new LiveClock());
    const prober = await Prober.open(path);
    const bytes = request({ type: cmd.write, offset: 0, payload: pattern(8 * KiB, 7) });
    prober.send(request({ type: cmd.read, offset: changedBytes, length: 512 }), bytes.subarray(0, 5000));
    await prober.readReply(512);
    const closed = server.close({ deadlineMs: 5000 });
    prober.send(bytes.subarray(5000));
    expect(await prober.readEnd()).toHaveLength(0);
    prober.close();
    await closed;
    const held = Buffer.alloc(8 * KiB);
    store.read(0, held);
    expect(held.equals(Buffer.alloc(8 * KiB))).toBe(true);
  });

  it("keeps to the memory's limit while several writes land at once", async () => {
    const opened = await open(new LiveClock(), { limitBytes: 160 * KiB });
    const before = opened.store.allocatedBytes();
    const probers = await Promise.all(Array.from({ length: 4 }, () => Prober.open(opened.path)));
    const payload = pattern(64 * KiB, 3);
    for (const [i, prober] of probers.entries()) {
      prober.send(
        request({ type: cmd.write, offset: i * 64 * KiB, length: payload.length }),
        payload.subarray(0, 40 * KiB),
      );
    }
    await eventually(() => opened.store.allocatedBytes() - before >= 80 * KiB);
    for (const prober of probers) prober.send(payload.subarray(40 * KiB));
    const errors = await Promise.all(probers.map(async (prober) => (await prober.readReply()).error));
    expect(errors.filter((error) => error === 0)).toHaveLength(2);
    expect(errors.filter((error) => error === errno.ENOSPC)).toHaveLength(2);
    expect(opened.store.allocatedBytes() - before).toBe(128 * KiB);
    // What was promised to a write that never comes to its end is free again.
    const [vanishing, other] = probers;
    opened.store.trim(0, changedBytes);
    vanishing.send(request({ type: cmd.write, length: 128 * KiB }), pattern(40 * KiB, 1));
    await eventually(() => opened.store.allocatedBytes() - before >= 40 * KiB);
    vanishing.socket.destroy();
    await eventually(() => opened.server.connectionCount === 3);
    opened.store.trim(0, changedBytes);
    expect(await other.ask({ type: cmd.write, payload: pattern(160 * KiB, 2) })).toBe(0);
  });
});

const ms = 1e6;
/** So slow that a test on a busy machine sees requests wait. */
const slow = { settings: ["latency.read=300ms", "latency.write=400ms"] };

describe.skipIf(!isNative)("a device that answers natively, and takes its time", () => {
  it.each(timings)("is never early, by its own measure and its client's, in timing %s", async (timing) => {
    const { path, submit, stats } = await open(new LiveClock({ timing }), {
      settings: ["latency.read=2ms", "latency.write=3ms"],
    });
    const prober = await Prober.open(path);
    const beganAt = performance.now();
    for (let i = 0; i < 5; i++) {
      expect(await prober.ask({ type: cmd.write, offset: i * 512, payload: pattern(512, i) })).toBe(0);
      expect(await prober.ask({ type: cmd.read, length: 512 })).toBe(0);
    }
    expect(performance.now() - beganAt).toBeGreaterThanOrEqual(25);
    expect(submit).not.toHaveBeenCalled();
    const { operations, lateness } = stats.read();
    expect(operations.read.latency.minNs).toBeGreaterThanOrEqual(2 * ms);
    expect(operations.write.latency.minNs).toBeGreaterThanOrEqual(3 * ms);
    expect(lateness.count).toBe(10);
  });

  it("answers what is due first first, whatever came before it", async () => {
    const { path } = await open(new LiveClock(), slow);
    const prober = await Prober.open(path);
    prober.send(
      request({ type: cmd.write, cookie: 1n, payload: pattern(512, 1) }),
      request({ type: cmd.read, cookie: 2n, offset: changedBytes, length: 512 }),
    );
    expect((await prober.readReply(512)).cookie).toBe(2n);
    expect((await prober.readReply()).cookie).toBe(1n);
  });

  it("counts what it has in hand, and forgets it with its client", async () => {
    const { path, stats, server } = await open(new LiveClock(), { settings: ["latency=1h"] });
    const prober = await Prober.open(path);
    const requests = Array.from({ length: 5 }, () => request({ type: cmd.read, length: 512 }));
    prober.send(...requests);
    await eventually(() => stats.read().inFlight === 5);
    expect(server.requestsInFlight).toBe(5);
    prober.socket.destroy();
    await eventually(() => server.connectionCount === 0);
    expect(stats.read().inFlight).toBe(0);
  });

  it("takes no more than a connection may have in flight, and then goes on", async () => {
    const limits = { requestsPerConnection: 3 };
    const { path, stats, submit } = await open(new LiveClock(), { ...slow, limits });
    const prober = await Prober.open(path);
    const beganAt = performance.now();
    prober.send(
      ...Array.from({ length: 9 }, (_, i) =>
        request({ type: cmd.read, cookie: BigInt(i), offset: changedBytes, length: 512 }),
      ),
    );
    await eventually(() => stats.read().inFlight === 3);
    for (let i = 0; i < 9; i++) expect((await prober.readReply(512)).cookie).toBe(BigInt(i));
    // Three at a time.
    expect(performance.now() - beganAt).toBeGreaterThanOrEqual(900);
    expect(submit).not.toHaveBeenCalled();
  });

  it("a fault that is set while they wait does not meet them", async () => {
    const { path, faults, stats } = await open(new LiveClock(), slow);
    const prober = await Prober.open(path);
    prober.send(request({ type: cmd.write, payload: pattern(512, 1) }));
    await eventually(() => stats.read().inFlight === 1);
    faults.add({ kind: "error", name: "bad" });
    expect((await prober.readReply()).error).toBe(0);
    expect(await prober.ask({ type: cmd.write, payload: pattern(512, 1) })).toBe(errno.EIO);
  });

  it("DISC waits for the answers that are owed", async () => {
    const { path, server } = await open(new LiveClock(), slow);
    const prober = await Prober.open(path);
    prober.send(request({ type: cmd.write, payload: pattern(512, 1) }), request({ type: cmd.disc }));
    expect(await prober.readEnd()).toHaveLength(16);
    await eventually(() => server.connectionCount === 0);
  });

  it("a shutdown waits for them too, and refuses what comes after it", async () => {
    const { path, server, stats } = await open(new LiveClock(), slow);
    const prober = await Prober.open(path);
    prober.send(request({ type: cmd.write, cookie: 1n, payload: pattern(512, 1) }));
    await eventually(() => stats.read().inFlight === 1);
    const closed = server.close({ deadlineMs: 5000 });
    prober.send(request({ type: cmd.read, cookie: 2n, length: 512 }));
    expect(await prober.readReply()).toMatchObject({ cookie: 2n, error: errno.ESHUTDOWN });
    expect(await prober.readReply()).toMatchObject({ cookie: 1n, error: 0 });
    expect(await prober.readEnd()).toHaveLength(0);
    prober.close();
    await closed;
  });

  it("holds bounded memory for a client that takes no answers, counts them, and has them when it does", async () => {
    const limits = { queuedReplyBytes: 64 * KiB };
    const { path, stats } = await open(new LiveClock(), { settings: ["latency=1ms"], limits });
    const prober = await Prober.open(path);
    prober.socket.pause();
    // 64 MiB: more than any socket holds.
    const lengthBytes = 256 * KiB;
    const requests = Array.from({ length: 256 }, (_, i) =>
      request({ type: cmd.read, cookie: BigInt(i), offset: changedBytes, length: lengthBytes }),
    );
    prober.send(...requests);
    await eventually(() => stats.read().operations.read.count === 256);
    expect(stats.read().inFlight).toBeGreaterThan(0);
    prober.socket.resume();
    for (let i = 0; i < 256; i++) {
      expect((await prober.readReply(lengthBytes)).cookie).toBe(BigInt(i));
    }
    expect(stats.read().inFlight).toBe(0);
  });

  it("clients of one device keep each to their own time", async () => {
    const { path } = await open(new LiveClock(), { settings: ["latency=5ms"] });
    const probers = await Promise.all(Array.from({ length: 20 }, () => Prober.open(path)));
    for (let round = 0; round < 3; round++) {
      for (const [i, prober] of probers.entries()) {
        prober.send(request({ type: cmd.read, cookie: BigInt(i), offset: changedBytes, length: 512 }));
      }
      for (const [i, prober] of probers.entries()) {
        expect((await prober.readReply(512)).cookie).toBe(BigInt(i));
      }
      // One that goes in the midst of the others.
      probers.splice(round, 1)[0].socket.destroy();
    }
  });
});
