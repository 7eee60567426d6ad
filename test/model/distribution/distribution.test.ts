import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Random } from "../../../src/base/random.js";
import { Op, type Operation, RequestTable } from "../../../src/base/request.js";
import { createDistributionModel } from "../../../src/model/distribution/model.js";
import { createSampler } from "../../../src/model/distribution/sampler.js";
import { distributionSchema, type LatencyDistribution } from "../../../src/model/distribution/schema.js";
import { loadProfile } from "../../../src/profile/load.js";

const us = 1e3;
const ms = 1e6;

function parsed(latency: unknown): LatencyDistribution {
  return distributionSchema.parse({ latency: { all: latency } }).latency[Op.read];
}

/** Sorted samples; the seed is 1. */
function samples(latency: unknown, count = 200_000): Float64Array {
  const sampler = createSampler(parsed(latency));
  const random = new Random(1, "test");
  return Float64Array.from({ length: count }, () => sampler.sampleNs(random)).sort();
}

const quantile = (sorted: Float64Array, p: number) => sorted[Math.ceil(p * sorted.length) - 1];
const mean = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Largest distance between the samples' distribution and `cdf`, times sqrt(n): over 1.63 once in a hundred seeds. */
function kolmogorovSmirnov(sorted: Float64Array, cdf: (ns: number) => number): number {
  let distance = 0;
  for (let i = 0; i < sorted.length; i++) {
    const probability = cdf(sorted[i]);
    distance = Math.max(distance, probability - i / sorted.length, (i + 1) / sorted.length - probability);
  }
  return distance * Math.sqrt(sorted.length);
}

/** Standard normal distribution function (Abramowitz and Stegun 7.1.26, error below 1.5e-7). */
function normalCdf(x: number): number {
  const t = 1 / (1 + (0.3275911 * Math.abs(x)) / Math.SQRT2);
  const poly =
    ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  const erf = 1 - poly * Math.exp((-x * x) / 2);
  return x >= 0 ? (1 + erf) / 2 : (1 - erf) / 2;
}

describe("a lognormal latency", () => {
  it("is fitted exactly to median and p99, and median and mean", () => {
    expect(parsed({ kind: "lognormal", median: "100us", p99: "400us" })).toEqual({
      kind: "lognormal",
      medianNs: 100 * us,
      sigma: Math.log(4) / 2.3263478740408408,
    });
    const byMean = parsed({ kind: "lognormal", median: "100us", mean: "150us" });
    if (byMean.kind !== "lognormal") throw new Error("a lognormal stays one");
    expect(byMean.medianNs * Math.exp(byMean.sigma ** 2 / 2)).toBeCloseTo(150 * us, 6);
  });

  it("has its quantiles and its mean, and passes Kolmogorov and Smirnov", () => {
    const sorted = samples({ kind: "lognormal", median: "100us", p99: "400us" });
    // The standard error of a quantile is sqrt(p (1 - p) / n) / density: 0.17 % of the median here, 0.5 % of p99.
    expect(Math.abs(quantile(sorted, 0.5) / (100 * us) - 1)).toBeLessThan(0.01);
    expect(Math.abs(quantile(sorted, 0.99) / (400 * us) - 1)).toBeLessThan(0.02);
    const sigma = Math.log(4) / 2.3263478740408408;
    expect(Math.abs(mean(sorted) / (100 * us * Math.exp(sigma ** 2 / 2)) - 1)).toBeLessThan(0.01);
    expect(kolmogorovSmirnov(sorted, (ns) => normalCdf(Math.log(ns / (100 * us)) / sigma))).toBeLessThan(
      1.63,
    );
  });

  it("takes exactly one measure of its spread", () => {
    for (const spread of [{}, { sigma: 1, p99: "1ms" }, { mean: "50us" }, { p99: "99us" }]) {
      const latency = { all: { kind: "lognormal", median: "100us", ...spread } };
      expect(distributionSchema.safeParse({ latency }).success, JSON.stringify(spread)).toBe(false);
    }
  });
});

describe("a Pareto latency", () => {
  it.each([
    [{ minimum: "1ms", shape: 2.5 }, 1 * ms, 2.5],
    [{ minimum: "1ms", mean: "2ms" }, 1 * ms, 2],
    [
      { median: "2ms", p99: "20ms" },
      2 * ms * 0.5 ** (1 / (Math.log(50) / Math.log(10))),
      Math.log(50) / Math.log(10),
    ],
  ])("of %j has the minimum and the shape that go with it", (written, minimumNs, shape) => {
    const fitted = parsed({ kind: "pareto", ...written });
    if (fitted.kind !== "pareto") throw new Error("a Pareto stays one");
    expect(fitted.minimumNs).toBeCloseTo(minimumNs, 6);
    expect(fitted.shape).toBeCloseTo(shape, 12);
    const sorted = samples({ kind: "pareto", ...written });
    expect(kolmogorovSmirnov(sorted, (ns) => 1 - (minimumNs / ns) ** shape)).toBeLessThan(1.63);
  });

  it("is cut at its maximum", () => {
    const sorted = samples({ kind: "pareto", minimum: "1ms", shape: 1, maximum: "100ms" });
    expect(sorted[sorted.length - 1]).toBe(100 * ms);
    // P(over the maximum) = minimum / maximum for shape 1.
    expect(sorted.filter((ns) => ns === 100 * ms).length / sorted.length).toBeCloseTo(0.01, 2);
  });
});

