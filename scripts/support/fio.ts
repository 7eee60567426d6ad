/** Runs fio with its nbd engine against a URI, and reads its JSON. */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Histogram } from "../../src/base/histogram.js";
import { median } from "./statistics.js";

const execute = promisify(execFile);

export interface FioJob {
  rw: string;
  /** Block size as fio writes it: "4k". */
  bs: string;
  iodepth: number;
  numjobs?: number;
  runtimeSeconds: number;
  /** Bytes of the device the job touches, as fio writes it. */
  size: string;
  /** A pause after every `iodepth` requests, in which the client sleeps. */
  pauseUs?: number;
}

/** Latency is fio's `lat`: from making the request to its completion. */
export interface FioResult {
  iops: number;
  bytesPerSecond: number;
  meanNs: number;
  p50Ns: number;
  p99Ns: number;
  p999Ns: number;
  /** Every latency, when the output format was json+; empty otherwise. */
  histogram: Histogram;
}

interface FioDirection {
  iops: number;
  bw_bytes: number;
  lat_ns: { mean: number; N: number; percentile?: Record<string, number>; bins?: Record<string, number> };
}

/** What fio needs to print for `parseFio`. */
export const fioOutput = ["--output-format=json+", "--lat_percentiles=1"];

export async function runFio(uri: string, job: FioJob): Promise<FioResult> {
  return runFioArguments(uri, argumentsOf(job));
}

function argumentsOf(job: FioJob): string[] {
  return [
    ...["--name=bench", "--thread", "--group_reporting", `--rw=${job.rw}`, `--bs=${job.bs}`],
    ...[`--iodepth=${job.iodepth}`, `--numjobs=${job.numjobs ?? 1}`, `--size=${job.size}`],
    ...[`--runtime=${job.runtimeSeconds}`, "--time_based"],
    ...(job.pauseUs === undefined ? [] : [`--thinktime=${job.pauseUs}`, `--thinktime_blocks=${job.iodepth}`]),
  ];
}

/** As `runFio`, of one job, with the median of every single latency: fio's own histogram has bins of 131 us at 10 ms. */
export async function runFioExactly(uri: string, job: FioJob): Promise<FioResult> {
  const folder = mkdtempSync(join(tmpdir(), "blkforge-fio-"));
  try {
    const log = join(folder, "log");
    const result = await runFioArguments(uri, [...argumentsOf(job), `--write_lat_log=${log}`]);
    return { ...result, p50Ns: median(loggedLatenciesNs(readFileSync(`${log}_lat.1.log`, "latin1"))) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Lines of "time in ms, latency in ns, direction, ..." */
function loggedLatenciesNs(log: string): number[] {
  return log
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => Number(line.split(",", 2)[1]));
}

/** Any job over the nbd engine. */
export async function runFioArguments(uri: string, job: readonly string[]): Promise<FioResult> {
  const args = [...job, "--ioengine=nbd", `--uri=${uri}`, ...fioOutput];
  const { stdout } = await execute("fio", args, { maxBuffer: 64 << 20 });
  return parseFio(stdout);
}

/** Reads the first job of fio's JSON, in the direction that did something. */
export function parseFio(output: string): FioResult {
  // fio may print notes before its JSON.
  const { jobs } = JSON.parse(output.slice(output.indexOf("{"))) as {
    jobs: Record<"read" | "write", FioDirection>[];
  };
  const direction = jobs[0].read.lat_ns.N > 0 ? jobs[0].read : jobs[0].write;
  const { mean, percentile = {}, bins = {} } = direction.lat_ns;
  const histogram = new Histogram();
  for (const [ns, count] of Object.entries(bins)) {
    for (let i = 0; i < count; i++) histogram.record(Number(ns));
  }
  return {
    iops: direction.iops,
    bytesPerSecond: direction.bw_bytes,
    meanNs: mean,
    p50Ns: percentile["50.000000"],
    p99Ns: percentile["99.000000"],
    p999Ns: percentile["99.900000"],
    histogram,
  };
}
