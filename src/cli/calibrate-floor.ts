/**
 * `blkforge calibrate-floor`: measures what a transport itself takes on this machine, with a device of known latency behind it.
 *
 * The device is served by a process of its own, as it will be later, and fio is the client, as it will be later too: one
 * request at a time, psync with O_DIRECT on kernel devices, its nbd engine in user space.
 */
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { Command, Option } from "commander";
import { BlkError } from "../base/errors.js";
import {
  type Floor,
  type FloorFile,
  type FloorTransport,
  floorTransports,
  formatFloor,
  type MeasuredOperation,
} from "../device/floor.js";
import { timings } from "../device/live-clock.js";
import { ensurePackages } from "../lab/packages.js";

interface CalibrateOptions {
  transport?: FloorTransport[];
  requests: string;
  timing: string;
}

export const command = new Command("calibrate-floor")
  .description(
    "Measure the time the transport itself takes on this machine: the median of single requests to the device fixed, less its latency.\n\n" +
      "Prints a file for --subtract-floor. Kernel devices need root; fio is the client.",
  )
  .addOption(
    new Option(
      "--transport <name...>",
      "nbd-user (serve, run), nbd-kernel (attach), ublk (attach --ublk); default: the two of the kernel for root, else nbd-user",
    ).choices(floorTransports),
  )
  .option("--requests <n>", "requests per operation", "2000")
  .addOption(
    new Option(
      "--timing <mode>",
      "how the device waits, as it will when the floor is used; sleep in virtual time, where who waits awake holds the clock up",
    )
      .choices(["auto", ...timings])
      .default("auto"),
  )
  .addHelpText(
    "after",
    `
Examples:
  blkforge calibrate-floor > floor.json
  blkforge run fixed --set latency=1ms --subtract-floor floor.json -- fio ...
  sudo blkforge calibrate-floor --transport ublk > floor.json
  sudo blkforge attach hdd-7200 --ublk --subtract-floor floor.json
  blkforge lab exec --device instant --time virtual -- blkforge calibrate-floor --timing sleep > floor.json`,
  )
  .action(calibrate);

/** Beyond it a device that has not come up will not. */
const readyDeadlineMs = 60_000;

const jobs: Record<MeasuredOperation, string[]> = {
  read: ["--rw=randread"],
  write: ["--rw=randwrite"],
  trim: ["--rw=randtrim"],
  flush: ["--rw=write", "--fsync=1"],
};

async function calibrate({ transport, requests, timing }: CalibrateOptions): Promise<void> {
  if (!/^[1-9]\d{0,6}$/.test(requests)) {
    throw new BlkError("BLK_E_USAGE", `--requests ${requests} is not possible`, "Give 1 to 9999999");
  }
  await ensureFio();
  const isRoot = process.getuid?.() === 0;
  const transports = transport ?? (isRoot ? (["nbd-kernel", "ublk"] as const) : (["nbd-user"] as const));
  const file: FloorFile = { schemaVersion: 1, kernel: release(), floorsNs: {} };
  for (const name of transports) {
    const floor = await measure(name, requests, timing);
    file.floorsNs[name] = floor;
    process.stderr.write(`blkforge: floor of ${name}: ${formatFloor(floor)}\n`);
  }
  process.stdout.write(`${JSON.stringify(file)}\n`);
}

async function ensureFio(): Promise<void> {
  try {
    await promisify(execFile)("fio", ["--version"]);
  } catch {
    await ensurePackages(["clients"]);
  }
}

/** The latency of the device that is measured, to be taken off again: what waits for nothing goes other ways than what waits for a timer. */
const modelNs = 100_000;

/**
 * Nothing is taken off of the device that is measured. With that said it decides in JavaScript, as the models do from whose times the floor
 * will be taken; without, NBD's requests to a device so simple are answered by native code, and sooner.
 */
const noFloor: Floor = { read: 0, write: 0, flush: 0, trim: 0 };

/** V8 runs what is new many times slower; after this it has compiled the path. */
const warmUpRequests = "15000";

