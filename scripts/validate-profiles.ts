/**
 * `npm run validate:profiles`: holds device profiles against the published figures in their own files (`acceptance`).
 *
 * Each figure names a workload in fio's words, which runs through the profile's model in virtual time, what to measure
 * and what the source says. Prints figure, source's value, model's value and deviation.
 *
 * [profile...]  only these; by default all that have figures in this form
 * --check       fail when a figure is off by more than its tolerance, 10 % unless the file says otherwise
 * --write       write docs/profiles.md
 * --figure TEXT only figures with this in their name
 * --json        one JSON object
 *
 * A figure is measured on the device as shipped, fresh, unless it sets `precondition.state`; `size` makes it smaller.
 *   measure   iops, bandwidth, mean, p1 to p99.999 of `op` (the one there is, unless given), or cliff: bytes written until
 *             the rate drops for good
 *   is        what the source says, or below: what it stays under
 *   run       fio options of one job, or several jobs by name; `job` says which of them is measured
 *   within    why the tolerance is another, in the file
 */
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import * as z from "zod";
import { ExitCode } from "../src/base/errors.js";
import type { Histogram } from "../src/base/histogram.js";
import { operations, type RequestTable } from "../src/base/request.js";
import { formatDuration, parseDuration, parseSize } from "../src/base/units.js";
import { loadProfile, profileNames } from "../src/profile/load.js";
import { simulate } from "../src/simulate/simulate.js";
import { parseJobFile } from "../src/workload/job-file.js";

const defaultTolerancePercent = 10;

const jobSchema = z.record(z.string(), z.union([z.string(), z.number()]));

const figureSchema = z.strictObject({
  figure: z.string(),
  set: z.array(z.string()).default([]),
  size: z.union([z.string(), z.number()]).optional(),
  run: z.union([jobSchema, z.record(z.string(), jobSchema)]),
  job: z.string().optional(),
  op: z.enum(operations).optional(),
  measure: z.string().regex(/^(iops|bandwidth|mean|cliff|p\d+(\.\d+)?|(read|write)\.(mean|p\d+)Ns)$/),
  is: z.union([z.number(), z.string()]).optional(),
  below: z.union([z.number(), z.string()]).optional(),
  tolerance: z.number().positive().default(defaultTolerancePercent),
  note: z.string().optional(),
});

type Figure = z.output<typeof figureSchema>;

/** As a report's JSON names it: `read.p999Ns` is p99.9 of reads. */
function normalise(figure: Figure): Figure {
  const match = /^(read|write)\.(?:(mean)|p(\d\d)(\d*))Ns$/.exec(figure.measure);
  if (match === null) return figure;
  const [, op, mean, whole, fraction] = match;
  return { ...figure, op: op as "read" | "write", measure: mean ?? `p${whole}${fraction && `.${fraction}`}` };
}

interface Result {
  profile: string;
  figure: string;
  published: number;
  model: number;
  unit: "iops" | "bytesPerSecond" | "bytes" | "ns";
  deviationPercent: number;
  tolerancePercent: number;
  /** The published value is an upper bound. */
  isBound: boolean;
  isMet: boolean;
  note?: string | undefined;
}

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    check: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    figure: { type: "string", default: "" },
  },
});

/** Figures of a profile; none where they are given in another form, for readers. */
function figuresOf(name: string): Figure[] {
  const { acceptance } = loadProfile(name).document;
  if (!Array.isArray(acceptance)) return [];
  return acceptance.map((entry, i) => {
    const parsed = figureSchema.safeParse(entry);
    if (!parsed.success) throw new Error(`${name}: acceptance.${i}: ${z.prettifyError(parsed.error)}`);
    return normalise(parsed.data);
  });
}

function measure(name: string, figure: Figure): Result {
  const size = figure.size === undefined ? undefined : String(figure.size);
  const profile = loadProfile(name, { settings: figure.set, size });
  const { jobs } = parseJobFile(jobText(figure.run), { path: name, environment: {} });
  const progress = new Progress();
  const { stats } = simulate({
    profile,
    seed: 1,
    input: { kind: "workload", path: name, jobs },
    makeObserver: figure.measure === "cliff" ? (requests) => progress.of(requests) : undefined,
  });
  const group =
    figure.job === undefined ? stats.total : stats.groups[jobs.findIndex((job) => job.name === figure.job)];
  const op =
    figure.op === undefined
      ? group.operations.findIndex(({ latency }) => latency.count > 0)
      : operations.indexOf(figure.op);
  const { latency, bytes } = group.operations[op];
  const seconds = (group.lastNs - group.firstNs) / 1e9;
  let model: number;
  let unit: Result["unit"] = "ns";
  if (figure.measure === "iops") {
    model = latency.count / seconds;
    unit = "iops";
  } else if (figure.measure === "bandwidth") {
    model = bytes / seconds;
    unit = "bytesPerSecond";
  } else if (figure.measure === "cliff") {
    model = progress.cliffBytes();
    unit = "bytes";
  } else {
    model = latencyOf(latency, figure.measure);
  }
  const published = parseValue(figure.is ?? figure.below ?? 0, unit);
  const deviationPercent = (model / published - 1) * 100;
  return {
    profile: name,
    figure: figure.figure,
    published,
    model,
    unit,
    deviationPercent,
    tolerancePercent: figure.tolerance,
    isBound: figure.below !== undefined,
    isMet: figure.below !== undefined ? model < published : Math.abs(deviationPercent) <= figure.tolerance,
    note: figure.note,
  };
}

