/**
 * Holds a profile against the acceptance figures in its own file: runs the fio job each names in virtual time, and
 * compares.
 *
 *     acceptance:
 *       - figure: 4 KiB random reads a second       what it is, for the table
 *         run: { rw: randread, bs: 4k, iodepth: 32, runtime: 10, time_based: 1 }
 *         measure: iops                             iops, bandwidth, or read.p99Ns and the like
 *         is: 3000                                  or below: 1ms
 *         tolerance: 0.1                            of what it is; a tenth unless said otherwise
 *         size: 100G                                instead of the profile's own
 *         set: [limits.0.credits=1]                 settings, as --set takes them
 */
import { z } from "zod";
import type { LatencySummary } from "../../src/base/histogram.js";
import { byteRate, duration } from "../../src/base/schema.js";
import { loadProfile } from "../../src/profile/load.js";
import type { SimulationReport } from "../../src/simulate/report.js";
import { simulate } from "../../src/simulate/simulate.js";
import { parseJobFile } from "../../src/workload/job-file.js";

const amount = z.union([z.number(), duration, byteRate]);

const entry = z
  .strictObject({
    figure: z.string(),
    run: z.record(z.string(), z.union([z.string(), z.number()])),
    measure: z
      .string()
      .regex(/^(iops|bandwidth|(read|write|flush|trim)\.(mean|min|max|p50|p90|p95|p99|p999|p9999)Ns)$/),
    is: amount.optional(),
    below: amount.optional(),
    tolerance: z.number().positive().default(0.1),
    size: z.string().optional(),
    set: z.array(z.string()).default([]),
  })
  .refine(({ is, below }) => (is === undefined) !== (below === undefined), { error: "needs is or below" });

export interface AcceptanceResult {
  profile: string;
  figure: string;
  measure: string;
  measured: number;
  /** What it should be, or stay below. */
  wanted: number;
  isUpperBound: boolean;
  isAccepted: boolean;
}

/** Every figure of the profile, in the order of the file; empty where it has none that can be run. */
export function runAcceptance(name: string): AcceptanceResult[] {
  const { acceptance } = loadProfile(name).document;
  if (!Array.isArray(acceptance)) return [];
  return acceptance.map((written) => {
    const { figure, run, measure, is, below, tolerance, size, set } = entry.parse(written);
    const profile = loadProfile(name, { settings: set, size });
    const job = Object.entries(run).map(([option, value]) => `${option}=${value}`);
    const { jobs } = parseJobFile(`[acceptance]\n${job.join("\n")}\n`, { path: name });
    const { report } = simulate({ profile, seed: 1, input: { kind: "workload", path: name, jobs } });
    const measured = measureOf(report, measure);
    const wanted = (is ?? below) as number;
    return {
      profile: name,
      figure,
      measure,
      measured,
      wanted,
      isUpperBound: below !== undefined,
      isAccepted: below === undefined ? Math.abs(measured - wanted) <= tolerance * wanted : measured < wanted,
    };
  });
}

function measureOf(report: SimulationReport, measure: string): number {
  if (measure === "iops") return report.iops;
  if (measure === "bandwidth") return report.bytesPerSecond;
  const [operation, figure] = measure.split(".") as ["read", keyof LatencySummary];
  return report.operations[operation]?.latency[figure] ?? Number.NaN;
}
