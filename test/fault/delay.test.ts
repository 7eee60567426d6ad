import { describe, expect, test } from "vitest";
import { FaultBench } from "./support.js";

function delaysNs(options: Record<string, unknown>, count: number): number[] {
  const bench = new FaultBench({ seed: 1 });
  bench.faults.add({ kind: "delay", options });
  return Array.from({ length: count }, () => bench.judge({ op: "read" }).delayNs);
}

describe("a fixed delay", () => {
  test.each([
    ["0", 0],
    ["500ns", 500],
    ["1.5us", 1500],
    ["5ms", 5e6],
    ["1h", 3.6e12],
  ])("%s is exact", (delay, expectedNs) => {
    expect(delaysNs({ delay }, 3)).toEqual([expectedNs, expectedNs, expectedNs]);
  });
});

describe("a lognormal delay", () => {
  // Seed 1, 200 000 samples. The logarithm is normal, so its mean and deviation have standard errors of
  // sigma / sqrt(n) and sigma / sqrt(2 n); 4.5 of them is the tolerance.
  test.each([0.1, 0.5, 1.5])("of sigma %d has the median and the spread that were asked for", (sigma) => {
    const count = 200_000;
    const logs = delaysNs({ distribution: "lognormal", median: "2ms", sigma }, count).map((delay) =>
      Math.log(delay),
    );
    const mean = logs.reduce((sum, log) => sum + log, 0) / count;
    const variance = logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / (count - 1);
    expect(Math.abs(mean - Math.log(2e6))).toBeLessThan((4.5 * sigma) / Math.sqrt(count));
    expect(Math.abs(Math.sqrt(variance) - sigma)).toBeLessThan((4.5 * sigma) / Math.sqrt(2 * count));
  });

  test("has the long tail of one: the 99th percentile is median * exp(2.326 sigma)", () => {
    const count = 200_000;
    const sorted = delaysNs({ distribution: "lognormal", median: "2ms", sigma: 1 }, count).sort(
      (a, b) => a - b,
    );
    // Seed 1. A sample quantile's standard error here is about 0.9 % of it; 4 % is the tolerance.
    expect(Math.abs(sorted[count * 0.99] / (2e6 * Math.exp(2.3263)) - 1)).toBeLessThan(0.04);
  });

  test("without spread is the median", () => {
    expect(delaysNs({ distribution: "lognormal", median: "2ms", sigma: 0 }, 2)).toEqual([2e6, 2e6]);
  });

  test("is never longer than an hour", () => {
    const longest = delaysNs({ distribution: "lognormal", median: "1h", sigma: 4 }, 1000).reduce((a, b) =>
      Math.max(a, b),
    );
    expect(longest).toBe(3.6e12);
  });
});
