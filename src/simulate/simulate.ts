/**
 * One simulation from beginning to end: a profile's model, a workload or a trace, and the report.
 *
 * @example
 * const profile = loadProfile("hdd-7200");
 * const { jobs } = parseJobFile("[job]\nrw=randread\nnumber_ios=1000", { path: "job.fio" });
 * const { report } = simulate({ profile, seed: 1, input: { kind: "workload", path: "job.fio", jobs } });
 */
import type { Histogram } from "../base/histogram.js";
import { RequestTable } from "../base/request.js";
import { Breakdown } from "../model/breakdown.js";
import { createModel } from "../model/create.js";
import type { Model } from "../model/model.js";
import type { ModelObserver } from "../model/observer.js";
import type { Profile } from "../profile/load.js";
import type { OpenTrace } from "../trace/open.js";
import type { Loop } from "../trace/trace.js";
import type { JobOptions } from "../workload/options.js";
import type { RequestSource } from "../workload/source.js";
import { Workload } from "../workload/workload.js";
import { Comparison } from "./comparison.js";
import { type CompletionObserver, runEngine } from "./engine.js";
import { buildReport, type SimulationReport } from "./report.js";
import { RunStats } from "./stats.js";
import { TraceSource } from "./trace-source.js";

export type SimulationInput =
  | { kind: "workload"; path: string; jobs: readonly JobOptions[]; notes?: readonly string[] }
  | { kind: "trace"; path: string; trace: OpenTrace; loop: Loop; isWrapping?: boolean };

export interface SimulateOptions {
  profile: Profile;
  seed: number;
  input: SimulationInput;
  /** `--set` as given, for the report. */
  settings?: readonly string[];
  /** Makes what is told of every completion; the table holds the request's row meanwhile. */
  makeObserver?: ((requests: RequestTable) => CompletionObserver) | undefined;
  /** Is told what the device does inside, by models that can tell. */
  modelObserver?: ModelObserver | undefined;
  onProgress?: ((nowNs: number, completed: number) => void) | undefined;
}

export interface Simulation {
  report: SimulationReport;
  stats: RunStats;
  /** What the real device took, per operation, for traces that tell. */
  measured: readonly Histogram[] | undefined;
}

/** As many requests as the live device's table holds, so both hold back at the same point. */
const tableCapacity = 4096;

/** Runs until the workload or trace has ended. The trace is closed by whoever opened it. */
export function simulate(options: SimulateOptions): Simulation {
  const { profile, seed, input, settings = [] } = options;
  const { sizeBytes } = profile;
  const requests = new RequestTable(tableCapacity);
  const model = createModel({ profile, requests, seed, sizeBytes, observer: options.modelObserver });
  const recording = input.kind === "trace" ? input.trace.recording : null;
  // Replayed at other times than recorded, there is nothing to compare.
  const comparison =
    recording !== null && input.kind === "trace" && input.loop === "open" ? new Comparison() : null;
  if (recording !== null && comparison !== null) {
    recording.onCompletion = (ordinal, dueNs) => comparison.recorded(ordinal, dueNs);
  }

  let source: RequestSource;
  let traceSource: TraceSource | null = null;
  if (input.kind === "workload") {
    source = new Workload({ jobs: input.jobs, requests, sizeBytes, seed });
  } else {
    traceSource = new TraceSource({
      reader: input.trace.reader,
      loop: input.loop,
      requests,
      sizeBytes,
      isWrapping: input.isWrapping ?? false,
      hasDeviceTimes: recording !== null,
      onCompletion: comparison === null ? undefined : (ordinal, dueNs) => comparison.replayed(ordinal, dueNs),
    });
    source = traceSource;
  }
  const stats = new RunStats(requests, source, breakdownOf(model));
  const observer = options.makeObserver?.(requests);
  const endNs = runEngine({ model, requests, source, stats, observer, onProgress: options.onProgress });

  const notes = input.kind === "workload" ? [...(input.notes ?? [])] : [];
  if (traceSource !== null && traceSource.outOfOrder > 0) {
    notes.push(
      `${traceSource.outOfOrder} time stamps go back in time; these requests follow the one before at once`,
    );
  }
  if (recording !== null && !recording.isComplete) {
    notes.push("the recording has no end: it was cut off, and is replayed up to there");
  }
  const measured = traceSource?.measured.some(({ count }) => count > 0) ? traceSource.measured : undefined;
  const report = buildReport(stats, {
    device: { profile: profile.name, description: profile.description, sizeBytes, settings: [...settings] },
    seed,
    input:
      input.kind === "workload"
        ? { kind: "workload", path: input.path }
        : { kind: "trace", path: input.path, format: input.trace.format, loop: input.loop },
    groups: source.groups,
    endNs,
    measured,
    replay: comparison?.report(),
    model: model.report?.(endNs),
    notes,
  });
  return { report, stats, measured };
}

/** Where a model notes how each request's time was spent, if it does. */
function breakdownOf(model: Model): Breakdown | null {
  return "breakdown" in model && model.breakdown instanceof Breakdown ? model.breakdown : null;
}
