/**
 * Is a delay what was asked for? `fixed` devices of 20 us, 100 us, 1 ms and 10 ms at queue depths 1, 32 and 256, beside the instant
 * device (the floor of transport and client) and nbdkit's delay filter, all measured in turn in one run, medians over the rounds.
 *
 * A point is met when the p50 that fio sees is not early, at most 15 us over the delay plus the instant device's own p50 at that depth,
 * and nearer to the delay than nbdkit's. While a delay passes the client sleeps, and wakes as slowly as its processor does, which no server
 * can mend; so the instant device is measured with pauses as long as the delay, too. A point that is met against the slower of its two
 * figures only is shown as "ok, rested", and counts for `--check`. The delay filter counts whole milliseconds (1.32), so below 1 ms it is held against with the
 * shortest delay it has; without any it would not be a delay filter.
 *
 * `--rounds N`, `--seconds N`, `--only TEXT` (delays, such as 1ms), `--json`; `--check` exits 1 when a point is missed.
 */
import { parseArgs } from "node:util";
import { formatTable } from "../src/base/table.js";
import { formatDuration, parseDuration } from "../src/base/units.js";
import { ensurePackages } from "../src/lab/packages.js";
import { type FioResult, runFioExactly } from "./support/fio.js";
import { Progress } from "./support/progress.js";
import { blkforge, nbdkit, type ServerCommand, withServer } from "./support/servers.js";
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
const depths = [1, 32, 256];
const delays = ["20us", "100us", "1ms", "10ms"].filter((delay) => delay.includes(values.only));
/** What the emulator may add to the delay and to the instant device's own time. */
const allowedNs = 15_000;

const nbdkitDelay = (delay: string) => `${Math.max(1, parseDuration(delay) / 1e6)}ms`;
const servers: Record<string, ServerCommand> = { instant: blkforge("instant", "--size", "256M") };
for (const delay of delays) {
  servers[`fixed ${delay}`] = blkforge("fixed", "--size", "256M", "--set", `latency=${delay}`);
  servers[`nbdkit ${nbdkitDelay(delay)}`] = nbdkit(
    "--filter=delay",
    "memory",
    "256M",
    `rdelay=${nbdkitDelay(delay)}`,
  );
}

const progress = new Progress();
const results = new Map<string, FioResult[]>();

async function measure(key: string, uri: string, iodepth: number, pauseUs?: number): Promise<void> {
  const job = { rw: "randread", bs: "4k", iodepth, size: "256m", runtimeSeconds: Number(values.seconds) };
  const result = await runFioExactly(uri, pauseUs === undefined ? job : { ...job, pauseUs });
  results.set(`${key}/${iodepth}`, [...(results.get(`${key}/${iodepth}`) ?? []), result]);
}
try {
  await ensurePackages(["clients"], { yes: true, onProgress: (what) => progress.show(what) });
  for (let round = 1; round <= Number(values.rounds); round++) {
    for (const [name, command] of Object.entries(servers)) {
      progress.show(`round ${round}: ${name}`);
      await withServer(command, async (uri) => {
        for (const iodepth of depths) {
          await measure(name, uri, iodepth);
          if (name !== "instant") continue;
          for (const delay of delays)
            await measure(`rested ${delay}`, uri, iodepth, parseDuration(delay) / 1e3);
        }
      });
    }
  }
} finally {
  progress.end();
}

function p50Ns(name: string, iodepth: number): number {
  return median(results.get(`${name}/${iodepth}`)!.map((result) => result.p50Ns));
}

const points = delays.flatMap((delay) =>
  depths.map((iodepth) => {
    const delayNs = parseDuration(delay);
    const ownNs = p50Ns(`fixed ${delay}`, iodepth);
    const instantNs = p50Ns("instant", iodepth);
    const restedNs = Math.max(instantNs, p50Ns(`rested ${delay}`, iodepth));
    const nbdkitNs = p50Ns(`nbdkit ${nbdkitDelay(delay)}`, iodepth);
    const limitNs = delayNs + instantNs + allowedNs;
    return {
      ...{ delay, iodepth, ownNs, instantNs, restedNs, nbdkitNs, limitNs },
      isExact: ownNs >= delayNs && ownNs <= limitNs,
      isExactRested: ownNs >= delayNs && ownNs <= delayNs + restedNs + allowedNs,
      isNearer: Math.abs(ownNs - delayNs) < Math.abs(nbdkitNs - delayNs),
    };
  }),
);

if (values.json) {
  console.log(JSON.stringify({ schemaVersion: 1, points }));
} else {
  const rows = [
    [
      "p50 of 4 KiB random reads",
      "depth",
      "blkforge",
      "allowed",
      "instant",
      "instant, rested",
      "nbdkit delay",
      "",
    ],
  ];
  for (const point of points) {
    const { delay, iodepth, ownNs, limitNs, instantNs, restedNs, nbdkitNs } = point;
    rows.push([
      `fixed ${delay}`,
      String(iodepth),
      ...[ownNs, limitNs, instantNs, restedNs, nbdkitNs].map(formatDuration),
      verdict(point),
    ]);
  }
  console.log(formatTable(rows));
}
if (values.check && !points.every((point) => verdict(point).startsWith("ok"))) process.exitCode = 1;

function verdict({ isExact, isExactRested, isNearer }: (typeof points)[number]): string {
  if (!isExactRested) return "MISSED";
  if (!isNearer) return "FARTHER THAN NBDKIT";
  return isExact ? "ok" : "ok, rested";
}
