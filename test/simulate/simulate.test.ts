import { describe, expect, test } from "vitest";
import { loadProfile } from "../../src/profile/load.js";
import { formatReport } from "../../src/simulate/report.js";
import { simulate } from "../../src/simulate/simulate.js";
import { timeParts } from "../../src/simulate/stats.js";
import { parseJobFile } from "../../src/workload/job-file.js";

function run(profileName: string, job: string, seed = 1) {
  const { jobs } = parseJobFile(job, { path: "job.fio" });
  return simulate({
    profile: loadProfile(profileName),
    seed,
    input: { kind: "workload", path: "job.fio", jobs },
  });
}

const mixed = `[mixed]
rw=randrw
bssplit=4k/60:64k/40
iodepth=8
fsync=32
number_ios=3000
`;

describe("simulation of a profile", () => {
  test("the same seed gives a bit-identical report, another seed another", () => {
    const first = run("hdd-7200", mixed, 5).report;
    expect(run("hdd-7200", mixed, 5).report).toEqual(first);
    expect(run("hdd-7200", mixed, 6).report.elapsedNs).not.toBe(first.elapsedNs);
  });

  test("Little's law holds, and the parts of the time add up to it", () => {
    const { report } = run("hdd-7200", mixed);
    let totalNs = 0;
    for (const { count, latency, meanPartsNs } of Object.values(report.operations)) {
      totalNs += count * latency.meanNs;
      const parts = timeParts.reduce((sum, part) => sum + (meanPartsNs?.[part] ?? 0), 0);
      // Sums of thousands of float64 in another order: equal but for their last digits.
      expect(parts / latency.meanNs).toBeCloseTo(1, 6);
    }
    expect(totalNs / report.elapsedNs / report.meanQueueDepth).toBeCloseTo(1, 9);
  });

  test("figures add up: counts, bytes, rates, histogram", () => {
    const { report } = run("fixed", "[a]\nnumber_ios=100\nbs=8k\n[b]\nrw=write\nnumber_ios=50");
    expect(report).toMatchObject({
      schemaVersion: 1,
      count: 150,
      seed: 1,
      utilisation: 1,
      heldBack: { count: 0 },
    });
    expect(report.operations.read).toMatchObject({ count: 100, bytes: 819_200 });
    expect(report.operations.read?.histogram.reduce((sum, [, , count]) => sum + count, 0)).toBe(100);
    expect(report.jobs.map(({ name, operations }) => [name, Object.keys(operations)])).toEqual([
      ["a", ["read"]],
      ["b", ["write"]],
    ]);
    // 1 ms each, one after the other.
    expect(report.operations.read?.iops).toBe(1000);
    expect(report.jobs[1].operations.write?.iops).toBe(1000);
    expect(report.bytesPerSecond).toBe((100 * 8192 + 50 * 4096) / 0.1);
  });

  test("what the model tells of its state at the end is reported, in words for people", () => {
    const { report, stats } = run("ebs-gp2", "[a]\nrw=randread\niodepth=4\nnumber_ios=500");
    expect(report.model).toMatchObject({ iopsBasePerSecond: 300, iopsMaximumCredits: 5_400_000 });
    expect(report.model?.iopsCredits).toBeLessThan(5_400_000 - 400);
    expect(formatReport(report, stats, undefined)).toMatch(
      /the device at the end\niops base per second +300\n.*\niops credits +5\d+/,
    );
    expect(run("fixed", "[a]\nnumber_ios=1").report.model).toBeUndefined();
  });

  test("people get a table, where the time went, and a histogram", () => {
    const { report, stats, measured } = run("hdd-7200", "[a]\nrw=randread\nnumber_ios=500");
    const text = formatReport(report, stats, measured, { widthColumns: 100 });
    expect(text).toMatch(/^hdd-7200: .*\njob\.fio, seed 1: 500 requests in .* of simulated time\n/);
    expect(text).toMatch(/\nread +500 .* ms\n/);
    expect(text).toMatch(
      /where the time went, on average\n +queue +overhead +cache +seek +rotation +transfer\nread /,
    );
    expect(text).toContain("read latency\n");
    expect(text).toContain("█");
  });
});
