/**
 * Holds a profile against the acceptance figures in its own file: runs the fio job each names in virtual time, and
 * compares. For tests; `npm run validate:profiles` prints the table of all profiles.
 *
 *     acceptance:
 *       - figure: 4 KiB random reads a second       what it is, for the table
 *         run: { rw: randread, bs: 4k, iodepth: 32, runtime: 10, time_based: 1 }
 *         measure: iops                             iops, bandwidth, mean, or a percentile such as p99.9
 *         is: 3000
 *         tolerance: 10                             in percent; 10 unless said otherwise
 *         size: 100G                                instead of the profile's own
 *         set: [limits.0.credits=1]                 settings, as --set takes them
 */
import * as z from "zod";
import { byteRate, duration } from "../../src/base/schema.js";
import { loadProfile } from "../../src/profile/load.js";
import { simulate } from "../../src/simulate/simulate.js";
import { parseJobFile } from "../../src/workload/job-file.js";

const entry = z.strictObject({
  figure: z.string(),
  run: z.record(z.string(), z.union([z.string(), z.number()])),
  measure: z.string().regex(/^(iops|bandwidth|mean|p\d+(\.\d+)?)$/),
  is: z.union([z.number(), duration, byteRate]),
  tolerance: z.number().positive().default(10),
  size: z.string().optional(),
  set: z.array(z.string()).default([]),
});

export interface AcceptanceResult {
  figure: string;
  measured: number;
  wanted: number;
  isMet: boolean;
}

/** Every figure of the profile, in the order of the file; empty where it has none that can be run. */
export function runAcceptance(name: string): AcceptanceResult[] {
  const { acceptance } = loadProfile(name).document;
  if (!Array.isArray(acceptance)) return [];
  return acceptance.map((written) => {
    const { figure, run, measure, is, tolerance, size, set } = entry.parse(written);
    const measured = measureProfile(name, { run, measure, size, settings: set });
    return { figure, measured, wanted: is, isMet: Math.abs(measured / is - 1) * 100 <= tolerance };
  });
}

export interface Measurement {
  /** Options of a fio job. */
  run: Record<string, string | number>;
  measure: string;
  size?: string | undefined;
  settings?: readonly string[];
}

/** What a profile does with a job of one operation: requests or bytes a second, or nanoseconds. */
export function measureProfile(name: string, { run, measure, size, settings = [] }: Measurement): number {
  const profile = loadProfile(name, { settings, size });
  const job = Object.entries(run).map(([option, value]) => `${option}=${value}`);
  const { jobs } = parseJobFile(`[acceptance]\n${job.join("\n")}\n`, { path: name });
  const { report, stats } = simulate({ profile, seed: 1, input: { kind: "workload", path: name, jobs } });
  if (measure === "iops") return report.iops;
  if (measure === "bandwidth") return report.bytesPerSecond;
  const { latency } = stats.total.operations.find((operation) => operation.latency.count > 0)!;
  return measure === "mean" ? latency.summary().meanNs : latency.quantile(Number(measure.slice(1)) / 100);
}
