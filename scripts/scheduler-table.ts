/**
 * `npm run docs:schedulers`: what the kernel's I/O schedulers do to latency on one hard disk under mixed load, measured in
 * the VM in virtual time, and written into docs/schedulers.md between its markers. Needs a build (npm run build).
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { formatDuration } from "../src/base/units.js";
import { labExec } from "../src/lab/exec.js";
import { Progress } from "./support/progress.js";

const schedulers = ["none", "mq-deadline", "bfq", "kyber"];

/** In each, one process reads 4 KiB at random places, one at a time, with direct I/O; the other is fio's here. */
const loads = [
  {
    title: "Beside a stream of writes (64 KiB each, 256 at a time)",
    other: "--rw=write --bs=64k --iodepth=256 --size=512m",
    seconds: 10,
  },
  {
    title: "Beside a crowd of random reads and writes (4 KiB, half and half, 200 at a time)",
    other: "--rw=randrw --bs=4k --iodepth=200 --size=1t --norandommap",
    seconds: 30,
  },
];

const page = join(import.meta.dirname, "../docs/schedulers.md");
const [begin, end] = ["<!-- table: npm run docs:schedulers -->", "<!-- end of table -->"];

interface FioSide {
  bw_bytes: number;
  lat_ns: { mean: number; N: number; percentile?: Record<string, number> };
}

interface FioJob {
  read: FioSide;
  write: FioSide;
}

const progress = new Progress();
let kernel = "";
const sections: string[] = [];
for (const { title, other, seconds } of loads) sections.push(`## ${title}\n\n${await table(other, seconds)}`);
progress.end();

const before = readFileSync(page, "utf8");
const head = before.slice(0, before.indexOf(begin) + begin.length);
const made = `Linux ${kernel}, hdd-7200, virtual time.\n\n${sections.join("\n\n")}`;
writeFileSync(page, `${head}\n\n${made}\n\n${before.slice(before.indexOf(end))}`);
console.log(made);

async function table(other: string, seconds: number): Promise<string> {
  const stdout = new PassThrough();
  const output = text(stdout);
  const { status, kernelRelease } = await labExec({
    yes: true,
    device: { profile: "hdd-7200" },
    time: "virtual",
    cpus: 2,
    command: [
      `modprobe -a bfq kyber-iosched mq-deadline
      for scheduler in ${schedulers.join(" ")}; do
        echo $scheduler > /sys/block/nbd0/queue/scheduler
        echo "@@$scheduler"
        fio --filename=$DEV --direct=1 --runtime=${seconds} --time_based --output-format=json --lat_percentiles=1 \\
            --name=reader --ioengine=psync --rw=randread --bs=4k --size=1t --offset=1t --norandommap \\
            --name=other --ioengine=libaio ${other}
      done`,
    ],
    stdout,
    stderr: process.stderr,
    onProgress: ({ text: stage }) => progress.show(stage),
  });
  stdout.end();
  if (status !== 0) throw new Error(`the guest's script exited ${status}`);
  kernel = kernelRelease;
  const rows = (await output)
    .split("@@")
    .slice(1)
    .map((part) => {
      const { jobs } = JSON.parse(part.slice(part.indexOf("{"))) as { jobs: FioJob[] };
      const [{ read: reader }, { read, write }] = jobs;
      return [
        part.slice(0, part.indexOf("\n")),
        formatDuration(reader.lat_ns.mean),
        p99(reader),
        `${((read.bw_bytes + write.bw_bytes) / 1e6).toFixed(1)} MB/s`,
        read.lat_ns.N > 0 ? formatDuration(read.lat_ns.mean) : "-",
        formatDuration(write.lat_ns.mean),
        p99(write),
      ];
    });
  const titles = [
    "scheduler",
    "reader mean",
    "reader p99",
    "others",
    "their reads",
    "their writes",
    "writes' p99",
  ];
  return [titles, titles.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

function p99({ lat_ns }: FioSide): string {
  return formatDuration(lat_ns.percentile?.["99.000000"] ?? Number.NaN);
}
