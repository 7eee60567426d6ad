/** Queues, mapping cache, wear, retry, heat, power: each by what it does to a drive as a whole. */
import { describe, expect, it } from "vitest";
import { formatModelReport } from "../../../src/model/report-text.js";
import { drainAll, percentile, plainDrive, runLoads, TestDrive, uniform, unitBytes } from "./drive.js";

const sizeBytes = 2 ** 28;
const units = sizeBytes / unitBytes;

describe("queues", () => {
  it("weights of submission queues divide a busy drive (1 %), and an urgent queue goes first", () => {
    const drive = new TestDrive(
      plainDrive({
        firmware: { read: 0, write: 0, flush: 0, trim: 0, command: "2us" },
        queue: {
          depth: 4,
          arbitration: {
            queues: 4,
            mechanism: "weighted",
            weights: { high: 7, medium: 3, low: 1 },
            classes: ["high", "medium", "low", "urgent"],
          },
        },
      }),
      sizeBytes,
      { capacity: 200 },
    );
    const queueOf = new Map<number, number>();
    const submit = (queue: number) => queueOf.set(drive.submit("read", 0, unitBytes, 0, queue), queue);
    for (let i = 0; i < 180; i++) submit(i % 3);
    const done = [0, 0, 0, 0];
    for (let i = 0; i < 14_000; i++) {
      const queue = queueOf.get(drive.waitForOne())!;
      done[queue]++;
      submit(queue);
    }
    const all = done[0] + done[1] + done[2];
    [8, 4, 2].forEach((weight, queue) => {
      expect(Math.abs(done[queue] / all - weight / 14)).toBeLessThan(0.01);
    });
    // Urgent commands, as many as are taken, starve the rest but for what was fetched before.
    for (let i = 0; i < 15; i++) submit(3);
    let others = 0;
    for (let i = 0; i < 2000; i++) {
      const queue = queueOf.get(drive.waitForOne())!;
      if (queue !== 3) others++;
      submit(3);
    }
    expect(others).toBeLessThan(10);
  });

  it("a flush that does not queue waits for all before it, and those after it wait for it", () => {
    const drive = new TestDrive(
      plainDrive({
        queue: { flushQueued: false, depth: 32 },
        writeBuffer: { size: 2 ** 20, powerLossProtection: false },
        precondition: { state: "sequential" },
      }),
      sizeBytes,
    );
    drive.submit("write", 0, unitBytes);
    const flush = drive.submit("flush", 0, 0);
    const read = drive.submit("read", 512 * unitBytes, unitBytes);
    drive.waitForOne();
    expect(drive.waitForOne()).toBe(flush);
    expect(drive.waitForOne()).toBe(read);
    expect(drive.requests.dueNs[read]).toBeGreaterThan(drive.requests.dueNs[flush] + 50_000);
  });

  it("requests larger than one command may be take as many commands as they need", () => {
    const drive = new TestDrive(
      plainDrive({
        firmware: { read: "5us", write: 0, flush: 0, trim: 0, command: "3us" },
        queue: { maximumTransfer: 128 * 1024 },
      }),
      sizeBytes,
    );
    const one = drive.time("read", 0, 128 * 1024);
    const linkNs = one - 5000;
    expect(drive.time("read", 0, 1024 * 1024)).toBeCloseTo(5000 + 7 * 3000 + 8 * linkNs, 3);
  });
});

describe("a mapping cache", () => {
  const drive = (size: string) =>
    new TestDrive(plainDrive({ mapCache: { size }, precondition: { state: "sequential" } }), sizeBytes);

  it("costs a read of flash where it does not hold the page, and nothing where it does", () => {
    const target = drive("8K");
    // Two pages of 4 MiB each are held.
    const miss = target.time("read", 0, unitBytes);
    const hit = target.time("read", unitBytes, unitBytes);
    expect(miss - hit).toBeCloseTo(50_000, 0);
    target.time("read", 1024 * unitBytes, unitBytes);
    target.time("read", 2048 * unitBytes, unitBytes);
    expect(target.time("read", 0, unitBytes)).toBeCloseTo(miss, 0);
    expect(target.model.counters.mapReads).toBe(4);
    target.checkConservation();
  });

  it("writes changed pages back when they go", () => {
    const target = drive("16K");
    runLoads(target, [{ operation: "write", next: uniform(units, 1), depth: 4, count: 5000 }]);
    expect(target.model.counters.mapWrites).toBeGreaterThan(4000);
    drainAll(target);
    target.checkConservation();
  });

  it("that holds all makes no difference once it is warm", () => {
    const target = drive("1M");
    runLoads(target, [{ operation: "read", next: uniform(units, 1), depth: 1, count: 2000 }]);
    const { mapReads } = target.model.counters;
    expect(mapReads).toBe(units / 1024);
  });
});

