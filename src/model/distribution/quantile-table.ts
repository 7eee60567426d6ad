/**
 * A quantile function through points, linear or geometric in between: what percentile tables and histograms become.
 *
 * A guide of evenly spaced probabilities says where to begin looking, so a look-up takes a step or two however many
 * points there are (Chen and Asau 1974, "guide tables").
 */
import { assert } from "../../base/assert.js";

export class QuantileTable {
  private readonly probabilities: Float64Array;
  private readonly timesNs: Float64Array;
  /** For each cell of the guide the segment its lower end lies in. */
  private readonly guide: Uint32Array;

  /** @param probabilities rising from 0 to 1. @param timesNs not falling; above 0 where the interpolation is geometric. */
  constructor(
    probabilities: readonly number[],
    timesNs: readonly number[],
    private readonly isGeometric: boolean,
  ) {
    const count = probabilities.length;
    assert(count >= 2 && count === timesNs.length, "a quantile function has two points or more");
    assert(probabilities[0] === 0 && probabilities[count - 1] === 1, "a quantile function goes from 0 to 1");
    this.probabilities = Float64Array.from(probabilities);
    this.timesNs = Float64Array.from(timesNs);
    this.guide = new Uint32Array(Math.min(65_536, 2 * count));
    let segment = 0;
    for (let cell = 0; cell < this.guide.length; cell++) {
      while (this.probabilities[segment + 1] <= cell / this.guide.length) segment++;
      this.guide[cell] = segment;
    }
  }

  /** The time that a fraction `probability`, at least 0 and below 1, is not above. */
  quantileNs(probability: number): number {
    const { probabilities, timesNs } = this;
    let segment = this.guide[Math.floor(probability * this.guide.length)];
    while (probabilities[segment + 1] <= probability) segment++;
    const from = timesNs[segment];
    const to = timesNs[segment + 1];
    const fraction =
      (probability - probabilities[segment]) / (probabilities[segment + 1] - probabilities[segment]);
    return this.isGeometric && from > 0 ? from * (to / from) ** fraction : from + fraction * (to - from);
  }
}
