/** `blkforge simulate`: run a workload or a trace through a model in virtual time. */
import { readFileSync } from "node:fs";
import { Command, Option } from "commander";
import { BlkError } from "../base/errors.js";
import { formatDuration } from "../base/units.js";
import { loadProfile } from "../profile/load.js";
import { formatReport } from "../simulate/report.js";
import { RequestLog } from "../simulate/request-log.js";
import { type SimulationInput, simulate } from "../simulate/simulate.js";
import { Timeline } from "../simulate/timeline.js";
import { openTrace, traceFormats } from "../trace/open.js";
import { type Loop, loops } from "../trace/trace.js";
import { parseJobFile } from "../workload/job-file.js";
import { supportedOptions } from "../workload/options.js";
import { collect, defaultSeed, readSeed } from "./serve-options.js";

interface Options {
  workload?: string;
  trace?: string;
  format: string;
  loop?: Loop;
  traceDevice?: string;
  wrap?: true;
  set: string[];
  size?: string;
  seed?: number;
  json?: true;
  log?: string;
  timeline?: string;
}

export const command = new Command("simulate")
  .description(
    "Run a workload or a trace through a device's model in virtual time: no kernel, no waiting, no bytes.\n\n" +
      "The same model, seed and arrivals give the same completion times as blkforge serve, to the bit.",
  )
  .argument("<profile>", "name of a profile (see blkforge profiles), or a YAML file")
  .option("--workload <job.fio>", "fio job file to run")
  .option("--trace <file>", "trace to replay")
  .addOption(
    new Option("--format <name>", "format of the trace")
      .choices(["auto", ...traceFormats.map(({ name }) => name)])
      .default("auto"),
  )
  .addOption(
    new Option(
      "--loop <kind>",
      "open: by time stamps; closed: one at a time, by think times (default: what suits the format)",
    ).choices(loops),
  )
  .option(
    "--trace-device <name>",
    "the device to replay of a trace that has several: 8,0 or a volume or file name",
  )
  .option("--wrap", "requests beyond the device's end begin again at its start")
  .option("--set <path=value>", "change a field of the profile, such as latency.read=100us", collect, [])
  .option("--size <size>", "capacity: 512, 10M, 2G, 1T (default: the profile's)")
  .option("--seed <n>", `seed of every random decision (default: ${defaultSeed})`, readSeed)
  .option("--json", "print JSON")
  .option("--log <requests.csv>", "write a line per request: what it was, when it came and went")
  .option(
    "--timeline <out.json>",
    "write what dies, channels, garbage collection and buffer did, for ui.perfetto.dev (solid-state drives)",
  )
  .addHelpText(
    "after",
    `
Examples:
  blkforge simulate hdd-7200 --workload job.fio
  blkforge simulate hdd-7200 --workload job.fio --seed 7 --json
  blkforge simulate hdd-7200 --trace blkparse.txt --wrap
  blkforge simulate nvme --workload job.fio --set precondition.state=random --timeline out.json
  blkforge simulate hdd-7200 --trace volumes.csv --trace-device 419 --loop closed --log requests.csv

  # what a device did, decided again: prints whether all completion times are the same, bit for bit
  blkforge serve hdd-7200 --record run.rec ... ; blkforge simulate hdd-7200 --trace run.rec

A job file, random reads of a tenth of the device at queue depth 32, ten seconds after one of ramp-up:
  [random-reads]
  rw=randread
  bs=4k
  iodepth=32
  size=10%
  ramp_time=1
  runtime=10
  time_based

Job options that count (all others are accepted if they cannot change the result, and errors if they would):
${wrapWords(Object.keys(supportedOptions), 2, 100)}

Trace formats:
${traceFormats.map(({ name, description, defaultLoop }) => `  ${name.padEnd(11)} ${description}; ${defaultLoop} loop`).join("\n")}`,
  )
  .action(run);

