/**
 * `npm run bench:ssd`: speed and memory of the solid-state model, in closed loop: 4 KiB random writes in steady-state
 * garbage collection, and random reads of the same drive.
 *
 * A million requests each for the time (after a warm-up, so that the compiler has settled), then more for the heap: the
 * difference of two measurements after garbage collection is what was kept. `--json` prints one object, `--check` fails
 * when requests are simulated more slowly than promised, the heap has grown by a megabyte or more, or the mapping
 * takes over 8 bytes per 4 KiB of the device. Times are CPU time of this machine; other load on it counts.
 *
 * `--live` asks something else: whether collecting makes the emulator late (support/live-lateness.ts). With `--check` it
 * fails when the drive's p99 lateness is above 200 us. `--seconds N` of each
 * are measured, in turns.
 */
import { parseArgs } from "node:util";
import { ExitCode } from "../src/base/errors.js";
import { Op } from "../src/base/request.js";
import { SsdModel } from "../src/model/ssd/index.js";
import { loadProfile } from "../src/profile/load.js";
import { ClosedLoop, heapLimitBytes, heapUsedBytes } from "./support/closed-loop.js";
import { benchLive } from "./support/live-lateness.js";

const queueDepth = 32;
const leastPerSecond = { write: 500_000, read: 1_000_000 };
const mostBytesPerUnit = 8;

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    live: { type: "boolean", default: false },
    seconds: { type: "string", default: "30" },
    check: { type: "boolean", default: false },
    profile: { type: "string", default: "nvme-enterprise" },
    size: { type: "string", default: "64G" },
  },
});

if (options.live) {
  const isMet = await benchLive(Number(options.seconds), options.json);
  process.exit(options.check && !isMet ? ExitCode.checkFailed : ExitCode.ok);
}

const profile = loadProfile(options.profile, {
  size: options.size,
  settings: ["precondition.state=random"],
});
if (profile.model !== "ssd") throw new Error(`${options.profile} is not a solid-state drive`);
const { parameters, sizeBytes } = profile;
const loop = new ClosedLoop({
  sizeBytes,
  queueDepth,
  create: (requests) => new SsdModel({ parameters, sizeBytes, requests, seed: 1 }),
});
const { model } = loop;

loop.run(Op.write, 2_000_000);
const before = { ...model.counters };
const writeSeconds = loop.run(Op.write, 1_000_000);
const { programmed, copied } = model.counters;
const amplification = 1 + (copied - before.copied) / (programmed - before.programmed);
loop.run(Op.read, 200_000);
const readSeconds = loop.run(Op.read, 1_000_000);
loop.run(Op.write, 100_000);
const heapBefore = heapUsedBytes();
loop.run(Op.write, 2_000_000);
loop.run(Op.read, 2_000_000);
const heapGrowthBytes = heapUsedBytes() - heapBefore;

const result = {
  schemaVersion: 1,
  profile: profile.name,
  sizeBytes,
  queueDepth,
  writesPerSecond: 1e6 / writeSeconds,
  writeAmplification: amplification,
  readsPerSecond: 1e6 / readSeconds,
  heapGrowthBytes,
  mappingBytesPerUnit: model.mapping.bytesPerUnit,
};
if (options.json) {
  console.log(JSON.stringify(result));
} else {
  console.log(`${profile.name}, ${options.size}, random 4 KiB, queue depth ${queueDepth}`);
  console.log(
    `writes in steady state  ${Math.round(result.writesPerSecond)} a second of CPU (write amplification ${amplification.toFixed(2)})`,
  );
  console.log(`reads                   ${Math.round(result.readsPerSecond)} a second of CPU`);
  console.log(
    `heap                    grown by ${(heapGrowthBytes / 1024).toFixed(0)} KiB over 4 million requests`,
  );
  console.log(
    `mapping                 ${result.mappingBytesPerUnit.toFixed(2)} bytes per 4 KiB of the device`,
  );
}
if (options.check) {
  const failures = [
    ...(result.writesPerSecond < leastPerSecond.write
      ? [`fewer than ${leastPerSecond.write} writes a second`]
      : []),
    ...(result.readsPerSecond < leastPerSecond.read
      ? [`fewer than ${leastPerSecond.read} reads a second`]
      : []),
    ...(heapGrowthBytes >= heapLimitBytes ? ["the heap has grown: something allocates per request"] : []),
    ...(result.mappingBytesPerUnit > mostBytesPerUnit
      ? [`the mapping takes over ${mostBytesPerUnit} bytes`]
      : []),
  ];
  for (const failure of failures) console.error(`bench-ssd: ${failure}`);
  if (failures.length > 0) process.exitCode = ExitCode.checkFailed;
}