describe("a percentile table", () => {
  const table = { 0: "70us", 50: "115us", 90: "165us", 99: "185us", "99.9": "321us", 100: "2ms" };

  it.each(["geometric", "linear"])("gives back each of its percentiles (%s)", (interpolation) => {
    const sorted = samples({ kind: "percentiles", table, interpolation }, 400_000);
    expect(sorted[0]).toBeGreaterThanOrEqual(70 * us);
    expect(sorted[sorted.length - 1]).toBeLessThanOrEqual(2 * ms);
    for (const [percent, wanted] of [
      [50, 115],
      [90, 165],
      [99, 185],
      [99.9, 321],
    ]) {
      expect(Math.abs(quantile(sorted, percent / 100) / (wanted * us) - 1), `p${percent}`).toBeLessThan(0.03);
    }
  });

  it("goes between two percentiles by equal factors, or by equal steps", () => {
    const half = (interpolation: string) =>
      quantile(samples({ kind: "percentiles", table: { 0: "100us", 100: "400us" }, interpolation }), 0.5);
    expect(half("geometric") / us).toBeCloseTo(200, -1);
    expect(half("linear") / us).toBeCloseTo(250, -1);
  });

  it("stays at its outermost percentiles beyond them", () => {
    const sorted = samples({ kind: "percentiles", table: { 10: "100us", 90: "200us" } });
    expect(sorted[0]).toBe(100 * us);
    expect(sorted[sorted.length - 1]).toBe(200 * us);
  });

  it("finds any probability in any table as a plain search does", () => {
    const points = fc.array(fc.tuple(fc.double({ min: 0, max: 99.99, noNaN: true }), fc.nat(1_000_000)), {
      minLength: 1,
      maxLength: 40,
    });
    fc.assert(
      fc.property(points, fc.double({ min: 0, max: 0.999999, noNaN: true }), (given, probability) => {
        const times = given.map(([, ns]) => ns + 1).sort((a, b) => a - b);
        const percents = [...new Set(given.map(([percent]) => percent.toFixed(4)))].sort(
          (a, b) => Number(a) - Number(b),
        );
        const written = Object.fromEntries(percents.map((percent, i) => [percent, `${times[i]}ns`]));
        const distribution = parsed({ kind: "percentiles", table: written, interpolation: "linear" });
        if (distribution.kind !== "table") throw new Error("percentiles become a table");
        const { probabilities, timesNs } = distribution;
        const segment = probabilities.findLastIndex(
          (p, i) => p <= probability && i < probabilities.length - 1,
        );
        const fraction =
          (probability - probabilities[segment]) / (probabilities[segment + 1] - probabilities[segment]);
        const expected = timesNs[segment] + fraction * (timesNs[segment + 1] - timesNs[segment]);
        const random = { next: () => probability } as Random;
        expect(createSampler(distribution).sampleNs(random)).toBeCloseTo(expected, 6);
      }),
    );
  });

  it("refuses a table that falls", () => {
    const latency = { all: { kind: "percentiles", table: { 50: "100us", 99: "90us" } } };
    expect(distributionSchema.safeParse({ latency }).success).toBe(false);
  });
});

describe("a mixture", () => {
  it("draws from each part as often as its weight says", () => {
    const sorted = samples({
      kind: "mixture",
      of: [
        { weight: 3, latency: { kind: "constant", time: "1ms" } },
        { weight: 1, latency: { kind: "constant", time: "5ms" } },
      ],
    });
    // The standard error of the share is 0.001.
    expect(sorted.filter((ns) => ns === 1 * ms).length / sorted.length).toBeCloseTo(0.75, 2);
  });
});