describe("wear", () => {
  const hot = (levelling: number) => {
    const drive = new TestDrive(
      plainDrive({
        flash: { channels: 1, pagesPerBlock: 64, program: "100us", erase: "100us" },
        ftl: { overProvisioning: 0.25 },
        wear: { levelling },
        writeBuffer: { size: 2 ** 18, powerLossProtection: true },
        precondition: { state: "sequential" },
      }),
      2 ** 25,
    );
    // A tenth of the device is written again and again.
    const next = uniform(Math.floor(2 ** 25 / unitBytes / 10), 1);
    runLoads(drive, [{ operation: "write", next, depth: 4, count: 300_000 }]);
    drainAll(drive);
    drive.checkConservation();
    const { erases } = drive.model.superblocks;
    return { spread: Math.max(...erases) - Math.min(...erases), drive };
  };

  it("is far less uneven with static levelling than without", () => {
    const without = hot(0);
    expect(without.drive.model.counters.levelled).toBe(0);
    const withLevelling = hot(10);
    expect(withLevelling.drive.model.counters.levelled).toBeGreaterThan(0);
    expect(withLevelling.spread).toBeLessThan(0.7 * without.spread);
  });

  it("uses up spares, then superblocks, and says so in the health log", () => {
    const drive = new TestDrive(
      plainDrive({
        flash: { channels: 1, program: "100us", erase: "100us" },
        ftl: { overProvisioning: 0.5 },
        wear: { eraseFailure: 0.02, programFailure: 0.0001, spares: 20, rated: 100 },
        precondition: { state: "sequential" },
      }),
      2 ** 25,
    );
    runLoads(drive, [{ operation: "write", next: uniform(2 ** 13, 1), depth: 4, count: 200_000 }]);
    const { counters, superblocks } = drive.model;
    expect(counters.retired).toBeGreaterThan(10);
    expect(counters.retired).toBe(superblocks.retiredCount);
    const log = drive.model.health(drive.nowNs);
    expect(log.availableSparePercent).toBe(0);
    expect(log.criticalWarning & 1).toBe(1);
    expect(log.errorLogEntries).toBe(counters.programFailures + counters.eraseFailures);
    expect(log.hostWriteCommands).toBeGreaterThanOrEqual(200_000);
    expect(log.percentageUsed).toBe(Math.floor(superblocks.totalErases / superblocks.count));
    drainAll(drive);
    drive.checkConservation();
  });

  it("makes reads retry more often: so many steps per so many cycles", () => {
    const time = (cycles: number) =>
      new TestDrive(
        plainDrive({
          wear: { cycles },
          retry: { cyclesPerStep: 750, maximum: 4, time: "60us" },
          precondition: { state: "sequential" },
        }),
        sizeBytes,
      ).time("read", 0, unitBytes);
    expect(time(749)).toBe(time(0));
    expect(time(1500) - time(0)).toBeCloseTo(120_000, 3);
    expect(time(9000) - time(0)).toBeCloseTo(240_000, 3);
  });
});

describe("heat and power", () => {
  it("throttling begins when the formula says (2 %), and slows the drive to its share of dies (5 %)", () => {
    const drive = new TestDrive(
      plainDrive({
        flash: { channels: 8, read: "1ms", dieWatts: 1 },
        thermal: {
          ambient: 30,
          resistance: 8,
          timeConstant: "1s",
          idlePower: 1,
          light: { at: 80, speed: 0.5 },
          heavy: { at: 95, speed: 0.25 },
        },
        precondition: { state: "sequential" },
      }),
      sizeBytes,
    );
    // All eight dies at work, nearly: 38 + 64 K settled, so 80 is reached after ln(64/22) s.
    let lastNs = 0;
    const timesNs: number[] = [];
    const next = uniform(units, 1);
    for (let i = 0; i < 256; i++) drive.submit("read", next() * unitBytes, unitBytes);
    while (drive.nowNs < 3e9) {
      drive.waitForOne();
      drive.submit("read", next() * unitBytes, unitBytes);
      if (lastNs === 0 && drive.model.health(drive.nowNs).throttleTransitions[0] > 0) lastNs = drive.nowNs;
      timesNs.push(drive.nowNs);
    }
    expect(lastNs / (Math.log(64 / 22) * 1e9)).toBeGreaterThan(0.98);
    expect(lastNs / (Math.log(64 / 22) * 1e9)).toBeLessThan(1.02);
    const rate = (fromNs: number, toNs: number) =>
      timesNs.filter((time) => time >= fromNs && time < toNs).length / (toNs - fromNs);
    expect(rate(lastNs + 2e6, lastNs + 3e7) / rate(2e8, 8e8)).toBeGreaterThan(0.475);
    expect(rate(lastNs + 2e6, lastNs + 3e7) / rate(2e8, 8e8)).toBeLessThan(0.525);
    expect(drive.model.health(drive.nowNs).throttledNs[0]).toBeGreaterThan(0);
  });

  it("the first command after idle time waits for the drive to wake", () => {
    const drive = new TestDrive(plainDrive({ power: [{ after: "10ms", recovery: "3ms" }] }), sizeBytes);
    const awake = drive.time("read", 0, unitBytes);
    drive.runTo(drive.nowNs + 20e6);
    expect(drive.time("read", 0, unitBytes)).toBeCloseTo(awake + 3e6, 3);
    expect(drive.time("read", 0, unitBytes)).toBeCloseTo(awake, 3);
  });
});

