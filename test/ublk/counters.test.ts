/** Queue threads count in C++, and TypeScript reads it: the two have to mean the same. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Histogram } from "../../src/base/histogram.js";
import { loadNative } from "../../src/base/native.js";

const { recordLatency } = loadNative();

test.skipIf(recordLatency === undefined)("a histogram filled natively is the one TypeScript fills", () => {
  const latency = fc.oneof(
    fc.double({ min: -10, max: 2 ** 44, noNaN: true }),
    fc.integer({ min: 0, max: 200 }),
    fc.integer({ min: 0, max: 42 }).map((power) => 2 ** power),
    fc.integer({ min: 1, max: 42 }).map((power) => 2 ** power - 1),
  );
  fc.assert(
    fc.property(fc.array(latency, { minLength: 1, maxLength: 50 }), (latencies) => {
      const ours = new Float64Array(Histogram.byteLength / 8);
      const natives = new Float64Array(Histogram.byteLength / 8);
      const histogram = new Histogram(ours.buffer);
      for (const value of latencies) {
        histogram.record(value);
        recordLatency!(natives, value);
      }
      expect(natives).toEqual(ours);
    }),
    { examples: [[[-0]]] },
  );
});