describe("a fio run", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "blkforge-fio-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const written = (name: string, content: unknown) => {
    const path = join(folder, name);
    writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
    return path;
  };
  const clat = (bins: Record<string, number>) => {
    const N = Object.values(bins).reduce((sum, count) => sum + count, 0);
    return { clat_ns: { N, min: 1, max: 2, bins } };
  };

  it("with bins gives back every bin's share, within its width", () => {
    // fio's bucket of 90 112 to 91 135 ns, whose middle it prints, and two more.
    const bins = { 90624: 700, 117248: 200, 2113536: 100 };
    const file = written("plus.json", { jobs: [{ read: clat(bins) }] });
    const sorted = samples({ kind: "fio", file }, 100_000);
    for (const [middle, count] of Object.entries(bins)) {
      const half = 2 ** (Math.floor(Math.log2(Number(middle))) - 6) / 2;
      const inside = sorted.filter((ns) => Math.abs(ns - Number(middle)) <= half).length;
      expect(inside / sorted.length).toBeCloseTo(count / 1000, 2);
    }
    expect(sorted[0]).toBeGreaterThanOrEqual(90_112);
  });

  it("adds up the bins of several jobs, reads apart from writes", () => {
    const file = written("jobs.json", {
      jobs: [{ read: clat({ 1000: 10 }), write: clat({ 5000: 1 }) }, { read: clat({ 1000: 10, 3000: 20 }) }],
    });
    const { latency } = distributionSchema.parse({ latency: { all: { kind: "fio", file } } });
    const read = latency[Op.read];
    if (read.kind !== "table") throw new Error("a histogram becomes a table");
    expect(read.probabilities).toEqual([0, 0.5, 0.5, 1]);
    expect(latency[Op.write]).toMatchObject({ kind: "table", probabilities: [0, 1] });
    expect(latency[Op.trim]).toEqual({ kind: "constant", timeNs: 0 });
  });

  it("without bins uses percentiles, minimum and maximum, warnings in front or not", () => {
    const run = {
      jobs: [
        {
          read: {
            clat_ns: { N: 9, min: 70_000, max: 500_000, percentile: { "50.000000": 1e5, "99.000000": 2e5 } },
          },
        },
      ],
    };
    const file = written("plain.json", `fio: a warning\n${JSON.stringify(run)}`);
    expect(parsed({ kind: "fio", file })).toEqual({
      kind: "table",
      probabilities: [0, 0.5, 0.99, 1],
      timesNs: [70_000, 1e5, 2e5, 500_000],
      isGeometric: true,
    });
  });

  it("is found relative to the profile that names it, and refused in one sentence", () => {
    written("run.json", { jobs: [{ read: clat({ 1000: 1 }) }] });
    const profile = written(
      "mine.yaml",
      "model: distribution\nsize: 1G\nlatency:\n  read: { kind: fio, file: ./run.json }\n",
    );
    const loaded = loadProfile(profile);
    expect(loaded.model === "distribution" && loaded.parameters.latency[Op.read].kind).toBe("table");
    const complaint = (text: string) => {
      try {
        loadProfile(written("bad.yaml", `model: distribution\nsize: 1G\nlatency:\n  write: ${text}\n`));
        return "";
      } catch (error) {
        return String(error);
      }
    };
    expect(complaint("{ kind: fio, file: run.json }")).toContain("run.json has no writes");
    expect(complaint("{ kind: fio, file: none.json }")).toMatch(/bad\.yaml:4.*cannot read .*none\.json/);
    expect(complaint("{ kind: fio, file: bad.yaml }")).toContain("is not the JSON of a fio run");
  });
});

describe("the distribution model", () => {
  function run(written: Record<string, unknown>, arrivals: readonly number[], op: number = Op.read) {
    const requests = new RequestTable(arrivals.length);
    const model = createDistributionModel({
      parameters: distributionSchema.parse(written),
      requests,
      seed: 1,
    });
    const seen: { slot: number; dueNs: number }[] = [];
    const sink = { complete: (slot: number, dueNs: number) => seen.push({ slot, dueNs }) };
    for (const atNs of arrivals) {
      model.advance(atNs, sink);
      const slot = requests.acquire();
      requests.op[slot] = op;
      requests.arrivalNs[slot] = atNs;
      model.arrive(slot, atNs);
    }
    model.advance(Number.MAX_VALUE, sink);
    expect(model.nextEventNs()).toBe(Number.POSITIVE_INFINITY);
    return seen;
  }

  it("serves each operation by its own distribution, zeroes as writes", () => {
    const written = { latency: { all: "5us", read: "1us", write: "2us" } };
    const tookNs = (name: Operation) => run(written, [0], Op[name])[0].dueNs;
    expect((["read", "write", "flush", "trim", "zeroes"] as const).map(tookNs)).toEqual([
      1e3, 2e3, 5e3, 5e3, 2e3,
    ]);
    expect((["append", "zoneOpen"] as const).map(tookNs)).toEqual([2e3, 5e3]);
  });

  it("serves so many at once as concurrency says, in order of arrival", () => {
    const seen = run({ latency: "1ms", concurrency: 2 }, [0, 0, 0, 0, 5e6]);
    expect(seen.map(({ slot, dueNs }) => [slot, dueNs / ms])).toEqual([
      [0, 1],
      [1, 1],
      [2, 2],
      [3, 2],
      [4, 6],
    ]);
  });

  it("obeys Little's law under a limit: throughput is concurrency over mean latency, 1 %", () => {
    const count = 100_000;
    const seen = run(
      { latency: { all: { kind: "lognormal", median: "100us", p99: "300us" } }, concurrency: 8 },
      new Array<number>(count).fill(0),
    );
    const sigma = Math.log(3) / 2.3263478740408408;
    const expectedNs = (100 * us * Math.exp(sigma ** 2 / 2) * count) / 8;
    expect(Math.abs(seen[count - 1].dueNs / expectedNs - 1)).toBeLessThan(0.01);
  });
});
