/**
 * `npm run bench:models`: speed and memory of the models without mechanics: random 4 KiB reads, closed loop.
 *
 * Requests a second of one core's time for each profile, after a warm-up, and by how much the heap has grown over so many
 * requests after garbage collection. `--check` fails below a million a second or from a megabyte of growth on. Times are
 * of this machine; other load on it counts little, as CPU time is measured.
 */
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { ExitCode } from "../src/base/errors.js";
import { Random } from "../src/base/random.js";
import { Op, RequestTable } from "../src/base/request.js";
import { formatTable } from "../src/base/table.js";
import { createModel } from "../src/model/create.js";
import { loadProfile } from "../src/profile/load.js";

const blockBytes = 4096;
const warmUpRequests = 500_000;
const heapLimitBytes = 2 ** 20;
const speedLimit = 1e6;

/** Name for the table, profile, settings, queue depth. */
const cases: readonly [string, string, readonly string[], number][] = [
  ["lognormal", "distribution", [], 32],
  [
    "pareto, 16 at a time",
    "distribution",
    ["latency.read={kind: pareto, median: 100us, p99: 1ms}", "concurrency=16"],
    32,
  ],
  [
    "percentile table",
    "distribution",
    ["latency.read={kind: percentiles, table: {1: 72us, 50: 115us, 99: 185us, 99.9: 321us}}"],
    32,
  ],
  [
    "mixture",
    "distribution",
    [
      "latency.read={kind: mixture, of: [{weight: 9, latency: {kind: lognormal, median: 100us, sigma: 0.2}}, {weight: 1, latency: {kind: constant, time: 2ms}}]}",
    ],
    32,
  ],
  ["ebs-gp2", "ebs-gp2", [], 32],
  ["ebs-io2", "ebs-io2", [], 256],
  ["gcp-pd-standard", "gcp-pd-standard", [], 32],
  ["failing slow", "distribution", ["slow=fail-slow-transient"], 32],
];

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
    requests: { type: "string", default: "3000000" },
  },
});
const requestCount = Number(options.requests);

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

const results = cases.map(([name, profile, settings, depth]) => ({
  name,
  ...measure(profile, settings, depth),
}));

if (options.json) console.log(JSON.stringify({ schemaVersion: 1, requestCount, results }));
else
  console.log(
    formatTable([
      ["", "requests/s", "heap growth"],
      ...results.map(({ name, perSecond, heapGrowthBytes }) => [
        name,
        perSecond.toFixed(0),
        `${(heapGrowthBytes / 1024).toFixed(0)} KiB`,
      ]),
    ]),
  );
if (options.check) {
  for (const { name, perSecond, heapGrowthBytes } of results) {
    if (perSecond >= speedLimit && heapGrowthBytes < heapLimitBytes) continue;
    console.error(
      `bench-models: ${name}: ${perSecond.toFixed(0)} requests/s, heap grown by ${heapGrowthBytes} bytes`,
    );
    process.exitCode = ExitCode.checkFailed;
  }
}

function measure(profileName: string, settings: readonly string[], depth: number) {
  const profile = loadProfile(profileName, { settings });
  const { sizeBytes } = profile;
  const requests = new RequestTable(depth);
  const model = createModel({ profile, requests, seed: 1, sizeBytes });
  const random = new Random(1, "bench");
  let completions = 0;
  const submit = (slot: number, nowNs: number) => {
    requests.op[slot] = Op.read;
    requests.offsetBytes[slot] = random.nextInteger(sizeBytes / blockBytes) * blockBytes;
    requests.lengthBytes[slot] = blockBytes;
    model.arrive(slot, nowNs);
  };
  const sink = {
    complete(slot: number, dueNs: number) {
      completions++;
      submit(slot, dueNs);
    },
  };
  const run = (count: number) => {
    const end = completions + count;
    while (completions < end) model.advance(model.nextEventNs(), sink);
  };
  for (let i = 0; i < depth; i++) submit(requests.acquire(), 0);
  run(warmUpRequests);
  collectGarbage();
  const heapBefore = process.memoryUsage().heapUsed;
  const cpuBefore = process.cpuUsage();
  run(requestCount);
  const { user, system } = process.cpuUsage(cpuBefore);
  collectGarbage();
  return {
    perSecond: requestCount / ((user + system) / 1e6),
    heapGrowthBytes: Math.max(0, process.memoryUsage().heapUsed - heapBefore),
  };
}
