/**
 * The hard disk behind a real kernel, in virtual time, against the same model without one: what fio measures through the
 * block layer is what `blkforge simulate` says of the same job.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseFio } from "../../scripts/support/fio.js";
import { loadProfile } from "../../src/profile/load.js";
import { blkforge, scratchDirectory } from "../support/blkforge.js";
import { inGuest } from "../support/lab.js";
import { describeWith } from "../support/requires.js";

const profile = loadProfile("hdd-7200");
const { outerRate, innerRate } = profile.document.layout as Record<"outerRate" | "innerRate", string>;

/** "210MB/s" in bytes per second; a data sheet's megabyte is decimal. */
function bytesPerSecond(rate: string): number {
  const [, megabytes] = /^(\d+(?:\.\d+)?)MB\/s$/.exec(rate) ?? [];
  return Number(megabytes) * 1e6;
}

type Job = Record<string, string | number>;

const sequential = (offsetBytes: number): Job => ({
  rw: "read",
  bs: "1m",
  iodepth: 4,
  offset: offsetBytes,
  size: "192m",
});

const random = (iodepth: number): Job => ({
  rw: "randread",
  bs: "4k",
  iodepth,
  size: profile.sizeBytes,
  norandommap: 1,
  number_ios: 2000 + 50 * iodepth,
});

const depths = [1, 4, 16, 32];
const jobs: Record<string, Job> = {
  outer: sequential(0),
  // The last gibibyte lies in the innermost zone.
  inner: sequential(profile.sizeBytes - 2 ** 30),
  ...Object.fromEntries(depths.map((depth) => [`random${depth}`, random(depth)])),
};

function argumentsOf(job: Job): string {
  return Object.entries(job)
    .map(([name, value]) => `--${name}=${value}`)
    .join(" ");
}

/** What the model does with the job on its own virtual clock. */
async function simulatedIops(job: Job): Promise<number> {
  const file = join(scratchDirectory(), "job.fio");
  const lines = Object.entries(job).map(([name, value]) => `${name}=${value}`);
  writeFileSync(file, `[job]\n${lines.join("\n")}\n`);
  const { status, stdout, stderr } = await blkforge(["simulate", "hdd-7200", "--workload", file, "--json"]);
  expect(status, stderr).toBe(0);
  return JSON.parse(stdout).iops;
}

describeWith(["qemu-system-x86_64", "fio"], "a 7200 rpm disk behind a real kernel", () => {
  test("streams at its outer and inner rate, and gains from queue depth, as the model alone", async () => {
    const script = Object.entries(jobs)
      .map(
        ([name, job]) =>
          `echo "@@${name}"; fio --name=t --filename=$DEV --ioengine=io_uring --direct=1 ${argumentsOf(job)} --output-format=json+ --lat_percentiles=1`,
      )
      .join("\n");
    const { stdout } = await inGuest(script, {
      device: { profile: "hdd-7200", connections: 4 },
      time: "virtual",
      cpus: 4,
    });
    const measured = Object.fromEntries(
      stdout
        .split("@@")
        .slice(1)
        .map((part) => [part.slice(0, part.indexOf("\n")), parseFio(part)]),
    );

    const table = [];
    for (const [name, rate] of [
      ["outer", outerRate],
      ["inner", innerRate],
    ] as const) {
      const ratio = measured[name].bytesPerSecond / bytesPerSecond(rate);
      table.push(`${name}: ${(measured[name].bytesPerSecond / 1e6).toFixed(1)} MB/s, profile ${rate}`);
      expect(Math.abs(ratio - 1), table.at(-1)).toBeLessThan(0.05);
    }
    for (const depth of depths) {
      const alone = await simulatedIops(jobs[`random${depth}`]);
      const { iops } = measured[`random${depth}`];
      table.push(`random reads at depth ${depth}: ${iops.toFixed(1)} IOPS, simulated ${alone.toFixed(1)}`);
      expect(Math.abs(iops / alone - 1), table.at(-1)).toBeLessThan(0.1);
    }
    console.log(table.join("\n"));
  });
});
