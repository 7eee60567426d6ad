import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Extents, none } from "../../../src/model/hdd/extents.js";
import { ReadCache } from "../../../src/model/hdd/read-cache.js";
import { Smr } from "../../../src/model/hdd/smr.js";
import { WriteCache } from "../../../src/model/hdd/write-cache.js";

describe("extents", () => {
  it("find, follow and forget runs as a sorted list would", () => {
    // Runs are the even numbers 2k to 2k+1, so that none overlap.
    const step = fc.record({ add: fc.boolean(), at: fc.integer({ min: 0, max: 40 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const extents = new Extents(41);
        const oracle = new Map<number, number>();
        for (const { add, at } of steps) {
          const start = 2 * at;
          if (add && !oracle.has(start)) oracle.set(start, extents.insert(start, start + 1));
          if (!add && oracle.has(start)) {
            extents.remove(oracle.get(start)!);
            oracle.delete(start);
          }
          const sorted = [...oracle.keys()].sort((a, b) => a - b);
          expect(extents.size).toBe(sorted.length);
          const forward: number[] = [];
          let last = none;
          for (let extent = extents.first(); extent !== none; extent = extents.next(extent)) {
            forward.push(extents.start[extent]);
            expect(extents.previous(extent)).toBe(last);
            last = extent;
          }
          expect(forward).toEqual(sorted);
          const before = sorted.filter((value) => value <= start + 1).at(-1);
          const found = extents.atOrBefore(start + 1);
          expect(found === none ? undefined : extents.start[found]).toBe(before);
          const holding = sorted.find((value) => value + 1 > start + 1);
          const ending = extents.endingAfter(start + 1);
          expect(ending === none ? undefined : extents.start[ending]).toBe(holding);
        }
      }),
      { seed: 1 },
    );
  });
});

describe("write cache", () => {
  const blocks = Array.from({ length: 110 }, (_, block) => block);
  const options = { capacitySectors: 60, extents: 5, extentSectors: 12, flushes: 4 };

  it("holds exactly what was written and not yet written back, within its bounds", () => {
    const step = fc.record({
      kind: fc.constantFrom("write", "write", "write", "discard", "destage"),
      start: fc.integer({ min: 0, max: 90 }),
      length: fc.integer({ min: 1, max: 15 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const cache = new WriteCache(options);
        const dirty = new Set<number>();
        for (const { kind, start, length } of steps) {
          const end = start + length;
          if (kind === "write") {
            if (cache.insert(start, end)) for (let block = start; block < end; block++) dirty.add(block);
            // Only a full cache refuses: too many bytes, or no run left.
            else expect(cache.heldSectors + length > 60 || cache.runs.size === 5).toBe(true);
          } else if (kind === "discard") {
            cache.discard(start, end);
            const isHole = cache.holds(start, end);
            for (let block = start; block < end; block++) if (!isHole) dirty.delete(block);
          } else if (!cache.isClean) {
            const run = cache.runs.first();
            const [from, to, period] = [cache.runs.start[run], cache.runs.end[run], cache.periodOf(run)];
            cache.depart(run);
            cache.arrived(to - from, period);
            for (let block = from; block < to; block++) dirty.delete(block);
          }
          const held = blocks.filter((block) => cache.holds(block, block + 1));
          expect(held).toEqual([...dirty].sort((a, b) => a - b));
          expect(cache.heldSectors).toBe(dirty.size);
          expect(cache.isClean).toBe(dirty.size === 0);
        }
      }),
      { seed: 2, numRuns: 300 },
    );
  });

  it("knows when everything before a flush is on the media, whatever comes after it", () => {
    const step = fc.record({
      kind: fc.constantFrom("write", "write", "flush", "destage"),
      start: fc.integer({ min: 0, max: 90 }),
      length: fc.integer({ min: 1, max: 6 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const cache = new WriteCache(options);
        let flush: { period: number; blocks: Set<number> } | undefined;
        const dirty = new Set<number>();
        for (const { kind, start, length } of steps) {
          if (kind === "write" && cache.insert(start, start + length)) {
            for (let block = start; block < start + length; block++) dirty.add(block);
          } else if (kind === "flush" && flush === undefined) {
            flush = { period: cache.endPeriod(), blocks: new Set(dirty) };
          } else if (kind === "destage" && !cache.isClean) {
            const run = cache.oldestRun;
            const [from, to, period] = [cache.runs.start[run], cache.runs.end[run], cache.periodOf(run)];
            cache.depart(run);
            cache.arrived(to - from, period);
            for (let block = from; block < to; block++) {
              dirty.delete(block);
              flush?.blocks.delete(block);
            }
          }
          if (flush === undefined) continue;
          // It may wait for more than it must (a run keeps the age of its oldest part), never for less.
          if (cache.isFlushed(flush.period)) {
            expect(flush.blocks.size).toBe(0);
            flush = undefined;
          } else if (dirty.size === 0)
            throw new Error("everything is on the media, and the flush still waits");
        }
      }),
      { seed: 3, numRuns: 300 },
    );
  });

  it("joins neighbours into one run up to the largest size", () => {
    const cache = new WriteCache(options);
    for (const start of [0, 4, 8, 12]) cache.insert(start, start + 4);
    expect(cache.runs.size).toBe(2);
    expect(cache.runs.end[cache.runs.first()]).toBe(12);
  });
});

describe("read cache", () => {
  it("gives the least recently used segment to a new stream, never one being filled", () => {
    const cache = new ReadCache(2, 100);
    const first = cache.allocate(0);
    cache.fill(first, 10);
    const second = cache.allocate(50);
    cache.fill(second, 60);
    cache.touch(first);
    expect(cache.allocate(80)).toBe(second);
    cache.setFilling(first, true);
    cache.setFilling(second, true);
    expect(cache.allocate(90)).toBe(-1);
    expect(cache.find(5)).toBe(first);
    expect(cache.find(55)).toBe(-1);
  });

  it("slides a segment with its stream", () => {
    const cache = new ReadCache(1, 100);
    const segment = cache.allocate(0);
    cache.fill(segment, 130);
    expect([cache.start[segment], cache.end[segment]]).toEqual([30, 130]);
  });
});

describe("the map of a shingled drive", () => {
  const parameters = {
    cacheSize: 512 * 64,
    mapEntries: 16,
    bandSizeOuter: 512 * 32,
    bandSizeInner: 512 * 16,
    cleanAfter: 0,
    highWater: 1,
    journalEvery: 0,
    journalTime: 0,
  };

  it("always knows where the newest copy of each block is", () => {
    const step = fc.record({
      isClean: fc.boolean(),
      start: fc.integer({ min: 0, max: 180 }),
      length: fc.integer({ min: 1, max: 9 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const smr = new Smr(parameters, 200);
        const places = Array.from({ length: 200 }, (_, block) => block);
        for (const { isClean, start, length } of steps) {
          const end = start + length;
          if (isClean && !smr.isClean) {
            const band = smr.bandToClean();
            smr.cleaned(band);
            for (let block = smr.bandStart(band); block < smr.bandEnd(band); block++) places[block] = block;
          } else if (smr.canTake(start, end)) {
            const place = smr.write(start, end);
            for (let block = start; block < end; block++) places[block] = place + block - start;
          }
          const found: number[] = [];
          for (let block = 0; block < 200; block += smr.run) {
            smr.locate(block, 200);
            for (let i = 0; i < smr.run; i++) found.push(smr.place + i);
          }
          expect(found).toEqual(places);
        }
        for (let bands = 0; !smr.isClean; bands++) {
          expect(bands).toBeLessThan(30);
          smr.cleaned(smr.bandToClean());
        }
        expect(smr.fullness).toBe(0);
      }),
      { seed: 4, numRuns: 300 },
    );
  });

  it("lets a stream that reaches a band's beginning go straight to its bands", () => {
    const smr = new Smr(parameters, 200);
    // The first band ends at block 24.
    for (const start of [4, 8, 12, 16]) expect(smr.write(start, start + 4)).toBeLessThan(0);
    expect(smr.write(20, 28)).toBe(20);
    expect(smr.write(28, 36)).toBe(28);
    expect(smr.write(100, 104)).toBeLessThan(0);
  });
});
