/**
 * The model against results that are known without any simulator: distributions, queueing theory, and the figures an
 * independent simulation of the same drive gave.
 */
import { describe, expect, it } from "vitest";
import { Random } from "../../../src/base/random.js";
import type { HddParameters } from "../../../src/model/hdd/index.js";
import { mean, plainDrive, TestDrive } from "./drive.js";

const revolutionNs = 60e9 / 7200;
const cylinders = 10_000;
const sectorsPerTrack = 3332;
const sizeBytes = cylinders * sectorsPerTrack * 512;
const blockBytes = 4096;

const randomOffset = (random: Random) => random.nextInteger(sizeBytes / blockBytes) * blockBytes;

describe("one request at a time", () => {
  it("a random read takes seek, half a revolution and the transfer on average (50,000 reads, 0.5 %, seed 1)", () => {
    const drive = new TestDrive(plainDrive(), sizeBytes);
    const random = new Random(1, "test");
    const times = Array.from({ length: 50_000 }, () => drive.time("read", randomOffset(random), blockBytes));
    expect(mean(times) / 12.186e6).toBeGreaterThan(0.995);
    expect(mean(times) / 12.186e6).toBeLessThan(1.005);
    const deviation = Math.sqrt(mean(times.map((time) => (time - mean(times)) ** 2)));
    expect(deviation / 4.219e6).toBeGreaterThan(0.98);
    expect(deviation / 4.219e6).toBeLessThan(1.02);
  });

  it("rotational delay of random arrivals is uniform over a revolution (Kolmogorov-Smirnov, p > .01, n = 5000, seed 2)", () => {
    const drive = new TestDrive(plainDrive(), sizeBytes);
    const random = new Random(2, "test");
    const delays: number[] = [];
    for (let i = 0; i < 5000; i++) {
      drive.runTo(drive.nowNs + random.nextExponential(30e6));
      const slot = drive.submit("read", randomOffset(random), blockBytes);
      drive.waitForOne();
      delays.push(drive.model.breakdown.rotationNs[slot] / revolutionNs);
    }
    delays.sort((a, b) => a - b);
    const n = delays.length;
    const distance = Math.max(...delays.map((delay, i) => Math.max((i + 1) / n - delay, delay - i / n)));
    // 1.628 / sqrt(n) is the critical distance for p = .01.
    expect(distance).toBeLessThan(1.628 / Math.sqrt(n));
    expect(delays[0]).toBeGreaterThanOrEqual(0);
    expect(delays[n - 1]).toBeLessThan(1);
  });

  it("without cache, reads of one block complete whole revolutions apart, exactly, for hours", () => {
    const drive = new TestDrive(plainDrive(), sizeBytes);
    const random = new Random(3, "test");
    const dueNs: number[] = [];
    for (let i = 0; i < 1000; i++) {
      const slot = drive.submit("read", 123 * blockBytes, blockBytes);
      drive.waitForOne();
      dueNs.push(drive.requests.dueNs[slot]);
      drive.runTo(drive.nowNs + random.nextExponential(10e9));
    }
    for (const due of dueNs) {
      const revolutions = (due - dueNs[0]) / revolutionNs;
      // A thousandth of a nanosecond in three hours: the rounding of a float64.
      expect(Math.abs(revolutions - Math.round(revolutions)) * revolutionNs).toBeLessThan(0.01);
    }
  });

  it("uncached sequential writes lose a revolution each", () => {
    const drive = new TestDrive(
      plainDrive({ overhead: { readHit: 0, readMiss: 0, writeHit: 0, writeMiss: "0.1ms", other: 0 } }),
      sizeBytes,
      { writeCache: false },
    );
    drive.time("write", 0, blockBytes);
    const fromNs = drive.nowNs;
    for (let i = 1; i <= 100; i++) drive.time("write", i * blockBytes, blockBytes);
    // A hundred blocks further on the same track, a hundred revolutions later.
    const turns = 100 + (100 * 8) / sectorsPerTrack;
    expect((drive.nowNs - fromNs) / revolutionNs).toBeCloseTo(turns, 6);
  });
});

