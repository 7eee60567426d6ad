/** Runs fio with its nbd engine against a URI, and reads its JSON. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Histogram } from "../../src/base/histogram.js";

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
  return runFioArguments(uri, [
    ...["--name=bench", "--thread", "--group_reporting", `--rw=${job.rw}`, `--bs=${job.bs}`],
    ...[`--iodepth=${job.iodepth}`, `--numjobs=${job.numjobs ?? 1}`, `--size=${job.size}`],
    ...[`--runtime=${job.runtimeSeconds}`, "--time_based"],
    ...(job.pauseUs === undefined ? [] : [`--thinktime=${job.pauseUs}`, `--thinktime_blocks=${job.iodepth}`]),
  ]);
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
    p50Ns: medianOfBins(bins),
    p99Ns: percentile["99.000000"],
    p999Ns: percentile["99.900000"],
    histogram,
  };
}

/** fio counts latencies in 64 bins an octave and names each by its middle (stat.h, FIO_IO_U_PLAT_BITS). */
const binsPerOctave = 64;

/** The median, by linear interpolation within its bin: at 10 ms a bin is 131 us wide. */
function medianOfBins(bins: Record<string, number>): number {
  const counted = Object.entries(bins)
    .map(([ns, count]) => ({ middleNs: Number(ns), count }))
    .sort((a, b) => a.middleNs - b.middleNs);
  let rank = counted.reduce((sum, { count }) => sum + count, 0) / 2;
  for (const { middleNs, count } of counted) {
    if (rank <= count) {
      const widthNs = Math.max(1, 2 ** Math.floor(Math.log2(middleNs)) / binsPerOctave);
      return middleNs + (rank / count - 0.5) * widthNs;
    }
    rank -= count;
  }
  return Number.NaN;
}
