/**
 * `npm run bench:models`: speed and memory of the models without mechanics: random 4 KiB reads, closed loop.
 *
 * Requests a second of one core's time for each profile, after a warm-up, and by how much the heap has grown over so many
 * requests after garbage collection. `--check` fails below a million a second or from a megabyte of growth on. Times are
 * of this machine; other load on it counts little, as CPU time is measured.
 */
import { parseArgs } from "node:util";
import { ExitCode } from "../src/base/errors.js";
import { Op } from "../src/base/request.js";
import { formatTable } from "../src/base/table.js";
import { createModel } from "../src/model/create.js";
import { loadProfile } from "../src/profile/load.js";
import { ClosedLoop, heapLimitBytes, heapUsedBytes } from "./support/closed-loop.js";

const warmUpRequests = 500_000;
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
  const loop = new ClosedLoop({
    sizeBytes,
    queueDepth: depth,
    create: (requests) => createModel({ profile, requests, seed: 1, sizeBytes }),
  });
  loop.run(Op.read, warmUpRequests);
  const heapBefore = heapUsedBytes();
  const seconds = loop.run(Op.read, requestCount);
  return {
    perSecond: requestCount / seconds,
    heapGrowthBytes: Math.max(0, heapUsedBytes() - heapBefore),
  };
}
