/**
 * `npm run bench:nbd`: blkforge (`instant`, memory) against nbdkit's memory plugin and qemu-nbd on a tmpfs, in turn on the same
 * machine, with fio's nbd engine over a Unix socket; medians over the rounds, as ratios to the better of the two.
 *
 * Also printed: processor seconds of the server per million requests, and p99.9. `--rounds N`, `--seconds N`, `--only TEXT` (rows
 * whose name contains it), `--json`. With `--check` it exits 1 when a row is below the better of the two, or the geometric mean
 * below 1.5 times.
 */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { formatTable } from "../src/base/table.js";
import { formatDuration } from "../src/base/units.js";
import { ensurePackages } from "../src/lab/packages.js";
import { type FioJob, type FioResult, runFio } from "./support/fio.js";
import { Progress } from "./support/progress.js";
import { blkforge, nbdkit, qemuNbd, type ServerCommand, withServer } from "./support/servers.js";
import { median } from "./support/statistics.js";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "2" },
    only: { type: "string", default: "" },
    json: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
  },
});
const runtimeSeconds = Number(values.seconds);

/** What `--check` demands. */
const smallestRatio = 1;
const smallestMean = 1.5;

/** Kernel clock ticks a second in /proc (USER_HZ), 100 on every Linux architecture Node runs on. */
const ticksPerSecond = 100;

const row = (rw: string, bs: string, iodepth: number, numjobs = 1): FioJob => ({
  ...{ rw, bs, iodepth, numjobs, runtimeSeconds, size: "256m" },
});
const rows: Record<string, FioJob> = {
  "4 KiB random read, depth 1": row("randread", "4k", 1),
  "4 KiB random read, depth 32": row("randread", "4k", 32),
  "4 KiB random read, depth 128": row("randread", "4k", 128),
  "4 KiB random read, 4 x depth 32": row("randread", "4k", 32, 4),
  "4 KiB random write, depth 32": row("randwrite", "4k", 32),
  "256 KiB read, depth 8": row("read", "256k", 8),
  "256 KiB write, depth 8": row("write", "256k", 8),
  "1 MiB read, depth 8": row("read", "1m", 8),
  "1 MiB write, depth 8": row("write", "1m", 8),
};

interface Measured {
  fio: FioResult;
  processorSecondsPerMillion: number;
}

const progress = new Progress();
await ensurePackages(["clients"], { yes: true, onProgress: (what) => progress.show(what) });
// /dev/shm is a tmpfs wherever there is one.
const directory = mkdtempSync(join(tmpdirOnMemory(), "blkforge-bench-"));
const image = join(directory, "image");
writeFileSync(image, "");
truncateSync(image, 256 << 20);
const servers: Record<string, ServerCommand> = {
  blkforge: blkforge("instant", "--size", "256M"),
  nbdkit: nbdkit("memory", "256M"),
  "qemu-nbd": qemuNbd(image),
};
const results = new Map<string, Measured[]>();
try {
  await measureAll();
} finally {
  progress.end();
  rmSync(directory, { recursive: true, force: true });
}
report();

async function measureAll(): Promise<void> {
  for (let round = 1; round <= Number(values.rounds); round++) {
    for (const [name, job] of Object.entries(rows)) {
      if (!name.includes(values.only)) continue;
      for (const [server, command] of Object.entries(servers)) {
        progress.show(`round ${round}: ${name}, ${server}`);
        const measured = await withServer(command, async (uri, pid) => {
          // Once over the whole device: all compare on memory that is there, and on compiled code.
          await runFio(uri, { ...row("write", "1m", 8), runtimeSeconds: 1 });
          const before = processorSeconds(pid);
          const fio = await runFio(uri, job);
          const millions = (fio.iops * runtimeSeconds) / 1e6;
          return { fio, processorSecondsPerMillion: (processorSeconds(pid) - before) / millions };
        });
        const key = `${name}/${server}`;
        results.set(key, [...(results.get(key) ?? []), measured]);
      }
    }
  }
}

function report(): void {
  const table = [["median of rounds", ...Object.keys(servers), "ratio", "CPU s per million", "p99.9"]];
  const ratios: number[] = [];
  for (const name of Object.keys(rows)) {
    if (!results.has(`${name}/blkforge`)) continue;
    const figure = (pick: (measured: Measured) => number) =>
      Object.keys(servers).map((server) => median(results.get(`${name}/${server}`)!.map(pick)));
    const iops = figure(({ fio }) => fio.iops);
    const ratio = iops[0] / Math.max(iops[1], iops[2]);
    ratios.push(ratio);
    table.push([
      name,
      ...iops.map((value) => value.toFixed(0)),
      `${ratio.toFixed(2)} x`,
      figure((measured) => measured.processorSecondsPerMillion)
        .map((seconds) => seconds.toFixed(1))
        .join(" / "),
      figure(({ fio }) => fio.p999Ns)
        .map(formatDuration)
        .join(" / "),
    ]);
  }
  const geometricMean = Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length);
  if (values.check && (geometricMean < smallestMean || ratios.some((ratio) => ratio < smallestRatio))) {
    process.exitCode = 1;
  }
  if (values.json) {
    const measured = [...results].map(([key, rounds]) => ({
      key,
      rounds: rounds.map(({ fio: { histogram: _, ...fio }, ...rest }) => ({ ...fio, ...rest })),
    }));
    console.log(JSON.stringify({ schemaVersion: 1, measured, ratios, geometricMean }));
    return;
  }
  console.log(formatTable(table));
  console.log(`\nratio: blkforge to the better of the two; geometric mean ${geometricMean.toFixed(2)} x`);
}

function processorSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // Fields after the name in parentheses: utime and stime are the 14th and 15th of all.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

function tmpdirOnMemory(): string {
  return /^\S+ \/dev\/shm tmpfs /m.test(readFileSync("/proc/mounts", "utf8")) ? "/dev/shm" : tmpdir();
}
