/**
 * Is a delay what was asked for? A `fixed` device of 1 ms at queue depths 1, 32 and 256, beside the instant device (the
 * floor of transport and client) and nbdkit's delay filter, all measured in turn in one run, medians over the rounds.
 *
 * Passes when at each depth the mean lies between 1.0 ms and 1.0 ms + the instant device's mean at that depth, + 10 %.
 * Exit status 1 when it does not. `--rounds N`, `--seconds N` change how long it takes; `--json` prints figures only.
 */
import { parseArgs } from "node:util";
import { formatTable } from "../src/base/table.js";
import { formatDuration } from "../src/base/units.js";
import { ensurePackages } from "../src/lab/packages.js";
import { type FioResult, runFio } from "./support/fio.js";
import { blkforge, nbdkit, type ServerCommand, withServer } from "./support/servers.js";
import { median } from "./support/statistics.js";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "2" },
    json: { type: "boolean", default: false },
  },
});
const delayNs = 1e6;
const depths = [1, 32, 256];
const servers: Record<string, ServerCommand> = {
  instant: blkforge("instant", "--size", "256M"),
  "fixed 1 ms": blkforge("fixed", "--size", "256M", "--set", "latency=1ms"),
  "nbdkit delay 1 ms": nbdkit("--filter=delay", "memory", "256M", "rdelay=1ms"),
};

await ensurePackages(["clients"], { onProgress: (what) => console.error(what) });
const results = new Map<string, FioResult[]>();
for (let round = 1; round <= Number(values.rounds); round++) {
  for (const iodepth of depths) {
    for (const [name, command] of Object.entries(servers)) {
      process.stderr.write(`round ${round}: ${name}, depth ${iodepth}\n`);
      const result = await withServer(command, (uri) =>
        runFio(uri, {
          rw: "randread",
          bs: "4k",
          iodepth,
          size: "256m",
          runtimeSeconds: Number(values.seconds),
        }),
      );
      const key = `${name}/${iodepth}`;
      results.set(key, [...(results.get(key) ?? []), result]);
    }
  }
}

function figure(name: string, iodepth: number, field: Exclude<keyof FioResult, "histogram">): number {
  return median(results.get(`${name}/${iodepth}`)!.map((result) => result[field]));
}

const verdicts = depths.map((iodepth) => {
  const meanNs = figure("fixed 1 ms", iodepth, "meanNs");
  const limitNs = (delayNs + figure("instant", iodepth, "meanNs")) * 1.1;
  return { iodepth, meanNs, limitNs, isMet: meanNs >= delayNs && meanNs <= limitNs };
});

if (values.json) {
  const measured = [...results].map(([key, rounds]) => ({ key, rounds }));
  console.log(JSON.stringify({ schemaVersion: 1, measured, verdicts }));
} else {
  const rows = [["4 KiB random reads, fio nbd engine", "depth", "mean", "p50", "p99", "IOPS"]];
  for (const iodepth of depths) {
    for (const name of Object.keys(servers)) {
      rows.push([
        name,
        String(iodepth),
        ...(["meanNs", "p50Ns", "p99Ns"] as const).map((field) =>
          formatDuration(figure(name, iodepth, field)),
        ),
        figure(name, iodepth, "iops").toFixed(0),
      ]);
    }
  }
  console.log(formatTable(rows));
  for (const { iodepth, meanNs, limitNs, isMet } of verdicts) {
    const range = `${formatDuration(delayNs)} to ${formatDuration(limitNs)}`;
    console.log(
      `depth ${iodepth}: mean ${formatDuration(meanNs)}, allowed ${range}: ${isMet ? "ok" : "MISSED"}`,
    );
  }
}
process.exitCode = verdicts.every(({ isMet }) => isMet) ? 0 : 1;
