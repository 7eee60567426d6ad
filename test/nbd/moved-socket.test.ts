/**
 * Connections whose bytes the addon moves, against a real device in memory: cut anywhere, slow to read, gone in the midst. The
 * oracle is a buffer that is written to as the protocol says.
 */
import fc from "fast-check";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { RequestTable } from "../../src/base/request.js";
import type { Clock } from "../../src/device/clock.js";
import { Device } from "../../src/device/device.js";
import { LiveClock } from "../../src/device/live-clock.js";
import { DeviceStats } from "../../src/device/stats.js";
import { VirtualClock } from "../../src/device/virtual-clock.js";
import { FaultSet } from "../../src/fault/set.js";
import { createModel } from "../../src/model/create.js";
import { loadProfile } from "../../src/profile/load.js";
import { MemoryStore } from "../../src/store/memory.js";
import { eventually, Prober } from "./support/prober.js";
import { serve } from "./support/serving.js";
import { cmd, request } from "./support/wire.js";

const KiB = 1024;
const MiB = 1024 * KiB;
const sizeBytes = 4 * MiB;

/** On real time plain requests are answered natively; on a virtual clock every request is a matter for JavaScript. */
const clocks = {
  "answered natively": () => new LiveClock(),
  "answered by JavaScript": () => new VirtualClock(),
};

async function open({
  clock: newClock = clocks["answered natively"] as () => Clock,
  limits = {},
  faults = false,
  limitBytes = Number.POSITIVE_INFINITY,
} = {}) {
  const clock = newClock();
  onTestFinished(() => clock.close());
  const store = new MemoryStore({ sizeBytes, limitBytes });
  const requests = new RequestTable(64);
  const set = new FaultSet({ seed: 1, requests, sizeBytes, onRelease: () => undefined });
  if (faults)
    set.add({
      kind: "error",
      options: {},
      trigger: { ops: ["write"], ranges: [{ offset: "1M", length: 4096 }] },
    });
  const profile = loadProfile("instant", { size: "4M" });
  const device = new Device({
    identity: { ...profile, isReadOnly: false },
    requests,
    store,
    model: createModel({ profile, requests, seed: 1, sizeBytes }),
    faults: set,
    clock,
    stats: new DeviceStats(),
  });
  const { path, server } = await serve({ exports: [{ name: "", target: device }], limits });
  return { device, store, path, server, prober: await Prober.open(path) };
}

function bytesOf(store: MemoryStore, offsetBytes: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  store.read(offsetBytes, bytes);
  return bytes;
}

/** Bytes that differ from place to place, and from seed to seed. */
function pattern(lengthBytes: number, seed: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  for (let i = 0; i < lengthBytes; i++) bytes[i] = (i * 31 + (i >> 8) * 17 + seed * 101 + 1) & 255;
  return bytes;
}

describe.each(Object.entries(clocks))("a payload, %s,", (_, clock) => {
  it("of any length and place, cut anywhere, lands where it belongs and nowhere else", async () => {
    const { store, prober } = await open({ clock });
    const oracle = Buffer.alloc(sizeBytes);
    const write = fc.record({
      offset: fc.integer({ min: 0, max: MiB }),
      length: fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 30 * KiB, max: 300 * KiB })),
      seed: fc.nat(255),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(write, { minLength: 1, maxLength: 6 }),
        fc.array(fc.nat(), { maxLength: 8 }),
        async (writes, places) => {
          const stream = Buffer.concat(
            writes.flatMap(({ offset, length, seed }) => {
              pattern(length, seed).copy(oracle, offset);
              return [request({ type: cmd.write, offset, length }), pattern(length, seed)];
            }),
          );
          const cuts = [
            0,
            ...places.map((place) => place % stream.length).sort((a, b) => a - b),
            stream.length,
          ];
          for (let i = 1; i < cuts.length; i++) {
            prober.send(stream.subarray(cuts[i - 1], cuts[i]));
            await new Promise((resolve) => setImmediate(resolve));
          }
          for (const _ of writes) expect((await prober.readReply()).error).toBe(0);
          expect(bytesOf(store, 0, 2 * MiB).equals(oracle.subarray(0, 2 * MiB))).toBe(true);
        },
      ),
      { numRuns: 40, seed: 4 },
    );
  });

  it("whose client vanishes leaves whole blocks of it behind, and the rest as it was", async () => {
    const { store, prober, server } = await open({ clock });
    const before = pattern(256 * KiB, 1);
    const after = pattern(256 * KiB, 2);
    store.write(0, before);
    const sent = 100 * KiB + 300;
    prober.send(request({ type: cmd.write, length: 256 * KiB }), after.subarray(0, sent));
    await eventually(() => bytesOf(store, 96 * KiB, 4 * KiB).equals(after.subarray(96 * KiB, 100 * KiB)));
    prober.socket.destroy();
    await eventually(() => server.connectionCount === 0);
    const left = bytesOf(store, 0, 256 * KiB);
    expect(left.subarray(0, 100 * KiB).equals(after.subarray(0, 100 * KiB))).toBe(true);
    expect(left.subarray(100 * KiB).equals(before.subarray(100 * KiB))).toBe(true);
  });

  it("that a fault refuses does not land", async () => {
    const { store, prober } = await open({ clock, faults: true });
    expect(await prober.ask({ type: cmd.write, offset: MiB, payload: pattern(128 * KiB, 3) })).not.toBe(0);
    expect(store.allocatedBytes()).toBe(0);
  });

  it("for which there is no memory does not land", async () => {
    const { store, prober } = await open({ clock, limitBytes: 64 * KiB });
    expect(await prober.ask({ type: cmd.write, payload: pattern(128 * KiB, 3) })).toBe(28);
    expect(store.allocatedBytes()).toBe(0);
    expect(await prober.ask({ type: cmd.write, payload: pattern(64 * KiB, 3) })).toBe(0);
  });

  it("lands beside a trim of the same range, and is held as a whole afterwards", async () => {
    const { store, path, prober } = await open({ clock });
    const other = await Prober.open(path);
    const payload = pattern(128 * KiB, 5);
    prober.send(request({ type: cmd.write, length: 128 * KiB }), payload.subarray(0, 64 * KiB));
    await eventually(() => store.allocatedBytes() === 64 * KiB);
    expect(await other.ask({ type: cmd.trim, length: 128 * KiB })).toBe(0);
    prober.send(payload.subarray(64 * KiB));
    expect((await prober.readReply()).error).toBe(0);
    expect(bytesOf(store, 64 * KiB, 64 * KiB).equals(payload.subarray(64 * KiB))).toBe(true);
    expect(bytesOf(store, 0, 64 * KiB).equals(Buffer.alloc(64 * KiB))).toBe(true);
  });
});

