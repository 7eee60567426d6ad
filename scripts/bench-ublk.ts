/**
 * `npm run bench:ublk`: what a request costs over ublk, beside NBD, the kernel's own null_blk and loop devices, and a null ublk
 * server in C, the least a user-space server can cost.
 *
 * Everything runs in one VM in virtual time (one instruction is one nanosecond), so that instructions decide and not the
 * neighbours: 4 vCPUs, 4 hardware queues, 4 KiB random reads with fio's io_uring engine at depth 1 and 32. All vCPUs share
 * one instruction clock, so the figures compare like with like and are not those of a real machine.
 *
 * On a kernel that has batched commands (`--kernel 7`) ublk's rows come with and without them.
 *
 * `--check` ends with status 1 unless `instant` over ublk reaches 1.5 x NBD and 0.9 x the C server at both depths, and a
 * model that decides in JavaScript 65 % of `instant` at depth 32. `--only TEXT` (rows whose name contains it), `--seconds N`
 * (virtual, per figure), `--kernel VERSION`, `--json`.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { formatTable } from "../src/base/table.js";
import { formatDuration } from "../src/base/units.js";
import { labExec } from "../src/lab/exec.js";
import { type FioResult, fioOutput, parseFio } from "./support/fio.js";
import { Progress } from "./support/progress.js";

const { values } = parseArgs({
  options: {
    kernel: { type: "string" },
    only: { type: "string", default: "" },
    seconds: { type: "string", default: "1" },
    check: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});

const hasBatches = Number.parseInt(values.kernel ?? "0", 10) >= 7;
const queues = 4;
const depths = [1, 32];
const sizeMegabytes = 256;

/** Per row: shell lines that leave the device's path in $DEV, and those that take it away again. */
interface Row {
  begin: string;
  end: string;
  /** Whether it takes a driver with batched commands (Linux 7.0). */
  isBatched?: boolean;
}

const blkforge = (...words: string[]): Row => ({
  begin: `attach ${words.join(" ")} --size ${sizeMegabytes}M --timing sleep`,
  end: "detach",
});

const batched = (row: Row): Row => ({
  begin: row.begin.replaceAll("--batch off", "--batch on"),
  end: row.end,
  isBatched: true,
});

// A fault that never acts: as long as one is set, every request is asked about in JavaScript.
const inJavaScript: Row = {
  begin:
    `attach instant --ublk --queues ${queues} --batch off --size ${sizeMegabytes}M --timing sleep --api unix:/run/api.sock\n` +
    "blkforge fault add delay delay=1us --disarmed --api unix:/run/api.sock >/dev/null",
  end: "detach",
};
const instant = blkforge("instant", `--ublk --queues ${queues} --batch off`);
const kernelCopy = blkforge("instant", `--ublk --queues ${queues} --batch off --copy kernel`);

const rows = {
  null_blk: {
    begin: `modprobe null_blk nr_devices=1 submit_queues=${queues} gb=1 queue_mode=2 irqmode=0 && DEV=/dev/nullb0`,
    end: "rmmod null_blk",
  },
  "loop on tmpfs": {
    begin:
      `modprobe loop && truncate -s ${sizeMegabytes}M /dev/shm/image && DEV=$(losetup -f) && ` +
      "losetup $DEV /dev/shm/image",
    end: "losetup -d $DEV && rm /dev/shm/image",
  },
  "C null server, ublk": {
    begin: `start 'ublkb[0-9]+' null-ublk-server ${queues} 128 $((${sizeMegabytes} << 20))`,
    end: "detach",
  },
  "instant, NBD": blkforge("instant", `--connections ${queues}`),
  "instant, ublk": instant,
  "instant, ublk, batch": batched(instant),
  "instant, ublk, kernel copy": kernelCopy,
  "instant, ublk, kernel copy, batch": batched(kernelCopy),
  "JavaScript, ublk": inJavaScript,
  "JavaScript, ublk, batch": batched(inJavaScript),
} as const satisfies Record<string, Row>;

type RowName = keyof typeof rows;

/** `start PATTERN COMMAND...` runs a server until its output names the device, `attach` blkforge's; `detach` ends either. */
const helpers = `
start() {
  pattern=$1; shift
  "$@" >/tmp/server 2>/tmp/server.err & server=$!
  until grep -qE "$pattern" /tmp/server && { [ "$1" != blkforge ] || grep -q ready /tmp/server; }; do
    kill -0 $server 2>/dev/null || { cat /tmp/server.err >&2; return 1; }
    usleep 50000
  done
  DEV=/dev/$(grep -oE "$pattern" /tmp/server)
}
attach() { start '(nbd|ublkb)[0-9]+' blkforge attach "$@"; }
detach() { kill -TERM $server; wait $server; }
# read DEPTH SECONDS: 4 KiB random reads of $DEV, no scheduler in between.
read_at() {
  fio --name=b --filename=$DEV --direct=1 --ioengine=io_uring --rw=randread --bs=4k --size=${sizeMegabytes}m \\
      --norandommap --iodepth=$1 --runtime=$2 --time_based ${fioOutput.join(" ")}
}
modprobe -q nbd; modprobe -q ublk_drv
`;

