import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Random } from "../../src/base/random.js";

const seeds = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });

describe("the generator", () => {
  it("is sfc32, word for word", () => {
    fc.assert(
      fc.property(seeds, fc.string(), (seed, stream) => {
        const random = new Random(seed, stream);
        const reference = sfc32(seed, stream);
        for (let i = 0; i < 40; i++) expect(random.nextUint32()).toBe(reference());
      }),
    );
  });

  it("repeats from its seed, and differs between streams and between seeds", () => {
    const draw = (seed: number, stream: string) => {
      const random = new Random(seed, stream);
      return Array.from({ length: 8 }, () => random.nextUint32()).join();
    };
    expect(draw(1, "model")).toBe(draw(1, "model"));
    const distinct = [
      draw(1, "model"),
      draw(2, "model"),
      draw(1, "fault/1"),
      draw(1 + 2 ** 32, "model"),
      draw(1, ""),
    ];
    expect(new Set(distinct).size).toBe(distinct.length);
  });

  it("stays in its range at every bound", () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), (seed, bound) => {
        const random = new Random(seed, "range");
        for (let i = 0; i < 20; i++) {
          const value = random.nextInteger(bound);
          expect(Number.isInteger(value) && value >= 0 && value < bound).toBe(true);
        }
      }),
    );
  });

  it("keeps below the bound even at the largest fraction it can draw", () => {
    const random = new Random(1, "edge");
    random.next = () => 1 - 2 ** -53;
    for (const bound of [1, 3, 10, 2 ** 32 + 1, 2 ** 52 + 1, Number.MAX_SAFE_INTEGER]) {
      expect(random.nextInteger(bound)).toBe(bound - 1);
    }
  });
});

// Statistical: seeds are fixed, so these never flake. Tolerances are five standard errors of the figure each checks.
describe("the distributions", () => {
  const count = 100_000;
  const sample = (draw: (random: Random) => number) => {
    const random = new Random(20_240_601, "distribution");
    return Float64Array.from({ length: count }, () => draw(random));
  };

  it("uniform: every sixteenth of [0, 1) gets its share (chi-square, 15 degrees of freedom, p = 1e-4)", () => {
    const cells = new Array<number>(16).fill(0);
    for (const value of sample((random) => random.next())) cells[Math.floor(value * 16)]++;
    const expected = count / 16;
    const chiSquare = cells.reduce((sum, seen) => sum + (seen - expected) ** 2 / expected, 0);
    expect(chiSquare).toBeLessThan(44.3);
  });

  it("normal: mean 0, variance 1, and no correlation between the two values of one round", () => {
    const values = sample((random) => random.nextNormal());
    expect(Math.abs(mean(values))).toBeLessThan(5 / Math.sqrt(count));
    expect(Math.abs(mean(values.map((value) => value * value)) - 1)).toBeLessThan(5 * Math.sqrt(2 / count));
    const products = values.filter((_, i) => i % 2 === 0).map((value, i) => value * values[2 * i + 1]);
    expect(Math.abs(mean(products))).toBeLessThan(5 / Math.sqrt(count / 2));
  });

  it("exponential: the mean asked for, and e^-1 of the values above it", () => {
    const values = sample((random) => random.nextExponential(250));
    expect(Math.abs(mean(values) - 250)).toBeLessThan((5 * 250) / Math.sqrt(count));
    const above = values.filter((value) => value > 250).length / count;
    const p = Math.exp(-1);
    expect(Math.abs(above - p)).toBeLessThan(5 * Math.sqrt((p * (1 - p)) / count));
    expect(Math.min(...values.slice(0, 1000))).toBeGreaterThanOrEqual(0);
  });
});

function mean(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The reference generator as PractRand states it, in BigInt arithmetic, seeded as `Random` documents. */
function sfc32(seed: number, stream: string): () => number {
  const wrap = (value: bigint) => value & 0xffffffffn;
  let hash = 0x811c9dc5n;
  for (let i = 0; i < stream.length; i++) {
    hash = wrap((hash ^ BigInt(stream.charCodeAt(i))) * 0x01000193n);
  }
  let a = wrap(BigInt(seed));
  let b = wrap(BigInt(seed) >> 32n);
  let c = hash;
  let counter = 1n;
  const next = () => {
    const result = wrap(a + b + counter);
    counter = wrap(counter + 1n);
    a = b ^ (b >> 9n);
    b = wrap(c + (c << 3n));
    c = wrap((wrap(c << 21n) | (c >> 11n)) + result);
    return Number(result);
  };
  for (let i = 0; i < 12; i++) next();
  return next;
}