function run(profileName: string, options: Options): void {
  if ((options.workload === undefined) === (options.trace === undefined)) {
    throw new BlkError(
      "BLK_E_USAGE",
      "simulate needs either --workload or --trace",
      "Give one: --workload job.fio",
    );
  }
  const opened = openInput(options);
  try {
    const recorded = opened.kind === "trace" ? opened.trace.recording?.header : undefined;
    // A recording knows what it was made with; the command line goes first.
    const settings = [...(recorded?.settings ?? []), ...options.set];
    const size = options.size ?? (recorded === undefined ? undefined : String(recorded.sizeBytes));
    const profile = loadProfile(profileName, { settings, size });
    const { report, stats, measured } = runObserved(options, (makeObserver, modelObserver) =>
      simulate({
        profile,
        seed: options.seed ?? recorded?.seed ?? defaultSeed,
        input: opened,
        settings,
        makeObserver,
        modelObserver,
        onProgress: showProgress(),
      }),
    );
    process.stdout.write(
      options.json
        ? `${JSON.stringify(report, null, 2)}\n`
        : formatReport(report, stats, measured, { widthColumns: process.stdout.columns ?? 100 }),
    );
  } finally {
    if (opened.kind === "trace") opened.trace.close();
  }
}

function openInput(options: Options): SimulationInput {
  if (options.workload !== undefined) {
    const path = options.workload;
    const { jobs, notes } = parseJobFile(readText(path), { path, environment: process.env });
    return { kind: "workload", path, jobs, notes };
  }
  const path = options.trace as string;
  const trace = openTrace(path, { format: options.format, device: options.traceDevice });
  return {
    kind: "trace",
    path,
    trace,
    loop: options.loop ?? trace.defaultLoop,
    isWrapping: options.wrap ?? false,
  };
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new BlkError("BLK_E_WORKLOAD", `job file ${path} cannot be read: ${reason}`, "Check the path");
  }
}

type MakeObserver = NonNullable<Parameters<typeof simulate>[0]["makeObserver"]>;

/** Runs with a log of every request and a timeline, as far as they are wanted, and closes them whatever happens. */
function runObserved<T>(
  { log: logPath, timeline: timelinePath }: Options,
  runWith: (makeObserver: MakeObserver | undefined, modelObserver: Timeline | undefined) => T,
): T {
  let log: RequestLog | undefined;
  const timeline = timelinePath === undefined ? undefined : new Timeline(timelinePath);
  try {
    if (logPath === undefined && timeline === undefined) return runWith(undefined, undefined);
    return runWith((requests) => {
      log = logPath === undefined ? undefined : new RequestLog(logPath, requests);
      const commands = timeline?.commands(requests);
      return {
        onCompletion(slot, wantedNs, dueNs) {
          log?.onCompletion(slot, wantedNs, dueNs);
          commands?.onCompletion(slot, wantedNs, dueNs);
        },
      };
    }, timeline);
  } finally {
    log?.close();
    timeline?.close();
  }
}

/** Runs shorter than this say nothing on the way. */
const quietMs = 2000;
const terminalIntervalMs = 500;
const logIntervalMs = 10_000;

/** On a terminal one line that is written over; otherwise a line every ten seconds. */
function showProgress(): (nowNs: number, completed: number) => void {
  const startMs = Date.now();
  const { isTTY } = process.stderr;
  let nextMs = startMs + quietMs;
  return (nowNs, completed) => {
    const presentMs = Date.now();
    if (presentMs < nextMs) return;
    nextMs = presentMs + (isTTY ? terminalIntervalMs : logIntervalMs);
    const perSecond = Math.round((completed / (presentMs - startMs)) * 1000);
    const text = `${completed} requests, ${formatDuration(nowNs)} simulated, ${perSecond} requests/s`;
    process.stderr.write(isTTY ? `\r\x1b[K${text}\r` : `${text}\n`);
  };
}

function wrapWords(words: readonly string[], indent: number, width: number): string {
  const lines = [" ".repeat(indent)];
  for (const word of words) {
    if (lines[lines.length - 1].length + word.length + 1 > width) lines.push(" ".repeat(indent));
    lines[lines.length - 1] += `${lines[lines.length - 1].trim() === "" ? "" : " "}${word}`;
  }
  return lines.join("\n");
}