function script(): string {
  const lines = [helpers];
  for (const [name, { begin, end }] of chosenRows()) {
    lines.push(
      begin,
      'echo none > "/sys/block/$(basename $DEV)/queue/scheduler"',
      // Once without measuring: code is compiled, pages are there.
      `read_at 32 ${values.seconds} > /dev/null`,
    );
    for (const depth of depths) {
      lines.push(`echo '@@ ${JSON.stringify({ name, depth })}'`, `read_at ${depth} ${values.seconds}`);
    }
    lines.push(end);
  }
  return lines.join("\n");
}

function chosenRows(): [RowName, Row][] {
  return (Object.entries(rows) as [RowName, Row][]).filter(
    ([name, { isBatched = false }]) => name.includes(values.only) && (!isBatched || hasBatches),
  );
}

const progress = new Progress();
const folder = mkdtempSync(join(tmpdir(), "blkforge-bench-"));
let output: string;
try {
  const server = join(folder, "null-ublk-server");
  progress.show("compiling the null ublk server");
  await promisify(execFile)("g++", [
    ...["-std=c++17", "-O2", "-pthread", "-o", server],
    fileURLToPath(new URL("./support/null-ublk-server.cc", import.meta.url)),
  ]);
  output = await runInGuest(server);
} finally {
  progress.end();
  rmSync(folder, { recursive: true, force: true });
}
const results = new Map<string, FioResult>(
  output
    .split("@@ ")
    .slice(1)
    .map((part) => {
      const { name, depth } = JSON.parse(part.slice(0, part.indexOf("\n"))) as {
        name: string;
        depth: number;
      };
      return [`${name}/${depth}`, parseFio(part.slice(part.indexOf("\n")))];
    }),
);
report();

async function runInGuest(server: string): Promise<string> {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const said = Promise.all([text(stdout), text(stderr)]);
  const result = await labExec({
    withBlkforge: true,
    yes: true,
    ...(values.kernel === undefined ? {} : { kernel: values.kernel }),
    time: "virtual",
    cpus: queues,
    tools: [server, "losetup"],
    command: [`set -eu\n${script()}`],
    stdout,
    stderr,
    onProgress: ({ text: what }) => progress.show(what),
  }).finally(() => {
    stdout.end();
    stderr.end();
  });
  const [out, errors] = await said;
  if (result.status !== 0) {
    throw new Error(
      `the guest's script ended with status ${result.status}\n${errors}\n${result.kernelLog.slice(-2000)}`,
    );
  }
  return out;
}

function iops(name: RowName, depth: number): number | undefined {
  return results.get(`${name}/${depth}`)?.iops;
}

/** What is asked of the figures: one of them, at least so many times another. */
function criteria(): { what: string; ratio: number; atLeast: number }[] {
  const wanted: [RowName, RowName, number, number[]][] = [
    ["instant, ublk", "instant, NBD", 1.5, depths],
    ["instant, ublk", "C null server, ublk", 0.9, depths],
    ["JavaScript, ublk", "instant, ublk", 0.65, [32]],
  ];
  return wanted.flatMap(([name, other, atLeast, atDepths]) =>
    atDepths.flatMap((depth) => {
      const [own, base] = [iops(name, depth), iops(other, depth)];
      if (own === undefined || base === undefined) return [];
      return [{ what: `${name} / ${other}, depth ${depth}`, ratio: own / base, atLeast }];
    }),
  );
}

function report(): void {
  const judged = criteria();
  if (values.json) {
    const measured = [...results].map(([key, { histogram: _, ...figures }]) => ({ key, ...figures }));
    console.log(JSON.stringify({ schemaVersion: 1, measured, criteria: judged }));
  } else {
    const table = [["4 KiB random read", "depth", "IOPS", "mean", "p50", "p99", "p99.9"]];
    for (const [name] of chosenRows()) {
      for (const depth of depths) {
        const result = results.get(`${name}/${depth}`)!;
        const latencies = [result.meanNs, result.p50Ns, result.p99Ns, result.p999Ns].map(formatDuration);
        table.push([name, String(depth), result.iops.toFixed(0), ...latencies]);
      }
    }
    console.log(formatTable(table));
    for (const { what, ratio, atLeast } of judged) {
      console.log(`${what}: ${ratio.toFixed(2)}, wanted ${atLeast}: ${ratio >= atLeast ? "ok" : "MISSED"}`);
    }
  }
  const isComplete = values.only === "";
  if (values.check)
    process.exitCode = isComplete && judged.every(({ ratio, atLeast }) => ratio >= atLeast) ? 0 : 1;
}