describe.each(Object.entries(clocks))("replies, %s,", (_, clock) => {
  it("of held pages and holes arrive whole, however slowly they are read", async () => {
    const { store, prober } = await open({ clock, limits: { queuedReplyBytes: 256 * KiB } });
    const oracle = Buffer.alloc(sizeBytes);
    for (let page = 0; page < 1024; page += 3) {
      const bytes = pattern(3000, page);
      store.write(page * 4096 + 500, bytes);
      bytes.copy(oracle, page * 4096 + 500);
    }
    prober.socket.pause();
    const reads = Array.from({ length: 24 }, (_, i) => ({
      offset: i * 1000,
      length: i % 3 === 0 ? 2 * MiB : 5000 + i,
    }));
    for (const [i, read] of reads.entries()) prober.request({ type: cmd.read, cookie: BigInt(i), ...read });
    prober.socket.resume();
    for (const [i, { offset, length }] of reads.entries()) {
      const reply = await prober.readReply(length);
      expect(reply).toMatchObject({ error: 0, cookie: BigInt(i) });
      expect(reply.payload.equals(oracle.subarray(offset, offset + length))).toBe(true);
    }
  });

  it("survive the device growing while they wait for their reader", async () => {
    const { device, store, prober } = await open({ clock });
    const bytes = pattern(2 * MiB, 9);
    store.write(0, bytes);
    prober.socket.pause();
    prober.request({ type: cmd.read, length: 2 * MiB });
    await eventually(() => device.requests.inFlight === 0);
    device.grow(64 * MiB);
    prober.socket.resume();
    expect((await prober.readReply(2 * MiB)).payload.equals(bytes)).toBe(true);
  });

  it("nobody reads end with their connection", async () => {
    const { device, prober, server } = await open({ clock, limits: { queuedReplyBytes: MiB } });
    prober.socket.pause();
    for (let i = 0; i < 20; i++) prober.request({ type: cmd.read, cookie: BigInt(i), length: MiB });
    await eventually(() => device.requests.inFlight > 0);
    prober.socket.destroy();
    await eventually(() => server.connectionCount === 0);
    expect(device.requests.inFlight).toBe(0);
  });

  it("owed at DISC are sent before the connection is closed", async () => {
    const { prober } = await open({ clock });
    for (let i = 0; i < 3; i++) prober.request({ type: cmd.read, cookie: BigInt(i), length: MiB });
    prober.request({ type: cmd.disc });
    prober.socket.end();
    for (let i = 0; i < 3; i++) expect((await prober.readReply(MiB)).cookie).toBe(BigInt(i));
    expect(await prober.readEnd()).toHaveLength(0);
  });
});

describe("clients that come and go", () => {
  it("use the memory of those before them", async () => {
    const { path, server, prober } = await open();
    prober.close();
    const visit = async (count: number) => {
      for (let i = 0; i < count; i++) {
        const visitor = await Prober.open(path);
        expect(await visitor.ask({ type: cmd.write, payload: Buffer.alloc(512, i) })).toBe(0);
        visitor.close();
        await eventually(() => server.connectionCount === 0);
      }
    };
    await visit(1);
    const made: number[] = [];
    vi.stubGlobal(
      "ArrayBuffer",
      new Proxy(ArrayBuffer, {
        construct(buffer, [bytes]) {
          made.push(bytes);
          return new buffer(bytes);
        },
      }),
    );
    onTestFinished(() => void vi.unstubAllGlobals());
    await visit(20);
    expect(made.filter((bytes) => bytes >= 16 * KiB)).toEqual([]);
  });
});
