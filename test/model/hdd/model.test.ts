import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Random } from "../../../src/base/random.js";
import { Op, RequestTable } from "../../../src/base/request.js";
import { createHddModel, type HddParameters } from "../../../src/model/hdd/index.js";
import { plainDrive, profileParameters } from "./drive.js";

interface Arrival {
  gapNs: number;
  op: number;
  isFua: boolean;
  block: number;
  blocks: number;
}

const sizeBytes = 2 ** 31;
const blockBytes = 4096;
const blockCount = sizeBytes / blockBytes;

/** Everything at once: two arms or shingles, small caches, retries, sleep, so that events collide. */
const drives: Record<string, HddParameters> = {
  plain: plainDrive({
    layout: { outerRate: "200MB/s", innerRate: "100MB/s" },
    cache: { segments: 3, segmentSize: "128K", write: { size: "256K", extents: 6, extentSize: "64K" } },
    destage: { delay: "5ms" },
    overhead: { turnaround: "100us" },
  }),
  dual: plainDrive({
    // Overheads that tell a hit, and none for writes: what one command decides at an instant shows in the next.
    overhead: { readHit: "50us", readMiss: "150us", writeHit: 0, writeMiss: 0, other: 0 },
    heads: 4,
    actuators: 2,
    layout: { outerRate: "200MB/s", innerRate: "100MB/s" },
    cache: {
      segments: 2,
      segmentSize: "64K",
      readAhead: { minimum: "32K" },
      write: { size: "128K", extents: 4, extentSize: "64K" },
    },
    queue: { depth: 4, policy: "elevator", flushQueued: true },
    destage: { delay: 0, order: "fifo" },
    retries: { rate: 0.1 },
  }),
  shingled: plainDrive({
    heads: 2,
    layout: { outerRate: "200MB/s", innerRate: "100MB/s" },
    cache: { segments: 2, segmentSize: "64K", write: { size: "128K", extents: 4, extentSize: "64K" } },
    queue: { ageing: 0.1, maximumWait: "50ms" },
    destage: { delay: "1ms", order: "elevator" },
    power: [{ after: "100ms", recovery: "20ms" }],
    smr: {
      cacheSize: "4M",
      mapEntries: 20,
      bandSizeOuter: "8M",
      bandSizeInner: "4M",
      cleanAfter: "20ms",
      journalEvery: 7,
      journalTime: "3ms",
    },
  }),
};

const arrival: fc.Arbitrary<Arrival> = fc.record({
  // Many arrivals at the same instant, some a revolution apart, a few after a long rest.
  gapNs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 20_000_000 }), fc.constant(500_000_000)),
  op: fc.constantFrom(Op.read, Op.read, Op.write, Op.write, Op.write, Op.flush, Op.trim, Op.zeroes),
  isFua: fc.constantFrom(false, false, false, true),
  // Neighbours often, so that caches hit and runs join.
  block: fc.oneof(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: blockCount - 40 })),
  blocks: fc.integer({ min: 1, max: 32 }),
});

