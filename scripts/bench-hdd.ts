/**
 * `npm run bench:hdd`: speed and memory of the hard-disk model: random 4 KiB reads at queue depth 32, closed loop.
 *
 * A million requests for the time (after a warm-up, so that the compiler has settled), ten million for the heap: the
 * difference of two measurements after garbage collection is what was kept. `--json` prints one object, `--check` fails
 * when the heap has grown by a megabyte or more. Times are of this machine; other load on it counts.
 */
import { parseArgs } from "node:util";
import { ExitCode } from "../src/base/errors.js";
import { Op } from "../src/base/request.js";
import { createHddModel } from "../src/model/hdd/index.js";
import { loadProfile } from "../src/profile/load.js";
import { ClosedLoop, heapLimitBytes, heapUsedBytes } from "./support/closed-loop.js";

const queueDepth = 32;

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
    profile: { type: "string", default: "hdd-7200" },
  },
});

const profile = loadProfile(options.profile);
if (profile.model !== "hdd") throw new Error(`${options.profile} is not a hard disk`);
const { parameters, sizeBytes } = profile;
const loop = new ClosedLoop({
  sizeBytes,
  queueDepth,
  create: (requests) => createHddModel({ parameters, sizeBytes, requests, seed: 1 }),
});

loop.run(Op.read, 200_000);
const millionSeconds = loop.run(Op.read, 1_000_000);
const heapBefore = heapUsedBytes();
const tenMillionSeconds = loop.run(Op.read, 10_000_000);
const heapGrowthBytes = heapUsedBytes() - heapBefore;

const result = {
  schemaVersion: 1,
  profile: profile.name,
  queueDepth,
  millionSeconds,
  tenMillionSeconds,
  heapGrowthBytes,
};
if (options.json) {
  console.log(JSON.stringify(result));
} else {
  console.log(`${profile.name}, random 4 KiB reads, queue depth ${queueDepth}`);
  console.log(`one million requests   ${millionSeconds.toFixed(2)} s of CPU`);
  console.log(
    `ten million requests   ${tenMillionSeconds.toFixed(2)} s, heap grown by ${(heapGrowthBytes / 1024).toFixed(0)} KiB`,
  );
}
if (options.check && heapGrowthBytes >= heapLimitBytes) {
  console.error(`bench-hdd: the heap has grown by ${heapGrowthBytes} bytes: something allocates per request`);
  process.exitCode = ExitCode.checkFailed;
}
