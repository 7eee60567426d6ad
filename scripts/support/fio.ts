/** Runs fio with its nbd engine against a URI and reads its JSON. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";

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
}

export interface FioResult {
  iops: number;
  bytesPerSecond: number;
  meanNs: number;
  p50Ns: number;
  p99Ns: number;
  p999Ns: number;
}

interface FioDirection {
  iops: number;
  bw_bytes: number;
  lat_ns: { mean: number; N: number; percentile?: Record<string, number> };
}

/** Latency is fio's `lat`: from making the request to its completion. */
export async function runFio(uri: string, job: FioJob): Promise<FioResult> {
  const { stdout } = await execute(
    "fio",
    [
      ...[
        "--name=bench",
        "--ioengine=nbd",
        `--uri=${uri}`,
        "--thread",
        "--group_reporting",
        "--randrepeat=1",
      ],
      ...[`--rw=${job.rw}`, `--bs=${job.bs}`, `--iodepth=${job.iodepth}`, `--numjobs=${job.numjobs ?? 1}`],
      ...[`--size=${job.size}`, `--runtime=${job.runtimeSeconds}`, "--time_based", "--output-format=json"],
      "--lat_percentiles=1",
    ],
    { maxBuffer: 16 << 20 },
  );
  // fio may print notes before its JSON.
  const { jobs } = JSON.parse(stdout.slice(stdout.indexOf("{"))) as {
    jobs: Record<"read" | "write", FioDirection>[];
  };
  const direction = jobs[0].read.lat_ns.N > 0 ? jobs[0].read : jobs[0].write;
  const percentile = direction.lat_ns.percentile ?? {};
  return {
    iops: direction.iops,
    bytesPerSecond: direction.bw_bytes,
    meanNs: direction.lat_ns.mean,
    p50Ns: percentile["50.000000"],
    p99Ns: percentile["99.000000"],
    p999Ns: percentile["99.900000"],
  };
}
