import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Random } from "../../src/base/random.js";
import type { Distribution } from "../../src/workload/options.js";
import { Permutation } from "../../src/workload/permutation.js";
import { createRanks } from "../../src/workload/ranks.js";

const draws = 200_000;

function drawRanks(distribution: Distribution, count: number): Float64Array {
  const ranks = createRanks(distribution, count, new Random(1, "test"));
  const seen = new Float64Array(count);
  for (let i = 0; i < draws; i++) seen[ranks.next()]++;
  return seen;
}

describe("permutation", () => {
  test("every number comes exactly once, whatever the count and the keys", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3000 }), fc.integer({ min: 0 }), (count, seed) => {
        const permutation = new Permutation(count, new Random(seed, "test"));
        const seen = new Set<number>();
        for (let i = 0; i < count; i++) seen.add(permutation.at(i));
        expect(seen.size).toBe(count);
        expect(Math.min(...seen)).toBe(0);
        expect(Math.max(...seen)).toBe(count - 1);
      }),
      { numRuns: 200 },
    );
  });

  test("stays within counts beyond 32 bits", () => {
    const count = 18e12 / 512;
    const permutation = new Permutation(count, new Random(1, "test"));
    const seen = new Set<number>();
    for (let i = 0; i < 1000; i++) {
      const value = permutation.at(i);
      expect(Number.isInteger(value) && value >= 0 && value < count).toBe(true);
      seen.add(value);
    }
    expect(seen.size).toBe(1000);
  });

  test("looks random: places are uniform, and neighbours are unrelated", () => {
    const count = 1_000_003;
    const permutation = new Permutation(count, new Random(1, "test"));
    const bins = new Float64Array(100);
    let product = 0;
    for (let i = 0; i < 50_000; i++) {
      const value = permutation.at(i);
      bins[Math.floor((value / count) * 100)]++;
      product += (value / count - 0.5) * (permutation.at(i + 1) / count - 0.5);
    }
    // Chi-square with 99 degrees of freedom exceeds 148 once in a thousand.
    const chiSquare = bins.reduce((sum, bin) => sum + (bin - 500) ** 2 / 500, 0);
    expect(chiSquare).toBeLessThan(148);
    // Serial correlation of 50,000 pairs has a standard error of 0.0045; four allowed.
    expect(Math.abs(product / 50_000 / (1 / 12))).toBeLessThan(0.018);
  });
});

describe("popularity of blocks", () => {
  test.each([0.5, 0.99, 1, 1.2, 2])(
    "zipf with theta %d gives rank r a share in proportion to r^-theta",
    (theta) => {
      const count = 1000;
      const seen = drawRanks({ kind: "zipf", theta }, count);
      let zeta = 0;
      for (let rank = 1; rank <= count; rank++) zeta += rank ** -theta;
      let chiSquare = 0;
      for (let rank = 0; rank < 100; rank++) {
        const expected = (draws * (rank + 1) ** -theta) / zeta;
        chiSquare += (seen[rank] - expected) ** 2 / expected;
      }
      // The 100 most popular ranks, seed 1: chi-square with about 100 degrees of freedom exceeds 150 once in a thousand.
      expect(chiSquare).toBeLessThan(150);
    },
  );

  test("zipf reaches billions of blocks without tables", () => {
    const ranks = createRanks({ kind: "zipf", theta: 0.8 }, 2 ** 32, new Random(1, "test"));
    let largest = 0;
    for (let i = 0; i < 1000; i++) largest = Math.max(largest, ranks.next());
    expect(largest).toBeGreaterThan(2 ** 31);
    expect(largest).toBeLessThan(2 ** 32);
  });

  test("pareto gives the share h of the blocks the share 1 - h of the accesses", () => {
    const count = 10_000;
    const seen = drawRanks({ kind: "pareto", h: 0.2 }, count);
    const popular = seen.slice(0, 0.2 * count).reduce((sum, n) => sum + n, 0);
    // 200,000 draws, seed 1: a standard deviation is 0.0009; the first block alone is rounded to, hence 0.005.
    expect(Math.abs(popular / draws - 0.8)).toBeLessThan(0.005);
  });

  test("normal has its mean in the middle and the deviation asked for", () => {
    const count = 10_000;
    const seen = drawRanks({ kind: "normal", deviationPercent: 10 }, count);
    const mean = seen.reduce((sum, n, rank) => sum + n * rank, 0) / draws;
    const variance = seen.reduce((sum, n, rank) => sum + n * (rank - mean) ** 2, 0) / draws;
    // 200,000 draws, seed 1: standard errors 2.2 and 1.6 blocks; four allowed.
    expect(Math.abs(mean - 5000)).toBeLessThan(10);
    expect(Math.abs(Math.sqrt(variance) - 1000)).toBeLessThan(8);
  });
});
