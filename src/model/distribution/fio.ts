/**
 * Reads what a real device took from the JSON of a fio run (`--output-format=json` or `json+`).
 *
 * `json+` has the whole histogram, `clat_ns.bins`: how many completions fell into each of fio's buckets, 64 to a power of
 * two (stat.h, FIO_IO_U_PLAT_BITS 6), named by their middle. Plain JSON has some twenty percentiles, minimum and maximum.
 * Several jobs of one run are added up where there are histograms; percentiles of several jobs cannot be.
 */
import { readFileSync } from "node:fs";

/** Directions fio tells apart, under its own names. */
export const fioOperations = ["read", "write", "trim", "sync"] as const;

export type FioOperation = (typeof fioOperations)[number];

/** Points of a quantile function: the probabilities rise from 0 to 1, the times do not fall. */
export interface QuantilePoints {
  probabilities: number[];
  timesNs: number[];
}

export interface FioLatencies {
  count: number;
  /** From the whole histogram, rather than from percentiles. */
  isComplete: boolean;
  points: QuantilePoints;
}

interface FioLatency {
  N?: number;
  min?: number;
  max?: number;
  percentile?: Record<string, number>;
  bins?: Record<string, number>;
}

type FioJob = Partial<Record<FioOperation, { clat_ns?: FioLatency; lat_ns?: FioLatency }>>;

/**
 * The latencies of one operation; null when the run had none.
 *
 * @throws Error with a sentence saying why the file cannot be used.
 */
export function readFioLatencies(path: string, operation: FioOperation): FioLatencies | null {
  const found = readJobs(path).flatMap((job) => {
    const { clat_ns, lat_ns } = job[operation] ?? {};
    // Older runs and some engines fill only one of the two.
    const latency = [clat_ns, lat_ns].find((candidate) => (candidate?.N ?? 0) > 0);
    return latency === undefined ? [] : [latency];
  });
  if (found.length === 0) return null;
  const count = found.reduce((sum, { N = 0 }) => sum + N, 0);
  if (found.every(({ bins }) => bins !== undefined && Object.keys(bins).length > 0)) {
    return { count, isComplete: true, points: fromBins(found.map(({ bins }) => bins!)) };
  }
  if (found.length > 1) {
    throw new Error(
      `${path} holds ${found.length} jobs with percentiles only, which cannot be added up; run fio with --output-format=json+ or --group_reporting`,
    );
  }
  return { count, isComplete: false, points: fromPercentiles(path, found[0]) };
}

function readJobs(path: string): FioJob[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new Error(`cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
  // fio puts warnings in front of its JSON.
  const start = text.indexOf("{");
  try {
    const { jobs } = JSON.parse(text.slice(Math.max(0, start))) as { jobs?: unknown };
    if (Array.isArray(jobs)) return jobs as FioJob[];
  } catch {
    // Told below: what is not JSON has no jobs either.
  }
  throw new Error(`${path} is not the JSON of a fio run: it has no list of jobs`);
}

function fromBins(histograms: readonly Record<string, number>[]): QuantilePoints {
  const counts = new Map<number, number>();
  for (const bins of histograms) {
    for (const [middle, count] of Object.entries(bins)) {
      counts.set(Number(middle), (counts.get(Number(middle)) ?? 0) + count);
    }
  }
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  const points: QuantilePoints = { probabilities: [], timesNs: [] };
  let seen = 0;
  for (const [middleNs, count] of [...counts].filter(([, n]) => n > 0).sort(([a], [b]) => a - b)) {
    const halfNs = binWidthNs(middleNs) / 2;
    points.probabilities.push(seen / total);
    points.timesNs.push(Math.max(middleNs - halfNs, points.timesNs.at(-1) ?? 0));
    seen += count;
    points.probabilities.push(seen / total);
    points.timesNs.push(middleNs + halfNs);
  }
  return points;
}

/** fio's buckets are exact below 128 ns, then 64 to a power of two. */
function binWidthNs(middleNs: number): number {
  return middleNs < 128 ? 0 : 2 ** (Math.floor(Math.log2(middleNs)) - 6);
}

function fromPercentiles(path: string, { min, max, percentile }: FioLatency): QuantilePoints {
  const given = Object.entries(percentile ?? {})
    .map(([percent, ns]) => [Number(percent) / 100, ns] as const)
    .sort(([a], [b]) => a - b);
  if (given.length === 0 || min === undefined || max === undefined) {
    throw new Error(`${path} holds no percentiles; run fio without --clat_percentiles=0`);
  }
  const points: QuantilePoints = { probabilities: [0], timesNs: [min] };
  for (const [probability, ns] of [...given, [1, max] as const]) {
    if (probability <= points.probabilities[points.probabilities.length - 1]) continue;
    points.probabilities.push(probability);
    // fio names a percentile by its bucket's middle, which may lie beyond the exact minimum or maximum.
    points.timesNs.push(Math.min(max, Math.max(ns, points.timesNs[points.timesNs.length - 1])));
  }
  return points;
}
