/**
 * `npm run docs:schedulers`: what the kernel's I/O schedulers do for a reader beside a writer on one hard disk, measured in
 * the VM in virtual time, and written into docs/schedulers.md between its markers.
 *
 * The load: one process reads 4 KiB at random places, one at a time; another writes 256 KiB sequentially, 16 at a time;
 * over 512 MiB again and again; both with direct I/O for 10 s of the disk's time per scheduler. Needs a build
 * (npm run build).
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { formatDuration } from "../src/base/units.js";
import { labExec } from "../src/lab/exec.js";
import { Progress } from "./support/progress.js";

const schedulers = ["none", "mq-deadline", "bfq", "kyber"];
const page = join(import.meta.dirname, "../docs/schedulers.md");
const [begin, end] = ["<!-- table: npm run docs:schedulers -->", "<!-- end of table -->"];

interface FioSide {
  iops: number;
  bw_bytes: number;
  lat_ns: { mean: number; percentile: Record<string, number> };
}

const script = `
modprobe -a bfq kyber-iosched mq-deadline
for scheduler in ${schedulers.join(" ")}; do
  echo $scheduler > /sys/block/nbd0/queue/scheduler
  echo "@@$scheduler"
  fio --filename=$DEV --direct=1 --runtime=10 --time_based --output-format=json --lat_percentiles=1 \\
      --name=reader --ioengine=psync --rw=randread --bs=4k --size=1t --offset=1t --norandommap \\
      --name=writer --ioengine=libaio --iodepth=16 --rw=write --bs=256k --size=512m
done`;

const progress = new Progress();
const stdout = new PassThrough();
const output = text(stdout);
const { status, kernelRelease } = await labExec({
  device: { profile: "hdd-7200", connections: 2 },
  time: "virtual",
  cpus: 2,
  command: [script],
  stdout,
  stderr: process.stderr,
  onProgress: ({ text: stage }) => progress.show(stage),
});
stdout.end();
progress.end();
if (status !== 0) throw new Error(`the guest's script exited ${status}`);

const rows = (await output)
  .split("@@")
  .slice(1)
  .map((part) => {
    const { jobs } = JSON.parse(part.slice(part.indexOf("{"))) as {
      jobs: { read: FioSide; write: FioSide }[];
    };
    const { read } = jobs[0];
    const { write } = jobs[1];
    return [
      part.slice(0, part.indexOf("\n")),
      read.iops.toFixed(1),
      formatDuration(read.lat_ns.mean),
      formatDuration(read.lat_ns.percentile["99.000000"]),
      `${(write.bw_bytes / 1e6).toFixed(1)} MB/s`,
      formatDuration(write.lat_ns.percentile["99.000000"]),
    ];
  });
const table = [
  ["scheduler", "reads/s", "read mean", "read p99", "writes", "write p99"],
  ["---", "---", "---", "---", "---", "---"],
  ...rows,
]
  .map((row) => `| ${row.join(" | ")} |`)
  .join("\n");
const before = readFileSync(page, "utf8");
const made = `Linux ${kernelRelease}, hdd-7200, virtual time:\n\n${table}`;
const head = before.slice(0, before.indexOf(begin) + begin.length);
writeFileSync(page, `${head}\n\n${made}\n\n${before.slice(before.indexOf(end))}`);
console.log(table);
