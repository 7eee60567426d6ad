import { createHistogram } from "node:perf_hooks";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Histogram } from "../../src/base/histogram.js";
import { Random } from "../../src/base/random.js";

/** Half a bucket of a 64th of a power of two, and the last bit of a division. */
const tolerance = 1 / 128 + 1e-12;
const quantiles = [0.001, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 1];

/** Values over the histogram's whole range, whole and fractional, many near powers of two. */
const values = fc.oneof(
  fc.double({ min: 0, max: 2 ** 42 - 1, noNaN: true }),
  fc.integer({ min: 0, max: 10_000_000 }),
  fc
    .tuple(fc.integer({ min: 0, max: 41 }), fc.constantFrom(-1, -0.5, -0.001, 0, 0.001, 0.5, 1))
    .map(([exponent, step]) => Math.max(0, 2 ** exponent + step)),
);

describe("a histogram", () => {
  it("puts every value into the one bucket whose bounds hold it", () => {
    fc.assert(
      fc.property(values, (value) => {
        const histogram = new Histogram();
        histogram.record(value);
        const [bucket, ...others] = histogram.buckets();
        expect(others).toEqual([]);
        expect(bucket.fromNs).toBeLessThanOrEqual(value);
        expect(bucket.toNs).toBeGreaterThan(value);
        // No bucket is wider than a 64th of what it holds, nor narrower than 1 ns.
        expect(bucket.toNs - bucket.fromNs).toBeLessThanOrEqual(Math.max(1, value / 64));
      }),
      { numRuns: 2000 },
    );
  });

  it("has buckets without gap or overlap from 0 to 2^42 ns", () => {
    const histogram = new Histogram();
    for (let low = 0; low < 2 ** 42; ) {
      histogram.record(low);
      low += low < 64 ? 1 : 2 ** (Math.floor(Math.log2(low)) - 6);
    }
    let end = 0;
    for (const { fromNs, toNs, count } of histogram.buckets()) {
      expect([fromNs, count]).toEqual([end, 1]);
      end = toNs;
    }
    expect(end).toBe(2 ** 42);
  });

  it("reports every quantile within 1/128 of the value of that rank", () => {
    fc.assert(
      fc.property(fc.array(values, { minLength: 1, maxLength: 300 }), (recorded) => {
        const histogram = new Histogram();
        for (const value of recorded) histogram.record(value);
        const sorted = recorded.toSorted((a, b) => a - b);
        for (const quantile of quantiles) {
          const exact = sorted[Math.max(1, Math.ceil(quantile * sorted.length)) - 1];
          // Below 64 ns a bucket is 1 ns wide and reports its lower bound.
          const allowed = exact < 64 ? 1 : exact * tolerance;
          expect(Math.abs(histogram.quantile(quantile) - exact)).toBeLessThanOrEqual(allowed);
        }
      }),
    );
  });

  it("agrees with Node's HDR histogram on a lognormal latency distribution", () => {
    const random = new Random(7, "histogram");
    const ours = new Histogram();
    const oracle = createHistogram({ figures: 5 });
    for (let i = 0; i < 20_000; i++) {
      // Median 1 ms, with a tail into seconds: both sides of 2^32 ns see values.
      const value = Math.max(1, Math.round(1e6 * Math.exp(2 * random.nextNormal())));
      ours.record(value);
      oracle.record(value);
    }
    const summary = ours.summary();
    expect(summary.count).toBe(20_000);
    // HDR's five figures: 1e-5 of relative error on its side.
    expect(relative(summary.meanNs, oracle.mean)).toBeLessThan(1e-4);
    expect(relative(summary.stdevNs, oracle.stddev)).toBeLessThan(1e-3);
    expect(relative(summary.minNs, oracle.min)).toBeLessThan(1e-4);
    expect(relative(summary.maxNs, oracle.max)).toBeLessThan(1e-4);
    expect(summary.maxNs).toBeGreaterThan(2 ** 30);
    expect(relative(summary.p50Ns, oracle.percentile(50))).toBeLessThan(tolerance + 1e-4);
    expect(relative(summary.p90Ns, oracle.percentile(90))).toBeLessThan(tolerance + 1e-4);
    expect(relative(summary.p99Ns, oracle.percentile(99))).toBeLessThan(tolerance + 1e-4);
    expect(relative(summary.p999Ns, oracle.percentile(99.9))).toBeLessThan(tolerance + 1e-4);
  });

  it("keeps mean, minimum and maximum exact for what lies outside its buckets", () => {
    const histogram = new Histogram();
    histogram.record(-5);
    histogram.record(2 ** 43);
    expect(histogram.summary()).toMatchObject({ count: 2, meanNs: 2 ** 42, minNs: 0, maxNs: 2 ** 43 });
  });

  it("lives where it is told to, and reads a zeroed region as empty", () => {
    const shared = new SharedArrayBuffer(2 * Histogram.byteLength);
    const first = new Histogram(shared, 0);
    const second = new Histogram(shared, Histogram.byteLength);
    first.record(1000);
    expect(new Histogram(shared, 0).count).toBe(1);
    expect(second.count).toBe(0);
    expect(second.quantile(0.5)).toBeNaN();
  });

  it("is empty after a reset", () => {
    const histogram = new Histogram();
    histogram.record(10);
    histogram.reset();
    histogram.record(20);
    expect(histogram.summary()).toMatchObject({ count: 1, minNs: 20, maxNs: 20, p50Ns: 20, stdevNs: 0 });
  });
});

function relative(a: number, b: number): number {
  return Math.abs(a - b) / b;
}
