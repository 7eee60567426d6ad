/**
 * Popularity of blocks: random ranks from 0 (the most popular) to n - 1, by fio's distributions.
 *
 * Differences from fio, all towards the mathematical definition: zipf is exact, by rejection-inversion, where fio takes
 * Gray's approximation from a truncated sum; normal is a true normal distribution cut off at the ends of the range,
 * where fio sums twelve uniform numbers. As in fio, ranks say nothing of places: the caller scatters them.
 */
import type { Random } from "../base/random.js";
import type { Distribution } from "./options.js";

export interface Ranks {
  next(): number;
}

/** Ranks of `count` blocks by `distribution`, drawn from `random`. */
export function createRanks(distribution: Distribution, count: number, random: Random): Ranks {
  switch (distribution.kind) {
    case "uniform":
      return { next: () => random.nextInteger(count) };
    case "zipf":
      return new ZipfRanks(count, distribution.theta, random);
    case "pareto": {
      // The share x of the most popular blocks receives x^(1/exponent) of the accesses: at x = h that is 1 - h.
      const exponent = Math.log(distribution.h) / Math.log(1 - distribution.h);
      return { next: () => Math.floor(count * random.next() ** exponent) };
    }
    case "normal":
      return new NormalRanks(count, distribution.deviationPercent, random);
  }
}

/**
 * Rejection-inversion (W. Hörmann, G. Derflinger, "Rejection-inversion to generate variates from monotone discrete
 * distributions", ACM TOMACS 6(3), 1996): exact for every theta above 0, any count, without tables.
 */
class ZipfRanks implements Ranks {
  private readonly integralAtFirst: number;
  private readonly integralAtLast: number;
  /** Within this distance of a rank a point is accepted without evaluating the density. */
  private readonly shortcut: number;

  constructor(
    private readonly count: number,
    private readonly theta: number,
    private readonly random: Random,
  ) {
    this.integralAtFirst = this.integral(1.5) - 1;
    this.integralAtLast = this.integral(count + 0.5);
    this.shortcut = 2 - this.inverse(this.integral(2.5) - this.density(2));
  }

  next(): number {
    for (;;) {
      const u = this.integralAtLast + this.random.next() * (this.integralAtFirst - this.integralAtLast);
      const x = this.inverse(u);
      const rank = Math.min(Math.max(Math.round(x), 1), this.count);
      if (rank - x <= this.shortcut || u >= this.integral(rank + 0.5) - this.density(rank)) return rank - 1;
    }
  }

  private density(x: number): number {
    return Math.exp(-this.theta * Math.log(x));
  }

  /** Integral of the density from 1 to x: (x^(1-theta) - 1) / (1 - theta), continuous at theta = 1. */
  private integral(x: number): number {
    const logX = Math.log(x);
    const power = (1 - this.theta) * logX;
    return Math.abs(power) < 1e-8 ? logX * (1 + power / 2) : (logX * Math.expm1(power)) / power;
  }

  private inverse(y: number): number {
    const power = Math.max(y * (1 - this.theta), -1);
    return Math.exp(Math.abs(power) < 1e-8 ? y * (1 - power / 2) : (y * Math.log1p(power)) / power);
  }
}

class NormalRanks implements Ranks {
  constructor(
    private readonly count: number,
    private readonly deviationPercent: number,
    private readonly random: Random,
  ) {}

  next(): number {
    const { count, deviationPercent, random } = this;
    for (;;) {
      // At the largest deviation, 100 %, a round in 2.6 is accepted: the loop is short.
      const rank = Math.floor(count * (0.5 + (deviationPercent / 100) * random.nextNormal()));
      if (rank >= 0 && rank < count) return rank;
    }
  }
}
