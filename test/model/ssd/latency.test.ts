/** One command at a time: its latency is the sum of its parts, to the nanosecond. */
import { describe, expect, it } from "vitest";
import { Flag } from "../../../src/base/request.js";
import { pcieBytesPerSecond } from "../../../src/model/ssd/controller/link.js";
import { plainDrive, TestDrive, unitBytes } from "./drive.js";

const linkNs = (bytes: number) => (bytes * 1e9) / pcieBytesPerSecond(3, 4, 256);
const channelNs = (bytes: number) => (bytes * 1e9) / 500e6;

/** TLC, two planes, pages of 16 KiB: program units of 96 KiB, 24 units. */
const parameters = (changes: Record<string, Record<string, unknown>> = {}) =>
  plainDrive({
    flash: {
      channels: 2,
      diesPerChannel: 2,
      planes: 2,
      pagesPerBlock: 48,
      pageSize: 16384,
      cell: "tlc",
      read: ["50us", "70us", "90us"],
      program: "700us",
      erase: "3ms",
      channelRate: "500MB/s",
      command: "1us",
    },
    firmware: { read: "9us", write: "7us", flush: "5us", trim: "11us", command: "2us" },
    link: { kind: "pcie", generation: 3, lanes: 4, latency: "1us" },
    precondition: { state: "sequential" },
    ...changes,
  });

const sizeBytes = 256 * 2 ** 20;

describe("one command at a time", () => {
  it("a read takes firmware, sensing by page type, channel and link, exactly", () => {
    const drive = new TestDrive(parameters(), sizeBytes);
    // Units 0..7 lie on the LSB pages of two planes, 8..15 on CSB, 16..23 on MSB pages.
    for (const [unit, senseNs] of [
      [0, 50_000],
      [7, 50_000],
      [8, 70_000],
      [15, 70_000],
      [16, 90_000],
      [23, 90_000],
      [24, 50_000],
    ]) {
      const expected = 9000 + senseNs + 1000 + channelNs(unitBytes) + linkNs(unitBytes) + 1000;
      expect(drive.time("read", unit * unitBytes, unitBytes)).toBeCloseTo(expected, 6);
    }
  });

  it("a read of several pages of one die senses them one after the other, and sends each while the next is sensed", () => {
    const drive = new TestDrive(parameters(), sizeBytes);
    const page = 16384;
    // Both planes' LSB pages of one die: the second page's data go last, and both have crossed the channel by then.
    const expected = 9000 + 2 * 50_000 + 1000 + channelNs(page) + linkNs(page) + 1000;
    expect(drive.time("read", 0, 2 * page)).toBeCloseTo(expected, 6);
  });

  it("planes that read on their own sense their pages at once", () => {
    const drive = new TestDrive(
      parameters({
        flash: { ...plainFlash, independentPlanes: true },
      }),
      sizeBytes,
    );
    const page = 16384;
    const expected = 9000 + 50_000 + 2 * (1000 + channelNs(page)) + linkNs(page) + 1000;
    expect(drive.time("read", 0, 2 * page)).toBeCloseTo(expected, 6);
  });

  it("a write is acknowledged from the buffer, and read from it while it is there", () => {
    const drive = new TestDrive(parameters(), sizeBytes);
    expect(drive.time("write", 0, unitBytes)).toBeCloseTo(7000 + linkNs(unitBytes) + 1000, 6);
    expect(drive.time("read", 0, unitBytes)).toBeCloseTo(9000 + linkNs(unitBytes) + 1000, 6);
    expect(drive.model.counters.bufferHits).toBe(1);
    drive.checkConservation();
  });

  it("FUA and flush wait for the program on a drive without power-loss protection, and for nothing on one with it", () => {
    const plain = new TestDrive(
      parameters({ writeBuffer: { size: 2 ** 20, powerLossProtection: false, flush: "100us" } }),
      sizeBytes,
    );
    const programUnitBytes = 24 * unitBytes;
    const chunks = 6;
    const programNs = chunks * 1000 + channelNs(programUnitBytes) + 700_000;
    expect(plain.time("write", 0, unitBytes, Flag.fua)).toBeCloseTo(
      7000 + linkNs(unitBytes) + 1000 + programNs + 100_000,
      6,
    );
    plain.time("write", unitBytes, unitBytes);
    const flushedNs = plain.nowNs;
    plain.time("flush", 0, 0);
    expect(plain.nowNs - flushedNs).toBeCloseTo(5000 + programNs + 100_000, 6);
    // Nothing is left to drain.
    expect(plain.time("flush", 0, 0)).toBe(5000);
    expect(plain.model.counters.padding).toBe(2 * 23);
    plain.checkConservation();

    const protectedDrive = new TestDrive(parameters(), sizeBytes);
    expect(protectedDrive.time("write", 0, unitBytes, Flag.fua)).toBeCloseTo(
      7000 + linkNs(unitBytes) + 1000,
      6,
    );
    expect(protectedDrive.time("flush", 0, 0)).toBe(5000);
  });

  it("what was never written or was trimmed is answered without flash", () => {
    const drive = new TestDrive(parameters(), sizeBytes);
    expect(drive.time("trim", 0, 10 * unitBytes)).toBe(11_000);
    expect(drive.time("read", 0, unitBytes)).toBeCloseTo(9000 + linkNs(unitBytes) + 1000, 6);
    expect(drive.model.counters.trimmed).toBe(10);
    drive.checkConservation();
  });
});

const plainFlash = {
  channels: 2,
  diesPerChannel: 2,
  planes: 2,
  pagesPerBlock: 48,
  pageSize: 16384,
  cell: "tlc",
  read: ["50us", "70us", "90us"],
  program: "700us",
  erase: "3ms",
  channelRate: "500MB/s",
  command: "1us",
};