async function measure(transport: FloorTransport, requests: string, timing: string): Promise<Floor> {
  const folder = mkdtempSync(join(tmpdir(), "blkforge-floor-"));
  const none: FloorFile = { schemaVersion: 1, kernel: release(), floorsNs: { [transport]: noFloor } };
  const nonePath = join(folder, "none.json");
  writeFileSync(nonePath, JSON.stringify(none));
  const server = serve(transport, join(folder, "socket"), ["--timing", timing, "--subtract-floor", nonePath]);
  try {
    const target = await server.ready;
    const floor: Floor = { ...noFloor };
    await measureOperation(transport, target, "read", warmUpRequests);
    for (const operation of Object.keys(jobs) as MeasuredOperation[]) {
      floor[operation] = await measureOperation(transport, target, operation, requests);
    }
    return floor;
  } finally {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The device in a process of its own; `ready` is its path or URI. */
function serve(
  transport: FloorTransport,
  socket: string,
  options: readonly string[],
): { ready: Promise<string>; stop(): Promise<void> } {
  const how: Record<FloorTransport, string[]> = {
    "nbd-user": ["serve", "fixed", "--listen", `nbd+unix:///?socket=${socket}`],
    "nbd-kernel": ["attach", "fixed", "--scheduler", "none"],
    // With a cache that is said to be volatile, or the kernel would send no flush.
    ublk: ["attach", "fixed", "--ublk", "--scheduler", "none"],
  };
  const [entry] = process.argv.slice(1);
  const device = ["--size", "64M", "--set", "writeCache=true", "--set", `latency=${modelNs}ns`];
  const args = [entry, ...how[transport], ...device, ...options];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  let complaint = "";
  child.stderr.on("data", (text: Buffer) => {
    complaint = `${complaint}${text}`.slice(-1000);
  });
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", () => resolve());
  });
  const ready = new Promise<string>((resolve, reject) => {
    const failed = (what: string): void =>
      reject(new BlkError("BLK_E_FLOOR", `${transport}: ${what}`, "blkforge doctor says what is missing"));
    const timer = setTimeout(() => failed("the device did not come up in time"), readyDeadlineMs);
    const lines: string[] = [];
    createInterface(child.stdout).on("line", (line) => {
      lines.push(line);
      if (line !== "ready") return;
      clearTimeout(timer);
      resolve(lines[0]);
    });
    ended.then(() => {
      clearTimeout(timer);
      failed(complaint.trim().replace(/^blkforge: /, "") || "the device did not start");
    });
  });
  ready.catch(() => {});
  return {
    ready,
    async stop() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

async function measureOperation(
  transport: FloorTransport,
  target: string,
  operation: MeasuredOperation,
  requests: string,
): Promise<number> {
  const engine =
    transport === "nbd-user"
      ? ["--ioengine=nbd", `--uri=${target}`, "--thread"]
      : ["--ioengine=psync", `--filename=${target}`, "--direct=1"];
  const common = ["--name=floor", "--bs=4k", "--iodepth=1", "--size=32m", "--norandommap", "--time_based=0"];
  const output = ["--output-format=json", "--lat_percentiles=1"];
  const args = [...common, ...jobs[operation], `--number_ios=${requests}`, ...engine, ...output];
  const { stdout } = await promisify(execFile)("fio", args, { maxBuffer: 16 << 20 });
  return Math.max(0, readMedian(stdout, operation) - modelNs);
}

/** The median of fio's total latency, of its first job. */
export function readMedian(output: string, operation: MeasuredOperation): number {
  // fio may print notes before its JSON.
  const { jobs: done } = JSON.parse(output.slice(output.indexOf("{"))) as {
    jobs: Record<string, { lat_ns: { percentile?: Record<string, number> } }>[];
  };
  const median = done[0][operation === "flush" ? "sync" : operation]?.lat_ns.percentile?.["50.000000"];
  if (median === undefined) {
    throw new BlkError("BLK_E_FLOOR", `fio measured no ${operation}`, "fio 3.16 or newer is needed");
  }
  return median;
}
