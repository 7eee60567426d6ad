/**
 * Whether collecting garbage makes the emulator late: a drive in steady state serves random writes of fio over NBD at queue
 * depth 256, and its own statistics say how long after its due time each reply was sent. Two others are measured in the same
 * run: the drive fresh out of the box, which answers in the same bursts (a program unit leaves the buffer, and all writes
 * that waited for its room are due together) but collects little; and the instant device, which shows what is the transport's
 * and the machine's, whose processors fio and the server share.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LatencySummary } from "../../src/base/histogram.js";
import { formatTable } from "../../src/base/table.js";
import { formatDuration } from "../../src/base/units.js";
import { ControlClient } from "../../src/control/client.js";
import { ensurePackages } from "../../src/lab/packages.js";
import type { ModelReport } from "../../src/model/model.js";
import { runFio } from "./fio.js";
import { blkforge, withServer } from "./servers.js";

const iodepth = 256;
/** Small enough for what is written to lie in memory. */
const size = "2G";
const allowedP99Ns = 200_000;

/** The SLC cache would take all the run writes before the other flash sees any of it. */
const drive = ["nvme", "--set", "slcCache.static=0", "--set", "slcCache.dynamic=0"];
/** Collects from the first write on. */
const steadyDrive = [...drive, "--set", "precondition.state=random"];

interface Measured {
  name: string;
  iops: number;
  lateness: LatencySummary;
  model: ModelReport;
}

/** Prints the lateness of all three; returns whether the collecting drive's is within what is allowed. */
export async function benchLive(runtimeSeconds: number, isJson: boolean): Promise<boolean> {
  await ensurePackages(["clients"]);
  const steady = await measure("nvme, steady state", steadyDrive, runtimeSeconds);
  const fresh = await measure("nvme, fresh", drive, runtimeSeconds);
  const instant = await measure("instant", ["instant"], runtimeSeconds);
  const isMet = steady.lateness.p99Ns <= allowedP99Ns;
  if (isJson) {
    console.log(JSON.stringify({ schemaVersion: 1, allowedP99Ns, isMet, steady, fresh, instant }));
    return isMet;
  }
  const rows = [steady, fresh, instant].map(({ name, iops, lateness, model }) => [
    name,
    String(Math.round(iops)),
    ...[lateness.p50Ns, lateness.p99Ns, lateness.p999Ns, lateness.maxNs].map(formatDuration),
    model.writeAmplification?.toFixed(2) ?? "",
  ]);
  const head = ["random 4 KiB writes", "IOPS", "late p50", "p99", "p99.9", "max", "write amplification"];
  console.log(formatTable([head, ...rows]));
  return isMet;
}

async function measure(name: string, args: readonly string[], runtimeSeconds: number): Promise<Measured> {
  const folder = mkdtempSync(join(tmpdir(), "blkforge-bench-"));
  const api = `unix:${join(folder, "api")}`;
  try {
    return await withServer(blkforge(...args, "--size", size, "--api", api), async (uri) => {
      const { iops } = await runFio(uri, { rw: "randwrite", bs: "4k", iodepth, size, runtimeSeconds });
      const { lateness, model } = await (await new ControlClient(api).device()).stats();
      return { name, iops, lateness, model };
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