describe("a queue of random reads", () => {
  /** Response times under Poisson arrivals. */
  function openLoop(
    parameters: HddParameters,
    arrivalsPerSecond: number,
    count: number,
    seed: number,
  ): number[] {
    const drive = new TestDrive(parameters, sizeBytes, { capacity: 4096 });
    const random = new Random(seed, "test");
    const times: number[] = [];
    const collect = () => {
      while (drive.completedSlots.length > 0) {
        const slot = drive.completedSlots.shift()!;
        times.push(drive.requests.dueNs[slot] - drive.requests.arrivalNs[slot]);
        drive.requests.release(slot);
      }
    };
    for (let i = 0; i < count; i++) {
      drive.runTo(drive.nowNs + random.nextExponential(1e9 / arrivalsPerSecond));
      collect();
      drive.submit("read", randomOffset(random), blockBytes);
    }
    drive.runTo(drive.nowNs + 600e9);
    collect();
    return times;
  }

  // Pollaczek-Khinchine, E[S] 12.186 ms, standard deviation 4.219 ms.
  it.each([
    [0.5, 41.03, 19.01],
    [0.7, 57.44, 28.11],
  ])(
    "first come, first served, at load %d responds as M/G/1 (50,000 arrivals, 3 %, seed 4)",
    (_load, perSecond, expectedMs) => {
      const parameters = plainDrive({ queue: { policy: "fcfs", depth: 4096 } });
      const times = openLoop(parameters, perSecond, 50_000, 4);
      expect(times.length).toBe(50_000);
      expect(mean(times) / 1e6 / expectedMs).toBeGreaterThan(0.97);
      expect(mean(times) / 1e6 / expectedMs).toBeLessThan(1.03);
    },
  );

  /** Requests a second, and the 99th percentile, with a fixed number always outstanding. */
  function closedLoop(parameters: HddParameters, queueDepth: number, count: number, seed: number) {
    const drive = new TestDrive(parameters, sizeBytes);
    const random = new Random(seed, "test");
    const times: number[] = [];
    const submit = () => drive.submit("read", randomOffset(random), blockBytes);
    for (let i = 0; i < queueDepth; i++) submit();
    while (times.length < count) {
      const slot = drive.waitForOne();
      times.push(drive.requests.dueNs[slot] - drive.requests.arrivalNs[slot]);
      submit();
    }
    times.sort((a, b) => a - b);
    return { perSecond: (count / drive.nowNs) * 1e9, p99Ms: times[Math.floor(0.99 * count)] / 1e6 };
  }

  // By an independent simulation of the same drive; its p99 at depth 32 is 644 ms. The nanosecond of turnaround lets a
  // host that answers at once take part in the next choice.
  it.each([
    [1, 82.5],
    [2, 100],
    [4, 121],
    [8, 148],
    [16, 181],
    [32, 225],
  ])(
    "shortest positioning time first at depth %d serves %d a second (20,000 reads, 4 %, seed 5)",
    (depth, expected) => {
      const overhead = { readHit: 0, readMiss: 0, writeHit: 0, writeMiss: 0, other: 0, turnaround: "1ns" };
      const { perSecond, p99Ms } = closedLoop(plainDrive({ overhead }), depth, 20_000, 5);
      expect(perSecond / expected).toBeGreaterThan(0.96);
      expect(perSecond / expected).toBeLessThan(1.04);
      if (depth === 32) {
        expect(p99Ms / 644).toBeGreaterThan(0.85);
        expect(p99Ms / 644).toBeLessThan(1.15);
      }
    },
  );

  it("first come, first served, gains nothing from depth (10,000 reads, 2 %, seed 6)", () => {
    for (const depth of [1, 4, 32]) {
      const { perSecond } = closedLoop(plainDrive({ queue: { policy: "fcfs" } }), depth, 10_000, 6);
      expect(perSecond / 82.1).toBeGreaterThan(0.98);
      expect(perSecond / 82.1).toBeLessThan(1.02);
    }
  });

  it("the elevator lies between the two, and ageing trades throughput for the tail (20,000 reads, seed 7)", () => {
    const fcfs = closedLoop(plainDrive({ queue: { policy: "fcfs" } }), 32, 20_000, 7);
    const elevator = closedLoop(plainDrive({ queue: { policy: "elevator" } }), 32, 20_000, 7);
    const sptf = closedLoop(plainDrive(), 32, 20_000, 7);
    const aged = closedLoop(plainDrive({ queue: { ageing: 0.03 } }), 32, 20_000, 7);
    const limited = closedLoop(plainDrive({ queue: { maximumWait: "250ms" } }), 32, 20_000, 7);
    expect(elevator.perSecond).toBeGreaterThan(fcfs.perSecond * 1.2);
    expect(sptf.perSecond).toBeGreaterThan(elevator.perSecond * 1.2);
    expect(aged.perSecond).toBeLessThan(sptf.perSecond);
    expect(aged.p99Ms).toBeLessThan(sptf.p99Ms / 1.3);
    expect(limited.p99Ms).toBeLessThan(sptf.p99Ms / 1.3);
  });
});

describe("flush", () => {
  it("takes time in proportion to what is dirty (a straight line to 5 %, mean of 40 runs, seed 8)", () => {
    const random = new Random(8, "test");
    const counts = [8, 16, 32, 64];
    const perWrite = counts.map((count) => {
      const times: number[] = [];
      for (let run = 0; run < 40; run++) {
        // In order of age, so that every write back is a random one.
        const drive = new TestDrive(plainDrive({ destage: { order: "fifo", delay: "1h" } }), sizeBytes);
        for (let i = 0; i < count; i++) drive.time("write", randomOffset(random), blockBytes);
        times.push(drive.time("flush", 0, 0));
      }
      return mean(times) / count;
    });
    for (const time of perWrite) {
      expect(time / 12.186e6).toBeGreaterThan(0.95);
      expect(time / 12.186e6).toBeLessThan(1.05);
    }
  });

  it("costs next to nothing when nothing is dirty", () => {
    const drive = new TestDrive(plainDrive(), sizeBytes);
    drive.time("write", 0, blockBytes);
    drive.time("flush", 0, 0);
    expect(drive.time("flush", 0, 0)).toBe(0);
  });
});
