/** The shipped hard disks against the acceptance figures their files name. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { Random } from "../../../src/base/random.js";
import { loadProfile, profileNames } from "../../../src/profile/load.js";
import { mean, TestDrive } from "./drive.js";

const kiB = 1024;
const miB = 1024 * kiB;

function hardDisk(name: string, settings: string[] = []) {
  const profile = loadProfile(name, { settings });
  if (profile.model !== "hdd") throw new Error(`${name} is not a hard disk`);
  return profile;
}

function driveOf(name: string, options: { seed?: number; writeCache?: boolean } = {}): TestDrive {
  const { parameters, sizeBytes, hasVolatileCache, physicalBlockBytes } = hardDisk(name);
  return new TestDrive(parameters, sizeBytes, {
    seed: options.seed ?? 1,
    writeCache: options.writeCache ?? hasVolatileCache,
    physicalBlockBytes,
  });
}

function offsets(drive: TestDrive, seed: number): () => number {
  const random = new Random(seed, "test");
  return () => random.nextInteger(drive.sizeBytes / 4096) * 4096;
}

/** Response times of random 4 KiB requests, one at a time, sorted, ms. */
function randomTimes(drive: TestDrive, operation: "read" | "write", count: number): number[] {
  const offset = offsets(drive, 1);
  const times = Array.from({ length: count }, () => drive.time(operation, offset(), 4 * kiB) / 1e6);
  return times.sort((a, b) => a - b);
}

/** Random 4 KiB reads a second with so many outstanding. */
function readsPerSecond(drive: TestDrive, depth: number, count = 6000): number {
  const offset = offsets(drive, 2);
  for (let i = 0; i < depth; i++) drive.submit("read", offset(), 4 * kiB);
  for (let i = 0; i < count; i++) {
    drive.waitForOne();
    drive.submit("read", offset(), 4 * kiB);
  }
  return (count / drive.nowNs) * 1e9;
}

/** MB/s of reading 256 MiB in sequence by 1 MiB from `fromBytes`, after a first read that brings the arm there. */
function sequentialRate(drive: TestDrive, fromBytes: number): number {
  const from = Math.floor(fromBytes / miB) * miB;
  drive.time("read", from, 4 * kiB);
  const startNs = drive.nowNs;
  for (let i = 0; i < 256; i++) drive.time("read", from + i * miB, miB);
  return ((256 * miB) / (drive.nowNs - startNs)) * 1e3;
}

const within = (value: number, low: number, high: number) => {
  expect(value).toBeGreaterThanOrEqual(low);
  expect(value).toBeLessThanOrEqual(high);
};

const hardDisks = profileNames().filter((name) => loadProfile(name).model === "hdd");

