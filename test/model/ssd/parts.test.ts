/** The parts of the model that can be held against something simpler. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Random } from "../../../src/base/random.js";
import { MapCache } from "../../../src/model/ssd/map-cache.js";
import { Lattice, Shuffle } from "../../../src/model/ssd/scatter.js";
import { drainAll, plainDrive, TestDrive, unitBytes } from "./drive.js";

describe("permutations", () => {
  it("of any size take every number once, and are undone", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3000 }), fc.nat(), (count, seed) => {
        const shuffle = new Shuffle(count, new Random(seed, "test"));
        const lattice = new Lattice(count);
        const turn = seed % count;
        const shuffled = new Set<number>();
        const spread = new Set<number>();
        for (let i = 0; i < count; i++) {
          shuffled.add(shuffle.at(i));
          expect(shuffle.placeOf(shuffle.at(i))).toBe(i);
          spread.add(lattice.at(i, turn));
          expect(lattice.placeOf(lattice.at(i, turn), turn)).toBe(i);
        }
        expect(shuffled.size).toBe(count);
        expect(spread.size).toBe(count);
        expect(Math.max(...shuffled)).toBe(count - 1);
      }),
      { seed: 1, numRuns: 60 },
    );
  });
});

describe("a mapping cache", () => {
  it("holds what was touched last, as many pages as it has room for", () => {
    const cache = new MapCache(100 * 1024, 10 * 4096);
    for (let page = 0; page < 10; page++) expect(cache.touch(page, page % 2 === 0)).toBe(false);
    for (let page = 0; page < 10; page++) expect(cache.touch(page, false)).toBe(true);
    for (let page = 10; page < 20; page++) expect(cache.touch(page, false)).toBe(false);
    expect(cache.evictedDirty).toBe(5);
  });
});

describe("a drive under any mix of requests", () => {
  it("conserves data and work, whatever its streams, buffer and cache (150 mixes, seed 77)", () => {
    const step = fc.record({
      op: fc.constantFrom("write", "write", "write", "read", "trim", "flush", "zeroes"),
      unit: fc.integer({ min: 0, max: 4000 }),
      length: fc.integer({ min: 1, max: 64 }),
      offset: fc.constantFrom(0, 0, 512, 2048),
    });
    const shape = fc.record({
      streams: fc.constantFrom("one", "separate", "lifetime"),
      policy: fc.constantFrom("greedy", "cost-benefit", "d-choices", "fifo"),
      blocking: fc.constantFrom("none", "plane", "die", "channel"),
      isProtected: fc.boolean(),
      slc: fc.constantFrom(0, "256K", "1M"),
      full: fc.constantFrom("direct", "fold"),
      planes: fc.constantFrom(1, 2),
      state: fc.constantFrom("fresh", "sequential", "random"),
    });
    fc.assert(
      fc.property(shape, fc.array(step, { minLength: 100, maxLength: 400 }), (drawn, steps) => {
        const drive = new TestDrive(
          plainDrive({
            flash: {
              channels: 2,
              planes: drawn.planes,
              pageSize: 8192,
              cell: "mlc",
              pagesPerBlock: 16,
              suspend: { program: 2, erase: 2 },
              independentPlanes: drawn.planes === 2,
            },
            ftl: { streams: drawn.streams, overProvisioning: 0.3 },
            gc: { policy: drawn.policy, blocking: drawn.blocking, idleAfter: "5ms" },
            slcCache: { static: drawn.slc, full: drawn.full, foldAfter: "3ms" },
            writeBuffer: { size: 2 ** 17, powerLossProtection: drawn.isProtected },
            precondition: { state: drawn.state },
          }),
          2 ** 24,
          { capacity: 512 },
        );
        for (const { op, unit, length, offset } of steps) {
          const start = op === "flush" ? 0 : unit * unitBytes + offset;
          const bytes = op === "flush" ? 0 : Math.min(length * unitBytes, 2 ** 24 - start);
          drive.submit(op as "write", start, bytes);
          drive.runTo(drive.nowNs + 100_000);
        }
        drive.settle();
        expect(drive.completedSlots.length).toBe(steps.length);
        drainAll(drive);
        drive.checkConservation();
      }),
      { seed: 77, numRuns: 150 },
    );
  });
});
