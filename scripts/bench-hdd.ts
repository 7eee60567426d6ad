/**
 * `npm run bench:hdd`: speed and memory of the hard-disk model: random 4 KiB reads at queue depth 32, closed loop.
 *
 * A million requests for the time (after a warm-up, so that the compiler has settled), ten million for the heap: the
 * difference of two measurements after garbage collection is what was kept. `--json` prints one object, `--check` fails
 * when the heap has grown by a megabyte or more. Times are of this machine; other load on it counts.
 */
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { ExitCode } from "../src/base/errors.js";
import { Random } from "../src/base/random.js";
import { Op, RequestTable } from "../src/base/request.js";
import { createHddModel } from "../src/model/hdd/index.js";
import { loadProfile } from "../src/profile/load.js";

const queueDepth = 32;
const blockBytes = 4096;
const heapLimitBytes = 2 ** 20;

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
const requests = new RequestTable(queueDepth);
const model = createHddModel({ parameters, sizeBytes, requests, seed: 1 });
const random = new Random(1, "bench");

let completions = 0;
const sink = {
  complete(slot: number, dueNs: number) {
    completions++;
    submit(slot, dueNs);
  },
};

function submit(slot: number, nowNs: number): void {
  requests.op[slot] = Op.read;
  requests.offsetBytes[slot] = random.nextInteger(sizeBytes / blockBytes) * blockBytes;
  requests.lengthBytes[slot] = blockBytes;
  model.arrive(slot, nowNs);
}

/** CPU seconds for so many requests. */
function measure(count: number): number {
  const before = process.cpuUsage();
  const end = completions + count;
  while (completions < end) model.advance(model.nextEventNs(), sink);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

for (let i = 0; i < queueDepth; i++) submit(requests.acquire(), 0);
measure(200_000);
const millionSeconds = measure(1_000_000);
collectGarbage();
const heapBefore = process.memoryUsage().heapUsed;
const tenMillionSeconds = measure(10_000_000);
collectGarbage();
const heapGrowthBytes = process.memoryUsage().heapUsed - heapBefore;

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
