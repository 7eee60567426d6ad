/** Draws the numbers that descriptions of slow devices leave to chance. */
import type { Random } from "../../base/random.js";
import type { Draw } from "./schema.js";

export function draw(from: Draw, random: Random): number {
  switch (from.kind) {
    case "fixed":
      return from.value;
    case "uniform":
      return from.from + random.next() * (from.to - from.from);
    case "exponential":
      return random.nextExponential(from.mean);
    case "pareto":
      return Math.min(from.minimum * (1 - random.next()) ** (-1 / from.shape), from.maximum);
  }
}