/** Completion time of each arrival, the model being advanced only as `slices` says: -1 is as little as allowed. */
function run(parameters: HddParameters, arrivals: readonly Arrival[], slices: Random | null) {
  const requests = new RequestTable(256);
  const model = createHddModel({ parameters, sizeBytes, requests, seed: 1, physicalBlockBytes: blockBytes });
  const dueNs = new Map<number, number>();
  const parts = new Map<number, number>();
  let lastNs = 0;
  const { breakdown } = model;
  const sink = {
    complete(slot: number, atNs: number) {
      expect(dueNs.has(slot)).toBe(false);
      expect(atNs).toBeGreaterThanOrEqual(lastNs);
      lastNs = atNs;
      dueNs.set(slot, atNs);
      parts.set(
        slot,
        breakdown.queueNs[slot] +
          breakdown.overheadNs[slot] +
          breakdown.seekNs[slot] +
          breakdown.rotationNs[slot] +
          breakdown.transferNs[slot] +
          breakdown.cacheNs[slot],
      );
    },
  };
  let nowNs = 0;
  for (const { gapNs, op, isFua, block, blocks } of arrivals) {
    const toNs = nowNs + gapNs;
    if (slices !== null) {
      for (let i = slices.nextInteger(4); i > 0; i--) {
        nowNs += Math.floor(slices.next() * (toNs - nowNs));
        model.advance(nowNs, sink);
      }
      if (slices.next() < 0.5) model.advance(Math.min(model.nextEventNs(), toNs), sink);
    }
    nowNs = toNs;
    if (gapNs > 0 || slices !== null) model.advance(nowNs, sink);
    const slot = requests.acquire();
    requests.op[slot] = op;
    requests.flags[slot] = isFua ? 1 : 0;
    requests.offsetBytes[slot] = block * blockBytes;
    requests.lengthBytes[slot] = op === Op.flush ? 0 : blocks * blockBytes;
    requests.arrivalNs[slot] = nowNs;
    model.arrive(slot, nowNs);
  }
  for (let steps = 0; dueNs.size < arrivals.length; steps++) {
    const nextNs = model.nextEventNs();
    if (nextNs === Number.POSITIVE_INFINITY || steps > 1e5) throw new Error("commands were left behind");
    model.advance(nextNs, sink);
  }
  const slots = [...dueNs.keys()].sort((a, b) => a - b);
  return {
    dueNs: slots.map((slot) => dueNs.get(slot)),
    unaccountedNs: slots.map((slot) =>
      Math.abs(parts.get(slot)! - (dueNs.get(slot)! - requests.arrivalNs[slot])),
    ),
  };
}

describe.each(Object.keys(drives))("the %s hard disk", (name) => {
  const parameters = drives[name];

  it("completes every command once, in order of time, and the parts of each add up to its response time", () => {
    fc.assert(
      fc.property(fc.array(arrival, { minLength: 1, maxLength: 120 }), (arrivals) => {
        const { unaccountedNs } = run(parameters, arrivals, null);
        // A thousandth of a nanosecond a part, at most.
        expect(Math.max(...unaccountedNs)).toBeLessThan(0.01);
      }),
      { seed: 1, numRuns: 150 },
    );
  });

  it("decides the same however the host slices its calls, to the last bit", () => {
    fc.assert(
      fc.property(fc.array(arrival, { minLength: 1, maxLength: 120 }), fc.nat(), (arrivals, seed) => {
        const sliced = run(parameters, arrivals, new Random(seed, "slices"));
        expect(sliced.dueNs).toEqual(run(parameters, arrivals, null).dueNs);
      }),
      { seed: 2, numRuns: 150 },
    );
  });
});

describe("the hard disk", () => {
  it("lets a command see what one before it at the same instant has done, whether or not it was advanced between", () => {
    // The read hits only if the write is in the cache when the controller takes the read up.
    const write = { gapNs: 0, op: Op.write, isFua: false, block: 0, blocks: 1 };
    const read = { ...write, op: Op.read };
    const { dueNs } = run(drives.dual, [write, read], null);
    expect(dueNs[1]).toBe(run(drives.dual, [write, read], new Random(1, "slices")).dueNs[1]);
    expect(dueNs[1]).toBeLessThan(51_000);
  });

  it("comes to rest: with nothing to do there is no next event", () => {
    const requests = new RequestTable(4);
    const model = createHddModel({ parameters: profileParameters("hdd-7200"), sizeBytes, requests, seed: 1 });
    expect(model.nextEventNs()).toBe(Number.POSITIVE_INFINITY);
    const slot = requests.acquire();
    requests.op[slot] = Op.write;
    requests.lengthBytes[slot] = blockBytes;
    model.arrive(slot, 0);
    for (let steps = 0; model.nextEventNs() < Number.POSITIVE_INFINITY; steps++) {
      expect(steps).toBeLessThan(20);
      model.advance(model.nextEventNs(), { complete() {} });
    }
    expect(model.counters.destages).toBe(1);
  });
});
