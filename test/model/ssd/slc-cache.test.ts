/** The SLC cache: its cliff, what comes after it, and its recovery. */
import { describe, expect, it } from "vitest";
import { drainAll, plainDrive, TestDrive, unitBytes } from "./drive.js";

const chunkUnits = 32;

/** 16 GiB of TLC on 8 dies: 96 KiB in 700 us each, against 32 KiB in 100 us in SLC mode. */
function drive(slcCache: Record<string, unknown>, changes: Record<string, Record<string, unknown>> = {}) {
  return new TestDrive(
    plainDrive({
      flash: {
        channels: 4,
        diesPerChannel: 2,
        planes: 2,
        pageSize: 16384,
        cell: "tlc",
        pagesPerBlock: 768,
        program: "700us",
        read: "50us",
        channelRate: "2000MB/s",
        slcMode: { read: "25us", program: "100us" },
      },
      writeBuffer: { size: 4 * 2 ** 20, powerLossProtection: true },
      slcCache,
      ...changes,
    }),
    16 * 2 ** 30,
  );
}

/** Writes in order and returns the rate of each span of 16 MiB, bytes per second. */
function writeInOrder(target: TestDrive, fromUnit: number, bytes: number): number[] {
  const spanUnits = 4096;
  const rates: number[] = [];
  let unit = fromUnit;
  const end = fromUnit + bytes / unitBytes;
  const issue = () => {
    target.submit("write", unit * unitBytes, chunkUnits * unitBytes);
    unit += chunkUnits;
  };
  for (let i = 0; i < 16; i++) issue();
  let done = 0;
  let sinceNs = target.nowNs;
  let inFlight = 16;
  while (inFlight > 0) {
    target.waitForOne();
    inFlight--;
    done += chunkUnits;
    if (done % spanUnits === 0) {
      rates.push((spanUnits * unitBytes * 1e9) / (target.nowNs - sinceNs));
      sinceNs = target.nowNs;
    }
    if (unit < end) {
      issue();
      inFlight++;
    }
  }
  return rates;
}

/** Bytes written before the rate falls below the middle between first and last. */
function cliffBytes(rates: readonly number[]): number {
  const middle = (rates[2] + rates[rates.length - 2]) / 2;
  return rates.findIndex((rate, i) => i > 2 && rate < middle) * 16 * 2 ** 20;
}

const programUnitBytes = 24 * unitBytes;
const directRate = (8 * programUnitBytes) / (700e-6 + programUnitBytes / 2e9);

describe("SLC cache", () => {
  it("takes writes up to its size, then they go at the speed of dense cells (5 % each)", () => {
    const target = drive({ static: "512M", dynamic: "512M" });
    const rates = writeInOrder(target, 0, 2 ** 31);
    expect(cliffBytes(rates) / 2 ** 30).toBeGreaterThan(0.95);
    expect(cliffBytes(rates) / 2 ** 30).toBeLessThan(1.05);
    const after = rates.slice(-20).reduce((sum, rate) => sum + rate, 0) / 20;
    expect(after / directRate).toBeGreaterThan(0.95);
    expect(after / directRate).toBeLessThan(1.05);
    expect(rates[5]).toBeGreaterThan(1.5 * after);
    drainAll(target);
    target.checkConservation();
  });

  it("is folded in idle time, and then takes as much again", () => {
    const target = drive({ static: "512M", foldAfter: "100ms" });
    writeInOrder(target, 0, 2 ** 30);
    target.runTo(target.nowNs + 60e9);
    const { counters } = target.model;
    expect((counters.folded * unitBytes) / 2 ** 29).toBeCloseTo(1, 1);
    const rates = writeInOrder(target, 2 ** 18, 2 ** 30);
    expect(cliffBytes(rates) / 2 ** 29).toBeGreaterThan(0.95);
    expect(cliffBytes(rates) / 2 ** 29).toBeLessThan(1.05);
    drainAll(target);
    target.checkConservation();
  });

  it("that must be folded when full lets writes through only as fast as it is folded", () => {
    const target = drive({ static: "512M", full: "fold" });
    const rates = writeInOrder(target, 0, 2 ** 31);
    const after = rates.slice(40).reduce((sum, rate) => sum + rate, 0) / (rates.length - 40);
    // Each byte is written twice, in SLC mode and dense, and read in between.
    expect(after).toBeLessThan(directRate);
    expect(after).toBeGreaterThan(directRate / 3);
    expect(target.model.counters.folded).toBeGreaterThan(0);
    drainAll(target);
    target.checkConservation();
  });

  it("shrinks on a full drive to its static part", () => {
    const target = drive({ static: "256M", dynamic: "4G" }, { precondition: { state: "sequential" } });
    const rates = writeInOrder(target, 0, 2 ** 30);
    // Collection works beside it, so the cliff is not sharp; what matters is that the 4 GiB are not there.
    expect(cliffBytes(rates) / 2 ** 28).toBeGreaterThan(0.75);
    expect(cliffBytes(rates) / 2 ** 28).toBeLessThan(1.25);
    drainAll(target);
    target.checkConservation();
  });
});
