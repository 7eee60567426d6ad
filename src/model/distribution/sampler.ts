/**
 * Draws latencies from a distribution. Nothing is allocated per sample.
 *
 * Each draw turns one or two uniform numbers into a time: by the inverse of the distribution function where it has one
 * (Pareto, tables), from a normal deviate for the lognormal.
 */
import type { Random } from "../../base/random.js";
import { QuantileTable } from "./quantile-table.js";
import { type LatencyDistribution, longestNs } from "./schema.js";

export interface Sampler {
  /** A latency, in nanoseconds. */
  sampleNs(random: Random): number;
}

export function createSampler(latency: LatencyDistribution): Sampler {
  switch (latency.kind) {
    case "constant":
      return new Constant(latency.timeNs);
    case "lognormal":
      return new Lognormal(latency.medianNs, latency.sigma);
    case "pareto":
      return new Pareto(latency.minimumNs, latency.shape, latency.maximumNs);
    case "table":
      return new Table(new QuantileTable(latency.probabilities, latency.timesNs, latency.isGeometric));
    case "mixture":
      return new Mixture(
        latency.parts.map(({ weight }) => weight),
        latency.parts.map((part) => createSampler(part.latency)),
      );
  }
}

class Constant implements Sampler {
  constructor(private readonly timeNs: number) {}

  sampleNs(): number {
    return this.timeNs;
  }
}

class Lognormal implements Sampler {
  constructor(
    private readonly medianNs: number,
    private readonly sigma: number,
  ) {}

  sampleNs(random: Random): number {
    return Math.min(this.medianNs * Math.exp(this.sigma * random.nextNormal()), longestNs);
  }
}

class Pareto implements Sampler {
  private readonly exponent: number;

  constructor(
    private readonly minimumNs: number,
    shape: number,
    private readonly maximumNs: number,
  ) {
    this.exponent = -1 / shape;
  }

  sampleNs(random: Random): number {
    return Math.min(this.minimumNs * (1 - random.next()) ** this.exponent, this.maximumNs);
  }
}

class Table implements Sampler {
  constructor(private readonly table: QuantileTable) {}

  sampleNs(random: Random): number {
    return this.table.quantileNs(random.next());
  }
}

class Mixture implements Sampler {
  /** Up to and including each part, the share of all weights. */
  private readonly cumulative: Float64Array;

  constructor(
    weights: readonly number[],
    private readonly parts: readonly Sampler[],
  ) {
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    let seen = 0;
    this.cumulative = Float64Array.from(weights, (weight) => {
      seen += weight;
      return seen / total;
    });
  }

  sampleNs(random: Random): number {
    const chosen = random.next();
    let part = 0;
    while (part < this.parts.length - 1 && this.cumulative[part] <= chosen) part++;
    return this.parts[part].sampleNs(random);
  }
}