describe("shipped hard disks", () => {
  it("are at least ten", () => {
    expect(hardDisks.length).toBeGreaterThanOrEqual(10);
  });

  it.each(hardDisks)("%s reads, writes and flushes, and comes to rest", (name) => {
    const drive = driveOf(name);
    expect(drive.time("read", 0, 4 * kiB)).toBeLessThan(100e6);
    expect(drive.time("write", drive.sizeBytes - 4 * kiB, 4 * kiB)).toBeLessThan(100e6);
    expect(drive.time("flush", 0, 0)).toBeLessThan(100e6);
    expect(drive.time("zeroes", miB, miB)).toBeLessThan(1e9);
    expect(drive.time("trim", miB, miB)).toBeLessThan(10e6);
  });

  // The sum of average seek, half a revolution and overhead, from the files' own comments; 8000 reads, ms.
  it.each([
    ["hdd-7200", 12, 13],
    ["hdd-5400", 17, 18],
    ["hdd-10k", 7, 7.5],
    ["hdd-15k", 5.1, 5.5],
    ["hitachi-5k320", 17.5, 18.3],
    ["ultrastar-hc310", 11.6, 11.9],
    ["ultrastar-c15k600", 4.9, 5.1],
    ["constellation-es3", 12.6, 13.2],
  ])("%s reads 4 KiB at random in %d to %d ms", (name, low, high) => {
    within(mean(randomTimes(driveOf(name), "read", 8000)), low, high);
  });

  it("ultrastar-hc310 with its cache off writes 4 KiB at random in 12.4 ms (2 %)", () => {
    within(mean(randomTimes(driveOf("ultrastar-hc310", { writeCache: false }), "write", 8000)), 12.15, 12.65);
  });

  it.each([
    ["hdd-7200", 210, 100],
    ["hdd-5400", 180, 85],
    ["hdd-10k", 204, 110],
    ["constellation-es3", 175, 83],
    ["exos-x18", 270, 129],
    ["ultrastar-hc310", 255, 121],
    ["st2000dm006", 143, 70],
  ])("%s reads in sequence %d MB/s outside and %d inside (5 %)", (name, outer, inner) => {
    within(sequentialRate(driveOf(name), 0) / outer, 0.95, 1.05);
    const drive = driveOf(name);
    within(sequentialRate(drive, drive.sizeBytes - 300 * miB) / inner, 0.95, 1.05);
  });

  it("exos-x18 serves 170 random reads a second at queue depth 16 (10 %)", () => {
    within(readsPerSecond(driveOf("exos-x18"), 16) / 170, 0.9, 1.1);
  });

  it("exos-2x18 reads both halves in sequence at 554 MB/s (5 %)", () => {
    const drive = driveOf("exos-2x18");
    const half = Math.ceil(drive.sizeBytes / 2 / miB) * miB;
    const next = [0, half];
    const streamOf = new Map<number, number>();
    const submit = (stream: number) => {
      streamOf.set(drive.submit("read", next[stream], miB), stream);
      next[stream] += miB;
    };
    submit(0);
    submit(1);
    for (let i = 0; i < 1000; i++) submit(streamOf.get(drive.waitForOne())!);
    within((1000 * miB * 1e3) / drive.nowNs / 554, 0.95, 1.05);
  });

  describe("st2000dm006, as measured", () => {
    it("random reads, one at a time (10 %; p99.9 20 %)", () => {
      const times = randomTimes(driveOf("st2000dm006"), "read", 20_000);
      const quantile = (q: number) => times[Math.floor(q * times.length)];
      within(quantile(0.5) / 17.69, 0.9, 1.1);
      within(quantile(0.9) / 23.2, 0.9, 1.1);
      within(quantile(0.99) / 28.4, 0.9, 1.1);
      within(quantile(0.999) / 103, 0.8, 1.2);
    });

    it.each([
      [1, 57.6],
      [2, 64.5],
      [4, 71.2],
      [8, 78.6],
      [16, 86.3],
      [32, 93.6],
    ])("at queue depth %d %d random reads a second (12 %)", (depth, perSecond) => {
      within(readsPerSecond(driveOf("st2000dm006"), depth) / perSecond, 0.88, 1.12);
    });

    it.each([
      [8, 127],
      [64, 630],
    ])("a flush after %d random writes takes %d ms (10 %, mean of 20)", (count, expectedMs) => {
      const times = Array.from({ length: 20 }, (_, run) => {
        const drive = driveOf("st2000dm006", { seed: run });
        const offset = offsets(drive, run);
        for (let i = 0; i < count; i++) drive.time("write", offset(), 4 * kiB);
        return drive.time("flush", 0, 0) / 1e6;
      });
      within(mean(times) / expectedMs, 0.9, 1.1);
    });

    it("124 random writes a second over 30 s (10 %)", () => {
      const drive = driveOf("st2000dm006");
      const offset = offsets(drive, 3);
      let count = 0;
      for (; drive.nowNs < 30e9; count++) drive.time("write", offset(), 4 * kiB);
      within(count / 30 / 124, 0.9, 1.1);
    });
  });

  it("st8000as0002 falls to 1 to 3 random writes a second when its persistent cache is full", () => {
    const drive = driveOf("st8000as0002");
    const offset = offsets(drive, 4);
    for (let i = 0; i < 180_000; i++) drive.time("write", offset(), 4 * kiB);
    // Ten seconds more fill what is left.
    while (drive.model.counters.cleanedBands < 5) drive.time("write", offset(), 4 * kiB);
    for (let i = 0; i < 600; i++) drive.time("write", offset(), 4 * kiB);
    const fromNs = drive.nowNs;
    const cleaned = drive.model.counters.cleanedBands;
    for (let i = 0; i < 200; i++) drive.time("write", offset(), 4 * kiB);
    const seconds = (drive.nowNs - fromNs) / 1e9;
    within(200 / seconds, 1, 3.5);
    within(seconds / (drive.model.counters.cleanedBands - cleaned), 0.5, 1);
  });

  it("a small device is a small drive: its seeks are as slow as the full-size one's", () => {
    const { parameters } = hardDisk("hdd-7200");
    const drive = new TestDrive(parameters, 10 * 1024 * miB);
    within(mean(randomTimes(drive, "read", 4000)), 12, 13);
  });
});

const traces = fileURLToPath(new URL("../../../../shared/data/disksim", import.meta.url));

describe.skipIf(!existsSync(traces))("measured traces (skipped where they are not at hand)", () => {
  const validate = (...options: string[]) => {
    const script = fileURLToPath(new URL("../../../scripts/validate-hdd.ts", import.meta.url));
    return execFileSync(process.execPath, ["--import", "tsx", script, ...options], { encoding: "utf8" });
  };

  it("are met as the project promises: 13 % unfitted, 7 % fitted, and the committed limits", () => {
    const { results } = JSON.parse(validate("--json", "--check")) as {
      results: { drive: string; requests: number; demeritPercent: { extracted: number; fitted: number } }[];
    };
    expect(results.map(({ drive }) => drive)).toEqual([
      "quantum-atlas-10k",
      "quantum-atlas-3",
      "seagate-barracuda-st32171w",
    ]);
    for (const { requests, demeritPercent } of results) {
      expect(requests).toBe(10_000);
      within(demeritPercent.extracted, 0, 13);
      within(demeritPercent.fitted, 0, 7);
    }
  }, 120_000);
});
