/** Dies and channels under load, against closed queueing networks and the bounds of the media. */
import { describe, expect, it } from "vitest";
import { drainAll, percentile, plainDrive, runLoads, TestDrive, uniform, unitBytes } from "./drive.js";

describe("random reads over dies", () => {
  /**
   * Busy dies with K reads in flight over N dies, first come first served, deterministic sensing: by an independent
   * simulation. (With exponential times it would be K*N/(N+K-1), by product form.)
   */
  it.each([
    [8, 4, 3.27],
    [8, 8, 4.95],
    [8, 16, 6.32],
    [8, 32, 7.14],
    [8, 64, 7.55],
    [8, 128, 7.76],
    [32, 4, 3.81],
    [32, 8, 7.13],
    [32, 16, 12.41],
    [32, 32, 18.99],
    [32, 64, 24.63],
    [32, 128, 28.14],
  ])("%d dies with %d reads in flight keep %d busy (1.5 %, 60,000 reads, seed 1)", (dies, depth, busy) => {
    const drive = new TestDrive(
      plainDrive({ flash: { channels: dies }, precondition: { state: "sequential" } }),
      dies * 64 * 200 * unitBytes,
    );
    const units = drive.sizeBytes / unitBytes;
    const [{ perSecond }] = runLoads(drive, [
      { operation: "read", next: uniform(units, 1), depth, count: 60_000 },
    ]);
    const measured = perSecond * 50e-6;
    expect(measured / busy).toBeGreaterThan(0.985);
    expect(measured / busy).toBeLessThan(1.015);
    // Little's law: mean in flight = rate times mean response time.
    drainAll(drive);
    drive.checkConservation();
  });

  it("requests in flight are rate times response time, as Little's law says (0.5 %)", () => {
    const drive = new TestDrive(plainDrive({ precondition: { state: "sequential" } }), 2 ** 28);
    const [{ latenciesNs, perSecond }] = runLoads(drive, [
      { operation: "read", next: uniform(2 ** 16, 1), depth: 16, count: 20_000 },
    ]);
    const meanNs = latenciesNs.reduce((sum, value) => sum + value, 0) / latenciesNs.length;
    expect((perSecond * meanNs) / 1e9 / 16).toBeCloseTo(1, 2);
  });
});

describe("random writes in steady state", () => {
  it("run at what the media can do, divided by write amplification (5 %, seed 1)", () => {
    const programNs = 600e3;
    const eraseNs = 3e6;
    const readNs = 50e3;
    const channelNsPerByte = 1 / 1.2;
    const drive = new TestDrive(
      plainDrive({
        flash: {
          channels: 4,
          diesPerChannel: 2,
          planes: 2,
          pageSize: 16384,
          cell: "tlc",
          pagesPerBlock: 96,
          program: "600us",
          erase: "3ms",
          read: "50us",
          channelRate: "1200MB/s",
        },
        ftl: { overProvisioning: 0.28 },
        gc: { background: 6, forced: 2 },
        writeBuffer: { size: 4 * 2 ** 20, powerLossProtection: true },
        precondition: { state: "random" },
      }),
      2 ** 30,
    );
    const { geometry, model } = { geometry: drive.model.geometry, model: drive.model };
    const next = uniform(geometry.hostUnits, 1);
    runLoads(drive, [{ operation: "write", next, depth: 64, count: geometry.hostUnits }]);
    const before = { ...model.counters };
    const copyReads = model.flash.done[2];
    const [{ perSecond }] = runLoads(drive, [
      { operation: "write", next, depth: 64, count: geometry.hostUnits },
    ]);
    const host = model.counters.programmed - before.programmed;
    const written = host + model.counters.copied - before.copied;
    const erased = model.counters.erased - before.erased;
    // Time of all dies for everything done, data coming in included.
    const dieNs =
      (written / geometry.programUnits) * (programNs + geometry.programUnits * unitBytes * channelNsPerByte) +
      (model.flash.done[2] - copyReads) * readNs +
      erased * geometry.dies * eraseNs;
    const bound = (host / dieNs) * geometry.dies * 1e9;
    expect(perSecond / bound).toBeGreaterThan(0.95);
    expect(perSecond / bound).toBeLessThan(1.0001);
    drainAll(drive);
    drive.checkConservation();
  });
});

describe("reads beside a writer", () => {
  it("p99.9 falls at least fivefold when programs and erases can be suspended (seed 1)", () => {
    const tail = (suspend: Record<string, unknown>) => {
      const drive = new TestDrive(
        plainDrive({
          flash: {
            channels: 4,
            diesPerChannel: 4,
            planes: 2,
            pageSize: 16384,
            cell: "tlc",
            pagesPerBlock: 192,
            read: "60us",
            program: "2ms",
            erase: "6ms",
            channelRate: "1200MB/s",
            suspend,
          },
          writeBuffer: { size: 4 * 2 ** 20, powerLossProtection: true },
          precondition: { state: "sequential" },
        }),
        4 * 2 ** 30,
      );
      let unit = 0;
      const { hostUnits } = drive.model.geometry;
      const [reads] = runLoads(drive, [
        { operation: "read", next: uniform(hostUnits, 1), depth: 1, count: 20_000 },
        {
          operation: "write",
          next: () => {
            unit = (unit + 32) % hostUnits;
            return unit;
          },
          depth: 1,
          count: 1_000_000,
          lengthBytes: 32 * unitBytes,
        },
      ]);
      drainAll(drive);
      drive.checkConservation();
      return percentile(reads.latenciesNs, 0.999);
    };
    expect(tail({ program: 8, erase: 16 })).toBeLessThan(tail({}) / 5);
  });
});
