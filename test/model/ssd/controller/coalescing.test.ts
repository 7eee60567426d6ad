import { describe, expect, it } from "vitest";
import { Coalescing } from "../../../../src/model/ssd/controller/coalescing.js";

/** Posts completions at their times and notes when the host learns of each. */
function reported(
  parameters: { threshold: number; time: number },
  posts: readonly { slot: number; queue?: number; atNs: number }[],
): [number, number][] {
  const coalescing = new Coalescing(parameters, 4, 16);
  const seen: [number, number][] = [];
  const sink = { complete: (slot: number, dueNs: number) => seen.push([slot, dueNs]) };
  for (const { slot, queue = 0, atNs } of posts) {
    coalescing.advance(atNs, sink);
    coalescing.post(slot, queue, atNs, sink);
  }
  coalescing.advance(Number.MAX_VALUE, sink);
  expect(coalescing.nextEventNs()).toBe(Number.POSITIVE_INFINITY);
  return seen;
}

describe("interrupt coalescing", () => {
  it("reports each completion at once while time or threshold is 0", () => {
    const posts = [1, 2, 3].map((slot) => ({ slot, atNs: slot * 10 }));
    const each = [
      [1, 10],
      [2, 20],
      [3, 30],
    ];
    expect(reported({ threshold: 7, time: 0 }, posts)).toEqual(each);
    expect(reported({ threshold: 0, time: 5 }, posts)).toEqual(each);
  });

  it("fires at exactly the threshold, which is zero-based", () => {
    const posts = [1, 2, 3, 4].map((slot) => ({ slot, atNs: slot * 10 }));
    expect(reported({ threshold: 2, time: 1 }, posts)).toEqual([
      [1, 30],
      [2, 30],
      [3, 30],
      [4, 100_040],
    ]);
  });

  it("fires exactly the aggregation time, in units of 100 us, after the first entry", () => {
    const posts = [
      { slot: 1, atNs: 5 },
      { slot: 2, atNs: 300_004 },
      { slot: 3, atNs: 300_005 },
    ];
    expect(reported({ threshold: 9, time: 3 }, posts)).toEqual([
      [1, 300_005],
      [2, 300_005],
      [3, 600_005],
    ]);
  });

  it("keeps queues apart, each with its own interrupt", () => {
    const posts = [
      { slot: 1, queue: 0, atNs: 0 },
      { slot: 2, queue: 1, atNs: 10 },
      { slot: 3, queue: 2, atNs: 20 },
      { slot: 4, queue: 1, atNs: 30 },
      { slot: 5, queue: 1, atNs: 40 },
    ];
    expect(reported({ threshold: 1, time: 1 }, posts)).toEqual([
      [2, 30],
      [4, 30],
      [1, 100_000],
      [3, 100_020],
      [5, 100_040],
    ]);
  });

  it("bounds every wait by the time and every batch by the threshold, under any load", () => {
    const coalescing = new Coalescing({ threshold: 7, time: 1 }, 4, 64);
    const posted = new Float64Array(64);
    const free = Array.from({ length: 64 }, (_, slot) => slot);
    let batch = 0;
    let batchAtNs = -1;
    let lastNs = 0;
    const sink = {
      complete(slot: number, dueNs: number) {
        expect(dueNs - posted[slot]).toBeLessThanOrEqual(100_000);
        expect(dueNs).toBeGreaterThanOrEqual(lastNs);
        lastNs = dueNs;
        batch = dueNs === batchAtNs ? batch + 1 : 1;
        batchAtNs = dueNs;
        expect(batch).toBeLessThanOrEqual(8);
        free.push(slot);
      },
    };
    let nowNs = 0;
    for (let i = 0; i < 10_000; i++) {
      nowNs += ((i * 7919) % 4001) + 1;
      coalescing.advance(nowNs, sink);
      const slot = free.shift()!;
      posted[slot] = nowNs;
      coalescing.post(slot, i % 4, nowNs, sink);
    }
  });
});
