/**
 * Runs in the guest: attaches and detaches one ublk device after the other from a single process, so that what a round
 * leaves behind adds up. Prints one JSON line with descriptors and memory at the beginning and at the end.
 *
 *   node ublk-rounds.mjs ROUNDS idle|load
 */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

const app = "/app/dist";
const { startServing } = await import(`${app}/cli/serving.js`);
const { readServerSpec } = await import(`${app}/cli/serve-options.js`);
const { UblkAttachment } = await import(`${app}/ublk/attachment.js`);

const rounds = Number(process.argv[2]);
const isLoaded = process.argv[3] === "load";

const server = readServerSpec(
  [{ profile: "fixed", choice: { size: "64M", set: ["latency=200us"], timing: "sleep" }, listen: [] }],
  { logLevel: "warn" },
);
const [spec] = server.devices;
const { devices, close } = await startServing(server, {});
const [device] = devices;

const options = (round) => ({
  id: null,
  queues: 1 + (round % 4),
  depth: [32, 128, 1][round % 3],
  copy: round % 5 === 4 ? "kernel" : "user",
  recovery: "none",
  batch: process.env.BLKFORGE_BATCH ?? "off",
  scansPartitions: true,
  isRotational: false,
  parameters: {
    sizeBytes: device.description.sizeBytes,
    logicalBlockBytes: 512,
    physicalBlockBytes: 4096,
    largestRequestBytes: 128 * 1024,
    isReadOnly: false,
    isRotational: false,
    hasVolatileCache: true,
    zones: spec.profile.zones ?? null,
  },
});

function snapshot() {
  globalThis.gc?.();
  const kernel = readFileSync("/proc/meminfo", "utf8");
  return {
    descriptors: readdirSync("/proc/self/fd").length,
    threads: readdirSync("/proc/self/task").length,
    residentMiB: Math.round(process.memoryUsage().rss / 2 ** 20),
    unreclaimableKiB: Number(/SUnreclaim:\s+(\d+)/.exec(kernel)[1]),
    devices: readdirSync("/sys/class/ublk-char").length,
  };
}

/** Readers and writers in processes of their own, as many as there are queues. */
function load(path) {
  const words = (from, to) => ["dd", `if=${from}`, `of=${to}`, "bs=4k", "count=100000"];
  const commands = [
    [...words(path, "/dev/null"), "iflag=direct"],
    // A writer that starts too late must not make a file in the node's place.
    [...words("/dev/zero", path), "oflag=direct", "conv=nocreat"],
    [...words(path, "/dev/null")],
  ];
  return commands.map(([program, ...args]) => spawn(program, args, { stdio: "ignore" }));
}

const reads = (path) =>
  Number(
    readFileSync(`/sys/block/${path.slice(5)}/stat`, "utf8")
      .trim()
      .split(/\s+/)[0],
  );

// The first rounds fill caches that stay: slabs, V8's code, the event loop's own.
const warmUp = Math.min(3, rounds - 1);
let before = null;
for (let round = 0; round < rounds; round++) {
  if (round === warmUp) before = snapshot();
  const attachment = await UblkAttachment.create(device.ublk, options(round));
  if (!isLoaded) {
    await attachment.detach(false);
    continue;
  }
  const begun = reads(attachment.path);
  const workers = load(attachment.path);
  const ends = workers.map((worker) => new Promise((resolve) => worker.once("exit", resolve)));
  while (reads(attachment.path) < begun + 20) await new Promise((resolve) => setTimeout(resolve, 5));
  await attachment.detach(true);
  await Promise.all(ends);
}
const after = snapshot();
await close();
console.log(JSON.stringify({ rounds, before, after }));