function latencyOf(latency: Histogram, what: string): number {
  return what === "mean" ? latency.summary().meanNs : latency.quantile(Number(what.slice(1)) / 100);
}

/** fio's own form of the options: one section, or one for each job. */
function jobText(run: Figure["run"]): string {
  const isOne = Object.values(run).every((value) => typeof value !== "object");
  const sections = isOne ? { job: run as Record<string, string | number> } : (run as Record<string, never>);
  return Object.entries(sections)
    .map(([name, keys]) =>
      [`[${name}]`, ...Object.entries(keys).map(([key, value]) => `${key}=${value}`)].join("\n"),
    )
    .join("\n");
}

function parseValue(value: number | string, unit: Result["unit"]): number {
  if (typeof value === "number") return value;
  if (unit === "ns") return parseDuration(value);
  const match = /^(\d+(?:\.\d+)?)(k|K|M|kB|MB|GB|MiB|GiB)(?:\/s)?$/.exec(value);
  if (match === null) return parseSize(value);
  const factors: Record<string, number> = {
    k: 1e3,
    K: 1e3,
    M: 1e6,
    kB: 1e3,
    MB: 1e6,
    GB: 1e9,
    MiB: 2 ** 20,
    GiB: 2 ** 30,
  };
  return Number(match[1]) * factors[match[2]];
}

/** Bytes written over time, in small steps: where the rate drops. */
class Progress {
  private static readonly stepBytes = 2 ** 28;
  private readonly stepEndsNs: number[] = [];
  private bytes = 0;

  of(requests: RequestTable) {
    return {
      onCompletion: (slot: number, _wantedNs: number, dueNs: number) => {
        this.bytes += requests.lengthBytes[slot];
        if (this.bytes >= (this.stepEndsNs.length + 1) * Progress.stepBytes) this.stepEndsNs.push(dueNs);
      },
    };
  }

  /** Where two rates, one before and one after, describe the whole best: least squares over all places. */
  cliffBytes(): number {
    const rates = this.stepEndsNs.map((endNs, i) => 1e9 / (endNs - (i === 0 ? 0 : this.stepEndsNs[i - 1])));
    let best = 0;
    let bestGain = Number.NEGATIVE_INFINITY;
    const total = rates.reduce((sum, rate) => sum + rate, 0);
    let before = 0;
    for (let i = 1; i < rates.length; i++) {
      before += rates[i - 1];
      const gain = before ** 2 / i + (total - before) ** 2 / (rates.length - i);
      if (gain > bestGain) {
        bestGain = gain;
        best = i;
      }
    }
    return best * Progress.stepBytes;
  }
}

function row({
  profile,
  figure,
  published,
  model,
  unit,
  deviationPercent,
  tolerancePercent,
  isBound,
  isMet,
}: Result) {
  return [
    profile,
    figure,
    `${isBound ? "< " : ""}${format(published, unit)}`,
    format(model, unit),
    `${deviationPercent >= 0 ? "+" : ""}${deviationPercent.toFixed(1)} %`,
    isMet ? "" : isBound ? "not met" : `not within ${tolerancePercent} %`,
  ];
}

function format(value: number, unit: Result["unit"]): string {
  if (unit === "ns") return formatDuration(value);
  if (unit === "iops") return String(Number(value.toPrecision(4)));
  if (unit === "bytes") return `${Number((value / 1e9).toPrecision(3))} GB`;
  return `${Number((value / 1e6).toPrecision(4))} MB/s`;
}

function writeDocument(all: readonly Result[]): void {
  const path = new URL("../docs/profiles.md", import.meta.url);
  const head = readFileSync(new URL("./support/profiles.head.md", import.meta.url), "utf8");
  const lines = [head.trimEnd(), ""];
  for (const name of [...new Set(all.map(({ profile }) => profile))]) {
    const own = all.filter(({ profile }) => profile === name);
    lines.push(`### ${name}`, "", loadProfile(name).description, "");
    lines.push("| figure | published | model | deviation | |", "| --- | ---: | ---: | ---: | --- |");
    for (const result of own) {
      const [, figure, published, model, deviation, miss] = row(result);
      const remark = [miss, result.note ?? ""].filter((text) => text !== "").join("; ");
      lines.push(`| ${figure} | ${published} | ${model} | ${deviation} | ${remark} |`);
    }
    lines.push("");
  }
  writeFileSync(path, `${lines.join("\n").trimEnd()}\n`);
}

const results: Result[] = [];
for (const name of positionals.length > 0 ? positionals : profileNames()) {
  for (const figure of figuresOf(name).filter((one) => one.figure.includes(options.figure))) {
    const result = measure(name, figure);
    results.push(result);
    if (!options.json) console.log(row(result).join("  "));
  }
}
if (options.json) console.log(JSON.stringify({ schemaVersion: 1, results }));
if (options.write) writeDocument(results);
const failures = results.filter(({ isMet }) => !isMet);
if (!options.json) {
  console.log(`${results.length - failures.length} of ${results.length} figures met`);
}
if (options.check && failures.length > 0) process.exitCode = ExitCode.checkFailed;
