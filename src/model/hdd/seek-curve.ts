/**
 * Seek curves: how long the arm takes to travel a number of cylinders, in every form the literature publishes.
 *
 * A curve is evaluated once, into a table by distance, so a seek costs one load. Curves are for reads; the extra
 * settling of writes is added by the mechanics. Sources: Lee, in DiskSim 4 (dm_param.tex, "three-point curve");
 * HPL: Ruemmler and Wilkes, "An Introduction to Disk Drive Modeling" (IEEE Computer, March 1994).
 */
import type { SeekParameters } from "./schema.js";

/** Nanoseconds by distance, for distances 0 to `cylinders - 1`. Distance 0 costs nothing. */
export function seekTable(seek: SeekParameters, cylinders: number): Float64Array {
  const table = new Float64Array(Math.max(1, cylinders));
  const time = curve(seek, Math.max(1, cylinders - 1));
  for (let distance = 1; distance < table.length; distance++) table[distance] = Math.max(0, time(distance));
  return table;
}

/** Mean over random pairs of cylinders: what a data sheet calls the average seek. */
export function meanSeekNs(table: Float64Array): number {
  const cylinders = table.length;
  let sum = 0;
  for (let distance = 1; distance < cylinders; distance++)
    sum += 2 * (cylinders - distance) * table[distance];
  return sum / (cylinders * cylinders);
}

function curve(seek: SeekParameters, furthest: number): (distance: number) => number {
  switch (seek.curve) {
    case "constant":
      return () => seek.average;
    case "lee":
      return lee(seek, furthest);
    case "linear": {
      // The data sheet's average is taken a third of the way, the mean distance of random pairs.
      const third = Math.max(1, furthest / 3);
      return interpolation([1, third, furthest], [seek.minimum, seek.average, seek.maximum]);
    }
    case "hpl":
      return hpl(seek.coefficients);
    case "hplplus10": {
      const beyond = hpl(seek.coefficients);
      return (distance) => (distance <= 10 ? seek.first[distance - 1] : beyond(distance));
    }
    case "extracted":
      return interpolation(
        seek.points.map(([distance]) => distance),
        seek.points.map(([, timeNs]) => timeNs),
      );
  }
}

interface ThreePoints {
  minimum: number;
  average: number;
  maximum: number;
}

/** Its mean over random pairs is `average` exactly, in the continuum: E[sqrt(u)] = 8/15 and E[u] = 1/3. */
function lee({ minimum, average, maximum }: ThreePoints, furthest: number): (distance: number) => number {
  const a = (-10 * minimum + 15 * average - 5 * maximum) / (3 * Math.sqrt(furthest));
  const b = (7 * minimum - 15 * average + 8 * maximum) / (3 * furthest);
  return (distance) => a * Math.sqrt(distance - 1) + b * (distance - 1) + minimum;
}

const nsPerMs = 1e6;

function hpl([v1, v2, v3, v4, v5, v6]: readonly number[]): (distance: number) => number {
  return (distance) => {
    if (distance === 1 && v6 !== -1) return v6 * nsPerMs;
    return (distance < v1 ? v2 + v3 * Math.sqrt(distance) : v4 + v5 * distance) * nsPerMs;
  };
}

/** Linear between the points; beyond the last, its value holds. Called with rising distances only. */
function interpolation(distances: number[], timesNs: number[]): (distance: number) => number {
  let next = 0;
  return (distance) => {
    while (next < distances.length && distances[next] < distance) next++;
    if (next === distances.length) return timesNs[next - 1];
    if (next === 0 || distances[next] === distance) return timesNs[next];
    const fraction = (distance - distances[next - 1]) / (distances[next] - distances[next - 1]);
    return timesNs[next - 1] + fraction * (timesNs[next] - timesNs[next - 1]);
  };
}
