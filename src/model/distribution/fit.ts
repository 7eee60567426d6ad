/**
 * From a fio run to a profile of the distribution model that stands on its own: a table of percentiles per operation.
 *
 * Latencies measured at a queue depth contain the waiting of that depth, and the model gives them back at any: a run at
 * queue depth 1 says most about the device. The time fio itself and the kernel took is in the figures too.
 */
import { stringify } from "yaml";
import { formatDuration } from "../../base/units.js";
import { type FioLatencies, type FioOperation, readFioLatencies } from "./fio.js";
import { QuantileTable } from "./quantile-table.js";

export interface FitOptions {
  /** JSON of a fio run. */
  path: string;
  /** What the profile shall be called. */
  name: string;
  size: string;
}

/** Close enough together to follow a distribution of several modes, and the tail where fio has it. */
const percents = [
  0,
  1,
  ...Array.from({ length: 39 }, (_, i) => 2.5 * (i + 1)),
  99,
  99.5,
  99.9,
  99.95,
  99.99,
  100,
];

/** fio's name of an operation and the profile's. */
const names: readonly [FioOperation, string][] = [
  ["read", "read"],
  ["write", "write"],
  ["trim", "trim"],
  ["sync", "flush"],
];

/** Fewer requests than this say nothing of a percentile: one in a thousand needs thousands. */
const tailCount = 10;

/**
 * The profile as YAML.
 *
 * @throws Error with a sentence saying why the run cannot be used.
 */
export function fitProfile({ path, name, size }: FitOptions): string {
  const found = names.flatMap(([operation, key]) => {
    const latencies = readFioLatencies(path, operation);
    return latencies === null ? [] : [{ key, operation, latencies }];
  });
  if (found.length === 0) throw new Error(`${path} has no reads, writes, trims or syncs`);
  const document = {
    name,
    description: `Latencies of a fio run: ${found.map(({ key, latencies }) => `${latencies.count} x ${key}`).join(", ")}`,
    model: "distribution",
    size,
    blockSize: { logical: 512, physical: "4K" },
    rotational: false,
    writeCache: found.some(({ operation }) => operation === "sync"),
    latency: Object.fromEntries([
      ["all", 0],
      ...found.map(({ key, latencies }) => [key, { kind: "percentiles", table: tableOf(latencies) }]),
    ]),
    acceptance: found
      .filter(({ operation }) => operation === "read" || operation === "write")
      .flatMap(({ operation, latencies }) => acceptanceOf(operation as "read" | "write", latencies)),
  };
  return `# Fitted to ${path}. Latencies contain the waiting of the queue depth they were measured at.\n${stringify(document, { lineWidth: 110 })}`;
}

function tableOf(latencies: FioLatencies): Record<string, string> {
  return Object.fromEntries(
    percents
      .filter((percent) => isKnown(latencies, percent))
      .map((percent) => [String(percent), `${Math.round(quantileOf(latencies, percent))}ns`]),
  );
}

/** Whether enough requests lie beyond a percentile to know it; the outermost are the fastest and the slowest themselves. */
function isKnown({ count }: FioLatencies, percent: number): boolean {
  return percent === 0 || percent === 100 || (count * Math.min(percent, 100 - percent)) / 100 >= tailCount;
}

function quantileOf({ points, isComplete }: FioLatencies, percent: number): number {
  const { probabilities, timesNs } = points;
  // A time of 0 is no duration; fio's smallest bucket is.
  if (percent === 100) return Math.max(1, timesNs[timesNs.length - 1]);
  return Math.max(1, new QuantileTable(probabilities, timesNs, !isComplete).quantileNs(percent / 100));
}

function acceptanceOf(operation: "read" | "write", latencies: FioLatencies) {
  return [50, 99].map((percent) => ({
    figure: `${operation}s: ${percent} % of them, ${formatDuration(quantileOf(latencies, percent))}`,
    run: { rw: `rand${operation}`, bs: "4k", number_ios: 20_000 },
    measure: `p${percent}`,
    is: `${Math.round(quantileOf(latencies, percent))}ns`,
  }));
}