describe("collection that is not paced", () => {
  it("ends what it began without another write of the host", () => {
    const drive = new TestDrive(
      plainDrive({
        flash: { channels: 1, diesPerChannel: 2, program: "300us", erase: "2ms" },
        ftl: { overProvisioning: 0.2 },
        gc: { pacing: 0, background: 6 },
        precondition: { state: "random" },
      }),
      sizeBytes,
    );
    const { counters } = drive.model;
    const next = uniform(units, 1);
    for (let collections = 0; collections < 10; collections++) {
      for (const before = counters.collected; counters.collected === before; )
        drive.time("write", next() * unitBytes, unitBytes);
      drainAll(drive);
      expect(counters.erased).toBe(counters.collected);
    }
    drive.checkConservation();
  });
});

describe("collection that blocks", () => {
  it("raises p99.9 of reads, the more the more it keeps away: none, die, channel (seed 1)", () => {
    const tail = (blocking: string) => {
      const drive = new TestDrive(
        plainDrive({
          flash: { channels: 4, diesPerChannel: 4, read: "50us", program: "300us", erase: "2ms" },
          ftl: { overProvisioning: 0.2 },
          gc: { blocking, background: 6 },
          precondition: { state: "random" },
        }),
        sizeBytes,
      );
      const [reads] = runLoads(drive, [
        { operation: "read", next: uniform(units, 1), depth: 2, count: 10_000 },
        { operation: "write", next: uniform(units, 2), depth: 4, count: 1_000_000 },
      ]);
      drainAll(drive);
      drive.checkConservation();
      return percentile(reads.latenciesNs, 0.999);
    };
    const none = tail("none");
    const die = tail("die");
    expect(die).toBeGreaterThan(none);
    expect(tail("channel")).toBeGreaterThan(die);
  });
});

describe("the atomic write unit", () => {
  it("is reported, for whoever cuts power, and reads as the size it is", () => {
    const parameters = plainDrive({
      writeBuffer: { size: 2 ** 20, powerLossProtection: true, atomicUnit: "8K" },
    });
    const report = new TestDrive(parameters, sizeBytes).model.report();
    expect(report).toMatchObject({ atomicWriteBytes: 8192 });
    expect(formatModelReport(report)).toMatch(/^atomic write +8K$/m);
  });
});

describe("the same seed", () => {
  it("gives the same completion times, to the bit, however the host slices its calls", () => {
    const times = (step: number) => {
      const drive = new TestDrive(
        plainDrive({
          ftl: { overProvisioning: 0.2 },
          precondition: { state: "random" },
          retry: { rate: 0.01 },
        }),
        sizeBytes,
      );
      const random = uniform(units, 9);
      const all: number[] = [];
      for (let i = 0; i < 3000; i++) {
        const slot = drive.submit(i % 3 === 0 ? "read" : "write", random() * unitBytes, unitBytes);
        for (let k = 1; k <= step; k++) drive.runTo(i * 200_000 + (k / step) * 200_000);
        while (drive.completedSlots.length > 0) {
          const done = drive.completedSlots.shift()!;
          all.push(drive.requests.dueNs[done]);
          drive.requests.release(done);
        }
        expect(slot).toBeGreaterThanOrEqual(0);
      }
      return all;
    };
    expect(times(7)).toEqual(times(1));
  });
});
