/** A computed steady state is the one that comes of writing, and takes no time to make. */
import { describe, expect, it } from "vitest";
import { victimValidity } from "../../../src/model/ssd/precondition.js";
import { drainAll, percentile, plainDrive, runLoads, TestDrive, uniform, unitBytes } from "./drive.js";

const parameters = (state: string, fill = 1) =>
  plainDrive({
    flash: {
      channels: 2,
      diesPerChannel: 2,
      planes: 1,
      pageSize: 16384,
      cell: "tlc",
      pagesPerBlock: 48,
      read: ["50us", "60us", "70us"],
      program: "600us",
      erase: "1ms",
      channelRate: "1200MB/s",
    },
    ftl: { overProvisioning: 0.2 },
    gc: { background: 16, forced: 4 },
    writeBuffer: { size: 2 ** 21, powerLossProtection: true },
    precondition: { state, fill },
  });

const sizeBytes = 2 ** 28;
const units = sizeBytes / unitBytes;

/** What follows in an overwrite of the device: amplification, and quantiles of write latency. */
function observe(drive: TestDrive) {
  const next = uniform(units, 7);
  // The frontiers of a computed drive are empty, and its collection is not yet at work: let both get going.
  runLoads(drive, [{ operation: "write", next, depth: 16, count: units / 4 }]);
  const { programmed, copied } = drive.model.counters;
  const [{ latenciesNs, perSecond }] = runLoads(drive, [
    { operation: "write", next, depth: 16, count: units },
  ]);
  const { counters } = drive.model;
  return {
    amplification: 1 + (counters.copied - copied) / (counters.programmed - programmed),
    perSecond,
    // To the nanosecond: sums of parts differ in the last bits by the time at which they are made.
    latenciesNs: latenciesNs.map(Math.round).sort(),
    p90: percentile(latenciesNs, 0.9),
    p99: percentile(latenciesNs, 0.99),
    p999: percentile(latenciesNs, 0.999),
  };
}

/** Largest difference between two distributions (Kolmogorov and Smirnov), of sorted values. */
function distance(a: Float64Array, b: Float64Array): number {
  let largest = 0;
  let j = 0;
  for (let i = 0; i < a.length; i++) {
    while (j < b.length && b[j] <= a[i]) j++;
    largest = Math.max(largest, Math.abs((i + 1) / a.length - j / b.length));
  }
  return largest;
}

describe("preconditioning", () => {
  it("random: amplification (3 %), rate (3 %) and latencies (10 %, distance 0.08) are those of a drive overwritten four times", () => {
    const written = new TestDrive(parameters("sequential"), sizeBytes);
    runLoads(written, [{ operation: "write", next: uniform(units, 1), depth: 16, count: 4 * units }]);
    const computed = new TestDrive(parameters("random"), sizeBytes);
    computed.checkConservation();
    const expected = observe(written);
    const observed = observe(computed);
    for (const [name, tolerance] of [
      ["amplification", 0.03],
      ["perSecond", 0.03],
      ["p90", 0.1],
      ["p99", 0.1],
      ["p999", 0.1],
    ] as const) {
      expect(observed[name] / expected[name], name).toBeGreaterThan(1 - tolerance);
      expect(observed[name] / expected[name], name).toBeLessThan(1 + tolerance);
    }
    expect(distance(observed.latenciesNs, expected.latenciesNs)).toBeLessThan(0.08);
    for (const drive of [written, computed]) {
      drainAll(drive);
      drive.checkConservation();
    }
  });

  it("random: superblocks are valid to the degrees they are on a drive overwritten four times (5 % of a superblock)", () => {
    const written = new TestDrive(parameters("sequential"), sizeBytes);
    runLoads(written, [{ operation: "write", next: uniform(units, 1), depth: 16, count: 4 * units }]);
    const computed = new TestDrive(parameters("random"), sizeBytes);
    const quantiles = (drive: TestDrive) => {
      const { valid } = drive.model.superblocks;
      const full = [...valid].filter((count) => count > 0).sort((a, b) => a - b);
      return [0.1, 0.3, 0.5, 0.7, 0.9].map(
        (q) => full[Math.floor(q * full.length)] / drive.model.geometry.superblockUnits,
      );
    };
    const expected = quantiles(written);
    quantiles(computed).forEach((value, i) => {
      expect(Math.abs(value - expected[i])).toBeLessThan(0.05);
    });
  });

  it("sequential: every unit is where writing in order would have put it, as far as it was filled", () => {
    const drive = new TestDrive(parameters("sequential", 0.5), sizeBytes);
    for (let unit = 0; unit < units; unit += 997)
      expect(drive.model.mapping.locate(unit)).toBe(unit < units / 2 ? unit : -1);
    expect(drive.model.mapping.mapped).toBe(units / 2);
    drive.checkConservation();
  });

  it("random and partly filled: as many units hold data as were said to", () => {
    const drive = new TestDrive(parameters("random", 0.6), sizeBytes);
    expect(drive.model.mapping.mapped).toBe(Math.round(0.6 * units));
    drive.checkConservation();
  });

  it("a drive of 2 TiB is in steady state at once, and its mapping takes at most 8 bytes per 4 KiB", () => {
    const drive = new TestDrive(
      plainDrive({
        flash: {
          channels: 16,
          diesPerChannel: 8,
          planes: 4,
          pageSize: 16384,
          cell: "tlc",
          pagesPerBlock: 1152,
        },
        ftl: { overProvisioning: 0.28 },
        precondition: { state: "random" },
      }),
      2 ** 41,
    );
    expect(drive.model.mapping.bytesPerUnit).toBeLessThanOrEqual(8);
    // Numbers beyond 2^31 take the same ways there and back.
    const next = uniform(2 ** 41 / unitBytes, 3);
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 1000; i++) {
      const unit = next();
      expect(drive.model.mapping.unitAt(drive.model.mapping.locate(unit))).toBe(unit);
      drive.time("write", unit * unitBytes, unitBytes);
      expect(drive.model.mapping.unitAt(drive.model.mapping.locate(unit))).toBe(unit);
    }
    // Only what is touched is held: of 4.2 GB less than a tenth, most of it for the copies a thousand writes lead to, each of
    // which touches pages of its own, and 64 MiB for the bits of what has moved.
    expect(process.memoryUsage().rss - before).toBeLessThan(400 * 2 ** 20);
  });

  it("the share of valid data in victims solves (1 - v) / ln(1/v) = used", () => {
    for (const used of [0.5, 0.8, 0.95]) {
      const v = victimValidity(used);
      expect((1 - v) / Math.log(1 / v)).toBeCloseTo(used, 10);
    }
  });
});
