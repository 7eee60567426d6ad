/**
 * What a simulation reports: for programs as an object with a schema version, for people as text.
 */
import type { Histogram, LatencySummary } from "../base/histogram.js";
import { type Operation, operations } from "../base/request.js";
import { renderHistograms } from "../base/text-histogram.js";
import { formatDuration } from "../base/units.js";
import type { ModelReport } from "../model/model.js";
import { formatModelReport } from "../model/report-text.js";
import type { ComparisonReport } from "./comparison.js";
import { type GroupStats, type OperationStats, type RunStats, type TimePart, timeParts } from "./stats.js";

export interface OperationReport {
  count: number;
  bytes: number;
  iops: number;
  bytesPerSecond: number;
  latency: LatencySummary;
  /** Mean time in each part; absent for models that do not tell. */
  meanPartsNs?: Record<TimePart, number>;
  /** What the real device took, where the trace tells. */
  measured?: LatencySummary;
  /** Buckets of the latency histogram that are not empty: [from, to, count], ns. */
  histogram: [number, number, number][];
}

export interface GroupReport {
  name: string;
  operations: Partial<Record<Operation, OperationReport>>;
}

export interface SimulationReport {
  schemaVersion: 1;
  device: { profile: string; description: string; sizeBytes: number; settings: string[] };
  seed: number;
  input:
    | { kind: "workload"; path: string }
    | { kind: "trace"; path: string; format: string; loop: "open" | "closed" };
  /** Simulated time that was measured, and all of it. */
  elapsedNs: number;
  endNs: number;
  count: number;
  iops: number;
  bytesPerSecond: number;
  /** Share of the measured time with a request in the device. */
  utilisation: number;
  meanQueueDepth: number;
  /** Requests that waited outside because the device's table was full. */
  heldBack: { count: number; totalNs: number };
  operations: Partial<Record<Operation, OperationReport>>;
  /** The jobs of a workload that has several. */
  jobs: GroupReport[];
  /** For recordings: how the replay compares. */
  replay?: ComparisonReport;
  /** What the model tells of its state at the end, such as the credits left; absent for most. */
  model?: ModelReport;
  notes: string[];
}

export type ReportContext = Pick<SimulationReport, "device" | "seed" | "input" | "notes"> & {
  groups: readonly string[];
  endNs: number;
  measured?: readonly Histogram[] | undefined;
  replay?: ComparisonReport | undefined;
  model?: ModelReport | undefined;
};

export function buildReport(stats: RunStats, context: ReportContext): SimulationReport {
  const { device, seed, input, notes, groups, endNs, measured, replay, model } = context;
  const { elapsedNs } = stats;
  const count = stats.total.operations.reduce((sum, { latency }) => sum + latency.count, 0);
  const bytes = stats.total.operations.reduce((sum, operation) => sum + operation.bytes, 0);
  return {
    schemaVersion: 1,
    device,
    seed,
    input,
    elapsedNs,
    endNs,
    count,
    iops: perSecond(count, elapsedNs),
    bytesPerSecond: perSecond(bytes, elapsedNs),
    utilisation: stats.utilisation,
    meanQueueDepth: stats.meanQueueDepth,
    heldBack: { count: stats.heldBack, totalNs: stats.heldBackNs },
    operations: reportOperations(stats.total, elapsedNs, stats.hasBreakdown, measured),
    jobs: stats.groups.map((group, i) => ({
      name: groups[i],
      operations: reportOperations(group, group.lastNs - group.firstNs, stats.hasBreakdown),
    })),
    ...(replay === undefined ? {} : { replay }),
    ...(model === undefined ? {} : { model }),
    notes,
  };
}

function reportOperations(
  group: GroupStats,
  elapsedNs: number,
  hasBreakdown: boolean,
  measured?: readonly Histogram[],
): Partial<Record<Operation, OperationReport>> {
  const reports: Partial<Record<Operation, OperationReport>> = {};
  for (const [op, name] of operations.entries()) {
    const operation = group.operations[op];
    if (operation.latency.count === 0) continue;
    const report = reportOperation(operation, elapsedNs, hasBreakdown);
    if (measured !== undefined && measured[op].count > 0) report.measured = measured[op].summary();
    reports[name] = report;
  }
  return reports;
}

function reportOperation(
  { latency, bytes, partsNs }: OperationStats,
  elapsedNs: number,
  hasBreakdown: boolean,
) {
  const { count } = latency;
  const report: OperationReport = {
    count,
    bytes,
    iops: perSecond(count, elapsedNs),
    bytesPerSecond: perSecond(bytes, elapsedNs),
    latency: latency.summary(),
    histogram: [...latency.buckets()].map((bucket) => [bucket.fromNs, bucket.toNs, bucket.count]),
  };
  if (hasBreakdown) {
    report.meanPartsNs = Object.fromEntries(timeParts.map((part, i) => [part, partsNs[i] / count])) as Record<
      TimePart,
      number
    >;
  }
  return report;
}

function perSecond(amount: number, elapsedNs: number): number {
  return elapsedNs > 0 ? (amount / elapsedNs) * 1e9 : 0;
}

export interface TextOptions {
  widthColumns?: number;
  asciiOnly?: boolean;
}

