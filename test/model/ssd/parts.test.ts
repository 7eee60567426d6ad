/** The parts of the model that can be held against something simpler. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Random } from "../../../src/base/random.js";
import { parseSize } from "../../../src/base/units.js";
import { Geometry } from "../../../src/model/ssd/geometry.js";
import { MapCache } from "../../../src/model/ssd/map-cache.js";
import { Mapping, nowhere } from "../../../src/model/ssd/mapping.js";
import { precondition } from "../../../src/model/ssd/precondition.js";
import { Lattice, Shuffle } from "../../../src/model/ssd/scatter.js";
import { Superblocks } from "../../../src/model/ssd/superblocks.js";
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

describe("the mapping", () => {
  it.each(["4G", "256G"])(
    "lists of a superblock what unit by unit is found there, moved or not (%s, seed 5)",
    (size) => {
      const parameters = plainDrive({
        flash: { channels: 2, planes: 4, pageSize: 16384, pagesPerBlock: 64 },
        precondition: { state: "random" },
      });
      const geometry = new Geometry(parameters, parseSize(size));
      const { stripeUnits, superblockUnits, hostUnits } = geometry;
      const superblocks = new Superblocks(geometry.superblocks, 0);
      const random = new Random(5, "test");
      const mapping = new Mapping(
        geometry,
        superblocks,
        precondition(parameters, geometry, superblocks, random),
      );
      // What a new superblock takes has left its place in others; part of it is trimmed again.
      const taken = superblocks.open(0, false, 0);
      for (let place = 0; place < 4 * stripeUnits; place++) {
        // Of the same group, where a group holds several.
        const unit = place % 2 === 0 ? random.nextInteger(hostUnits - 1) : hostUnits - 1 - place;
        const before = mapping.locate(unit);
        const address = taken * superblockUnits + place;
        mapping.assign(unit, address, taken, before === nowhere ? nowhere : mapping.superblockOf(before));
        if (place % 5 === 0) mapping.unmap(unit, unit + 1);
      }
      const units = new Uint32Array(2 * stripeUnits);
      const distances = new Uint8Array(2 * stripeUnits);
      const row = stripeUnits;
      for (const superblock of [taken, 0, 1, 2]) {
        for (let first = 0; first < 4 * stripeUnits; first += stripeUnits) {
          const expected = new Map<number, number>();
          for (let i = 0; i < stripeUnits; i++) {
            const unit = mapping.unitAt(superblock * superblockUnits + first + i);
            if (unit !== nowhere) expected.set(i, unit);
          }
          const listed = () =>
            new Map(Array.from({ length: found }, (_, i) => [distances[row + i], units[row + i]]));
          let found = mapping.listValid(superblock, first, stripeUnits, units, distances, row);
          expect(listed()).toEqual(expected);
          // Everything is valid still; then one is not.
          expect(mapping.keepValid(superblock, first, found, units, distances, row)).toBe(found);
          const [gone] = expected;
          mapping.unmap(gone[1], gone[1] + 1);
          expected.delete(gone[0]);
          found = mapping.keepValid(superblock, first, found, units, distances, row);
          expect(listed()).toEqual(expected);
        }
      }
    },
  );
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