/** The report for people. `stats` gives the histograms; `measured` those of the real device, drawn beside them. */
export function formatReport(
  report: SimulationReport,
  stats: RunStats,
  measured: readonly Histogram[] | undefined,
  options: TextOptions = {},
): string {
  const { device, input, replay } = report;
  const how = input.kind === "trace" ? `${input.path} (${input.format}, ${input.loop} loop)` : input.path;
  const lines = [
    `${device.profile}: ${device.description}`,
    `${how}, seed ${report.seed}: ${report.count} requests in ${formatDuration(report.elapsedNs)} of simulated time`,
    `${formatRate(report.iops)} IOPS, ${formatBandwidth(report.bytesPerSecond)}, ` +
      `utilisation ${(report.utilisation * 100).toFixed(1)} %, mean queue depth ${report.meanQueueDepth.toFixed(2)}`,
  ];
  if (report.heldBack.count > 0) {
    const { count, totalNs } = report.heldBack;
    lines.push(
      `${count} requests waited for room in the device's queue, ${formatDuration(totalNs / count)} on average`,
    );
  }
  for (const note of report.notes) lines.push(`note: ${note}`);
  if (replay !== undefined) lines.push(formatReplay(replay));
  lines.push("", ...formatOperations(report.operations));
  for (const job of report.jobs) lines.push("", `job ${job.name}`, ...formatOperations(job.operations));
  lines.push(...formatParts(report.operations));
  if (report.model !== undefined) lines.push("", "the device at the end", formatModelReport(report.model));
  for (const [op, name] of operations.entries()) {
    const { latency } = stats.total.operations[op];
    if (latency.count === 0) continue;
    const columns = [{ title: `${name}, simulated`, histogram: latency }];
    if (measured !== undefined && measured[op].count > 0) {
      columns.push({ title: `${name}, measured on the real device`, histogram: measured[op] });
    } else {
      columns[0].title = `${name} latency`;
    }
    lines.push("", ...renderHistograms(columns, options));
  }
  return `${lines.join("\n")}\n`;
}

function formatReplay({
  compared,
  identical,
  largestDifferenceNs,
  firstDifferent,
}: ComparisonReport): string {
  if (identical === compared)
    return `replay: all ${compared} completion times identical to the recording, bit for bit`;
  const first = firstDifferent[0];
  return (
    `replay: ${compared - identical} of ${compared} completion times differ from the recording, by up to ` +
    `${formatDuration(largestDifferenceNs)}; the first is request ${first.request}: ` +
    `recorded ${first.recordedNs} ns, replayed ${first.replayedNs} ns`
  );
}

function formatOperations(reports: Partial<Record<Operation, OperationReport>>): string[] {
  const rows = [
    ["", "count", "IOPS", "bandwidth", "mean", "stdev", "p50", "p90", "p99", "p99.9", "p99.99", "max"],
  ];
  for (const name of operations) {
    const report = reports[name];
    if (report === undefined) continue;
    rows.push([
      name,
      String(report.count),
      formatRate(report.iops),
      formatBandwidth(report.bytesPerSecond),
      ...latencyCells(report.latency),
    ]);
    if (report.measured !== undefined) {
      rows.push(["  measured", String(report.measured.count), "", "", ...latencyCells(report.measured)]);
    }
  }
  return table(rows);
}

function latencyCells(latency: LatencySummary): string[] {
  const { meanNs, stdevNs, p50Ns, p90Ns, p99Ns, p999Ns, p9999Ns, maxNs } = latency;
  return [meanNs, stdevNs, p50Ns, p90Ns, p99Ns, p999Ns, p9999Ns, maxNs].map(formatDuration);
}

/** Parts that one kind of medium has and another has not. */
const ofMedia: ReadonlySet<TimePart> = new Set<TimePart>(["seek", "rotation", "media"]);

/** Where the time went, as means per request. */
function formatParts(reports: Partial<Record<Operation, OperationReport>>): string[] {
  const rows: string[][] = [];
  // What the device does not have is not shown.
  const parts = timeParts.filter(
    (part) => !ofMedia.has(part) || operations.some((name) => (reports[name]?.meanPartsNs?.[part] ?? 0) > 0),
  );
  for (const name of operations) {
    const report = reports[name];
    if (report?.meanPartsNs === undefined) continue;
    const { meanPartsNs, latency } = report;
    const cells = parts.map((part) => {
      const share = latency.meanNs === 0 ? 0 : (meanPartsNs[part] / latency.meanNs) * 100;
      return `${formatDuration(meanPartsNs[part])} (${share.toFixed(0)} %)`;
    });
    rows.push([name, ...cells]);
  }
  return rows.length === 0
    ? []
    : ["", "where the time went, on average", ...table([["", ...parts], ...rows])];
}

/** Columns of text, the first to the left, the others to the right. */
function table(rows: readonly string[][]): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column])))
      .join("  ")
      .trimEnd(),
  );
}

function formatRate(perSecond: number): string {
  return perSecond >= 1000 ? perSecond.toFixed(0) : perSecond.toPrecision(3);
}

/** Decimal units, as data sheets have them. */
function formatBandwidth(bytesPerSecond: number): string {
  for (const [factor, unit] of [
    [1e9, "GB/s"],
    [1e6, "MB/s"],
    [1e3, "kB/s"],
  ] as const) {
    if (bytesPerSecond >= factor) return `${(bytesPerSecond / factor).toPrecision(3)} ${unit}`;
  }
  return `${bytesPerSecond.toFixed(0)} B/s`;
}
