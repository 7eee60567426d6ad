import { describe, expect, it } from "vitest";
import { Random } from "../../../src/base/random.js";
import { Flag } from "../../../src/base/request.js";
import type { HddParameters } from "../../../src/model/hdd/index.js";
import { mean, plainDrive, profileParameters, TestDrive } from "./drive.js";

const kiB = 1024;
const miB = 1024 * kiB;
const revolutionNs = 60e9 / 7200;
const sizeBytes = 10_000 * 3332 * 512;

/** The plain drive with a cache in front: 100 MB/s of interface, .1 ms of overhead. */
function cachedDrive(
  changes: Record<string, unknown> = {},
  cache: Record<string, unknown> = {},
): HddParameters {
  return plainDrive({
    interface: { rate: "100MB/s" },
    overhead: { readHit: "0.1ms", readMiss: "0.1ms", writeHit: "0.1ms", writeMiss: "0.1ms", other: 0 },
    cache: { segments: 4, segmentSize: "1M", freeBlocks: false, ...cache },
    ...changes,
  });
}

const hitNs = (bytes: number) => 0.1e6 + (bytes * 1e9) / 100e6;

describe("read cache and read-ahead", () => {
  it("a block read again comes from the cache: overhead and interface, no media", () => {
    const drive = new TestDrive(cachedDrive(), sizeBytes);
    drive.time("read", 40 * miB, 4 * kiB);
    expect(drive.time("read", 40 * miB, 4 * kiB)).toBeCloseTo(hitNs(4096), 3);
    expect(drive.model.counters.readHits).toBe(1);
  });

  it("read-ahead goes on while the drive is idle, no faster than the media", () => {
    const drive = new TestDrive(cachedDrive(), sizeBytes);
    drive.time("read", 0, 4 * kiB);
    // In a tenth of a revolution a tenth of the track passes: 166 KiB of 1666. What lies beyond is not there yet.
    drive.runTo(drive.nowNs + revolutionNs / 10);
    expect(drive.time("read", 100 * kiB, 4 * kiB)).toBeCloseTo(hitNs(4096), 3);
    const slot = drive.submit("read", 400 * kiB, 4 * kiB);
    drive.waitForOne();
    const timeNs = drive.requests.dueNs[slot] - drive.requests.arrivalNs[slot];
    expect(timeNs).toBeGreaterThan(0.08 * revolutionNs);
    // It waits for the read-ahead on its way rather than for a revolution.
    expect(timeNs).toBeLessThan(0.2 * revolutionNs);
    drive.runTo(drive.nowNs + 10 * revolutionNs);
    expect(drive.time("read", 900 * kiB, 4 * kiB)).toBeCloseTo(hitNs(4096), 3);
  });

  it("a read that is cached in part needs the media for the rest only", () => {
    const drive = new TestDrive(cachedDrive({}, { readAhead: { mode: "off" } }), sizeBytes);
    drive.time("read", 0, 64 * kiB);
    drive.runTo(drive.nowNs + 5.5 * revolutionNs);
    drive.time("read", 32 * kiB, 64 * kiB);
    expect(drive.model.counters.partialHits).toBe(1);
    // The whole of it is in the segment now.
    expect(drive.time("read", 0, 96 * kiB)).toBeCloseTo(hitNs(96 * kiB), 3);
  });

  it("an unrelated read ends the read-ahead, but keeps what has been read", () => {
    const drive = new TestDrive(cachedDrive(), sizeBytes);
    drive.time("read", 0, 4 * kiB);
    drive.runTo(drive.nowNs + revolutionNs / 10);
    drive.time("read", 8192 * miB, 4 * kiB);
    expect(drive.time("read", 64 * kiB, 4 * kiB)).toBeCloseTo(hitNs(4096), 3);
    expect(drive.time("read", 900 * kiB, 4 * kiB)).toBeGreaterThan(1e6);
  });

  it.each([4, 64, 1024])("reading in sequence by %d KiB runs at the rate of the media (2 %)", (blockKiB) => {
    const drive = new TestDrive(plainDrive({ cache: { segments: 4, segmentSize: "2M" } }), sizeBytes);
    const total = 64 * miB;
    for (let offset = 0; offset < total; offset += blockKiB * kiB) drive.time("read", offset, blockKiB * kiB);
    // No skew, so every track boundary costs a revolution of waiting less one seek: two revolutions a track.
    const tracks = total / (3332 * 512);
    expect(drive.nowNs / (2 * tracks * revolutionNs)).toBeGreaterThan(0.96);
    expect(drive.nowNs / (2 * tracks * revolutionNs)).toBeLessThan(1.02);
  });

  it("keeps a stream of reads larger than its segments going, queued or not (3 %)", () => {
    for (const depth of [1, 4]) {
      const { parameters, sizeBytes } = { parameters: profileParameters("hdd-7200"), sizeBytes: 2 ** 36 };
      const drive = new TestDrive(
        { ...parameters, cache: { ...parameters.cache, segmentSize: 512 * kiB } },
        sizeBytes,
      );
      let next = 0;
      const submit = () => {
        drive.submit("read", next, 4 * miB);
        next += 4 * miB;
      };
      for (let i = 0; i < depth; i++) submit();
      for (let i = 0; i < 100; i++) {
        drive.waitForOne();
        submit();
      }
      const rate = (100 * 4 * miB * 1e3) / drive.nowNs;
      expect(rate / 210).toBeGreaterThan(0.97);
      expect(rate / 210).toBeLessThan(1.03);
    }
  });

  it("with trigger sequential, one read alone sets nothing going", () => {
    const drive = new TestDrive(cachedDrive({}, { readAhead: { trigger: "sequential" } }), sizeBytes);
    drive.time("read", 0, 4 * kiB);
    drive.runTo(drive.nowNs + 10 * revolutionNs);
    expect(drive.time("read", 4 * kiB, 4 * kiB)).toBeGreaterThan(0.5e6);
    drive.runTo(drive.nowNs + 10 * revolutionNs);
    expect(drive.time("read", 8 * kiB, 4 * kiB)).toBeCloseTo(hitNs(4096), 3);
  });

  it("keeps the blocks that pass before the wanted ones", () => {
    const drive = new TestDrive(cachedDrive({}, { freeBlocks: true, readAhead: { mode: "off" } }), sizeBytes);
    // After this the head is on track 0, just behind block 8; until 1000 KiB come, what precedes them passes.
    drive.time("read", 0, 4 * kiB);
    drive.time("read", 1000 * kiB, 4 * kiB);
    expect(drive.time("read", 900 * kiB, 4 * kiB)).toBeCloseTo(hitNs(4096), 3);
  });

  it("zero latency reads a whole track in one revolution from wherever the head comes down", () => {
    const random = new Random(1, "test");
    const track = 3332 * 512;
    const worst = (zeroLatencyRead: boolean) => {
      const drive = new TestDrive(plainDrive({ cache: { segments: 0, zeroLatencyRead } }), sizeBytes);
      let longestNs = 0;
      for (let i = 0; i < 200; i++) {
        drive.runTo(drive.nowNs + random.nextExponential(20e6));
        // The same track every time: no seek.
        longestNs = Math.max(longestNs, drive.time("read", 0, track));
      }
      return longestNs / revolutionNs;
    };
    expect(worst(true)).toBeLessThan(1.001);
    expect(worst(false)).toBeGreaterThan(1.9);
  });
});

describe("write cache", () => {
  const writeDrive = (write: Record<string, unknown>, changes: Record<string, unknown> = {}) =>
    cachedDrive({ destage: { delay: "1s" }, ...changes }, { write: { extentSize: "64K", ...write } });

  it("acknowledges when the data have come in", () => {
    const drive = new TestDrive(writeDrive({ size: "1M" }), sizeBytes);
    expect(drive.time("write", 40 * miB, 4 * kiB)).toBeCloseTo(hitNs(4096), 3);
    expect(drive.time("read", 40 * miB, 4 * kiB)).toBeCloseTo(hitNs(4096), 3);
  });

  it("stalls when full, then goes at the rate of the media", () => {
    const drive = new TestDrive(
      writeDrive({ size: "1M", extents: 64 }, { destage: { delay: "1s", highWater: 1 } }),
      sizeBytes,
    );
    const random = new Random(2, "test");
    const write = () => drive.time("write", random.nextInteger(sizeBytes / 4096) * 4096, 4 * kiB);
    const burst = Array.from({ length: 64 }, write);
    expect(Math.max(...burst)).toBeLessThan(0.2e6);
    const sustained = Array.from({ length: 200 }, write);
    expect(mean(sustained)).toBeGreaterThan(2e6);
    expect(drive.model.counters.stalledWrites).toBeGreaterThan(150);
  });

  it("joins neighbouring writes, so that a flush writes them at once", () => {
    const flushAfter = (stride: number) => {
      const drive = new TestDrive(writeDrive({ size: "4M" }), sizeBytes);
      for (let i = 0; i < 16; i++) drive.time("write", i * stride, 4 * kiB);
      const timeNs = drive.time("flush", 0, 0);
      return { timeNs, destages: drive.model.counters.destages };
    };
    expect(flushAfter(4 * kiB).destages).toBe(1);
    expect(flushAfter(400 * miB).destages).toBe(16);
    expect(flushAfter(4 * kiB).timeNs).toBeLessThan(flushAfter(400 * miB).timeNs / 4);
  });

  it("writes back when idle, in the background", () => {
    const drive = new TestDrive(writeDrive({ size: "1M" }), sizeBytes);
    for (let i = 0; i < 10; i++) drive.time("write", i * 100 * miB, 4 * kiB);
    drive.runTo(drive.nowNs + 0.9e9);
    expect(drive.model.counters.destages).toBe(0);
    drive.runTo(drive.nowNs + 1e9);
    expect(drive.model.counters.destages).toBe(10);
    expect(drive.time("flush", 0, 0)).toBe(0);
  });

  it("FUA goes to the media, and so does every write when the cache is off", () => {
    const cached = new TestDrive(writeDrive({ size: "1M" }), sizeBytes);
    expect(cached.time("write", 40 * miB, 4 * kiB, Flag.fua)).toBeGreaterThan(0.5e6);
    expect(cached.time("flush", 0, 0)).toBe(0);
    const through = new TestDrive(writeDrive({ size: "1M" }), sizeBytes, { writeCache: false });
    expect(through.time("write", 40 * miB, 4 * kiB)).toBeGreaterThan(0.5e6);
    expect(through.time("flush", 0, 0)).toBe(0);
  });

  it("a SATA flush is a barrier: it waits for reads before it, reads after it wait", () => {
    const order = (flushQueued: boolean) => {
      const drive = new TestDrive(writeDrive({ size: "1M" }, { queue: { flushQueued } }), sizeBytes);
      for (let i = 0; i < 10; i++) drive.time("write", i * 900 * miB, 4 * kiB);
      const before = drive.submit("read", 5000 * miB, 4 * kiB);
      const flush = drive.submit("flush", 0, 0);
      const after = drive.submit("read", 5001 * miB, 4 * kiB);
      const names = new Map([
        [before, "before"],
        [flush, "flush"],
        [after, "after"],
      ]);
      return [0, 1, 2].map(() => names.get(drive.waitForOne()));
    };
    expect(order(false)).toEqual(["before", "flush", "after"]);
    expect(order(true).at(-1)).toBe("flush");
  });

  it("a flush that queues waits only for what was dirty when it came", () => {
    const drive = new TestDrive(
      writeDrive({ size: "1M" }, { queue: { flushQueued: true }, destage: { order: "fifo", delay: "1s" } }),
      sizeBytes,
    );
    for (let i = 0; i < 5; i++) drive.time("write", i * 900 * miB, 4 * kiB);
    const flush = drive.submit("flush", 0, 0);
    for (let i = 0; i < 5; i++) drive.time("write", (i * 900 + 450) * miB, 4 * kiB);
    while (!drive.completedSlots.includes(flush)) drive.runTo(drive.model.nextEventNs());
    expect(drive.model.counters.destages).toBe(5);
  });

  it.each([1, 4])("neither a stream of reads nor random writes starve the other (%d streams)", (streams) => {
    const drive = new TestDrive(profileParameters("hdd-7200"), 2 ** 40);
    const random = new Random(9, "test");
    const next = Array.from({ length: streams }, (_, i) => i * 2 ** 37);
    const done = Array(streams + 1).fill(0) as number[];
    const ownerOf = new Map<number, number>();
    const submit = (owner: number) => {
      if (owner === streams) {
        ownerOf.set(drive.submit("write", random.nextInteger(2 ** 28) * 4096, 4 * kiB), owner);
      } else {
        ownerOf.set(drive.submit("read", next[owner], 128 * kiB), owner);
        next[owner] += 128 * kiB;
      }
    };
    for (let owner = 0; owner <= streams; owner++) for (let i = 0; i < 4; i++) submit(owner);
    while (drive.nowNs < 20e9) {
      const owner = ownerOf.get(drive.waitForOne())!;
      done[owner]++;
      submit(owner);
    }
    for (let stream = 0; stream < streams; stream++) {
      expect((done[stream] * 128 * kiB * 1e3) / drive.nowNs).toBeGreaterThan(3);
    }
    // More than the cache alone could take.
    expect(done[streams]).toBeGreaterThan(600);
  });

  it("uncached sequential writes lose no revolution as long as the next one is queued (5 %)", () => {
    const drive = new TestDrive(profileParameters("hdd-10k"), 2 ** 36, { writeCache: false });
    let next = 0;
    const submit = () => {
      drive.submit("write", next, 64 * kiB);
      next += 64 * kiB;
    };
    for (let i = 0; i < 8; i++) submit();
    for (let i = 0; i < 2000; i++) {
      drive.waitForOne();
      submit();
    }
    expect((2000 * 64 * kiB * 1e3) / drive.nowNs / 204).toBeGreaterThan(0.95);
  });

  it("writing part of a physical block costs a revolution more", () => {
    const parameters = plainDrive({ seek: { curve: "constant", average: "1ms" } });
    const time = (lengthBytes: number) => {
      const drive = new TestDrive(parameters, sizeBytes, { writeCache: false, physicalBlockBytes: 4096 });
      return drive.time("write", 8 * 4096, lengthBytes);
    };
    expect((time(512) - time(4096)) / revolutionNs).toBeCloseTo(1 - 7 / 3332, 6);
  });
});

describe("what can happen to a drive", () => {
  it("recoverable errors cost whole revolutions, at the given rate (10,000 reads, seed 3)", () => {
    const retries = { rate: 0.1, revolutions: 4 };
    const drive = new TestDrive(plainDrive({ retries }), sizeBytes, { seed: 3 });
    const clean = new TestDrive(plainDrive(), sizeBytes);
    const random = new Random(3, "test");
    const turns: number[] = [];
    for (let i = 0; i < 10_000; i++) {
      const offset = random.nextInteger(sizeBytes / 4096) * 4096;
      const slot = drive.submit("read", offset, 4096);
      drive.waitForOne();
      turns.push(Math.floor(drive.model.breakdown.rotationNs[slot] / revolutionNs));
      clean.time("read", offset, 4096);
    }
    const retried = turns.filter((turn) => turn > 0);
    // Binomial: 1000 +- 3 standard deviations of 30.
    expect(retried.length).toBeGreaterThan(910);
    expect(retried.length).toBeLessThan(1090);
    expect(Math.max(...retried)).toBe(4);
    expect(drive.model.counters.retries).toBe(retried.length);
  });

  it("a drive left alone sleeps, deeper with time, and takes its time to wake", () => {
    const power = [
      { after: "10s", recovery: "500ms" },
      { after: "5min", recovery: "8s" },
    ];
    const drive = new TestDrive(plainDrive({ power }), sizeBytes);
    const readAfter = (seconds: number) => {
      drive.runTo(drive.nowNs + seconds * 1e9);
      return drive.time("read", 0, 4096);
    };
    expect(readAfter(9)).toBeLessThan(30e6);
    expect(readAfter(11)).toBeGreaterThan(500e6);
    expect(readAfter(9)).toBeLessThan(30e6);
    expect(readAfter(400)).toBeGreaterThan(8000e6);
    expect(drive.model.counters.powerUps).toBe(2);
  });

  it("rpm tolerance is drawn once per drive, from the seed", () => {
    const periodOf = (seed: number) => {
      const drive = new TestDrive(plainDrive({ rpmTolerance: 0.01 }), sizeBytes, { seed });
      const [first, second] = [0, 1].map(() => {
        drive.time("read", 0, 4096);
        return drive.nowNs;
      });
      return second - first;
    };
    expect(periodOf(1)).toBe(periodOf(1));
    expect(periodOf(1)).not.toBe(periodOf(2));
    expect(Math.abs(periodOf(1) / revolutionNs - 1)).toBeLessThan(0.0102);
  });

  it("two actuators serve their halves at the same time", () => {
    const throughput = (actuators: number) => {
      const parameters = plainDrive({
        heads: 2,
        actuators,
        layout: { zones: [{ first: 0, last: 9999, sectorsPerTrack: 3332 }] },
      });
      const drive = new TestDrive(parameters, sizeBytes);
      const random = new Random(4, "test");
      const submit = () => drive.submit("read", random.nextInteger(sizeBytes / 4096) * 4096, 4096);
      for (let i = 0; i < 16; i++) submit();
      for (let i = 0; i < 4000; i++) {
        drive.waitForOne();
        submit();
      }
      return 4000 / drive.nowNs;
    };
    expect(throughput(2) / throughput(1)).toBeGreaterThan(1.5);
  });
});

describe("two actuators", () => {
  it("read ahead each in its own half: a hit in one leaves the other's arm where it was", () => {
    const drive = new TestDrive({ ...profileParameters("exos-x18"), actuators: 2 }, 2 ** 30);
    for (let i = 0; i < 50; i++) {
      drive.time("read", 64 * miB + i * 64 * kiB, 64 * kiB);
      drive.runTo(drive.nowNs + 20e6);
    }
    expect(drive.model.counters.readHits).toBeGreaterThan(40);
    const slot = drive.submit("read", 2 ** 29, 4 * kiB);
    drive.waitForOne();
    expect(drive.model.breakdown.seekNs[slot]).toBe(0);
  });
});

describe("a request across the halves of two actuators", () => {
  it("is served, cached and flushed like any other", () => {
    const parameters = profileParameters("exos-x18");
    const drive = new TestDrive({ ...parameters, actuators: 2 }, 2 ** 30);
    const middle = 2 ** 29;
    expect(drive.time("read", middle - 64 * kiB, 128 * kiB)).toBeLessThan(40e6);
    drive.time("write", middle - 4 * kiB, 8 * kiB);
    drive.time("write", middle + 64 * kiB, 4 * kiB);
    expect(drive.time("flush", 0, 0)).toBeGreaterThan(0.1e6);
    expect(drive.time("zeroes", middle - miB, 2 * miB)).toBeLessThan(100e6);
    expect(drive.time("read", 2 ** 30 - 512, 512)).toBeLessThan(40e6);
  });
});

describe("drive-managed shingling", () => {
  const size = 64 * 1024 * miB;
  const parameters = () => ({
    ...profileParameters("st8000as0002"),
    smr: {
      ...profileParameters("st8000as0002").smr!,
      cacheSize: 1024 * miB,
      mapEntries: 500,
      bandSizeOuter: 32 * miB,
      bandSizeInner: 16 * miB,
    },
  });
  const writer = (drive: TestDrive, seed: number) => {
    const random = new Random(seed, "test");
    return (count: number) => {
      const fromNs = drive.nowNs;
      for (let i = 0; i < count; i++) drive.time("write", random.nextInteger(size / 4096) * 4096, 4096);
      return (count / (drive.nowNs - fromNs)) * 1e9;
    };
  };

  it("takes a burst of random writes quickly, then collapses to the rate of cleaning, and recovers when idle", () => {
    const drive = new TestDrive(parameters(), size, { physicalBlockBytes: 4096 });
    const write = writer(drive, 5);
    expect(write(400)).toBeGreaterThan(500);
    write(1500);
    expect(write(100)).toBeLessThan(30);
    const cleaned = drive.model.counters.cleanedBands;
    drive.runTo(drive.nowNs + 3600e9);
    expect(drive.model.counters.cleanedBands).toBeGreaterThan(cleaned + 200);
    expect(write(400)).toBeGreaterThan(500);
  });

  it("cleans only after its idle time", () => {
    const drive = new TestDrive(parameters(), size, { physicalBlockBytes: 4096 });
    writer(drive, 6)(50);
    drive.time("flush", 0, 0);
    drive.runTo(drive.nowNs + 1.1e9);
    expect(drive.model.counters.cleanedBands).toBe(0);
    drive.runTo(drive.nowNs + 2e9);
    expect(drive.model.counters.cleanedBands).toBeGreaterThan(0);
  });

  it("streams sequential writes past its cache without ever collapsing", () => {
    const drive = new TestDrive(parameters(), size, { physicalBlockBytes: 4096 });
    const total = 4096 * miB;
    for (let offset = 0; offset < total; offset += miB) drive.time("write", 8192 * miB + offset, miB);
    expect((total / drive.nowNs) * 1e3).toBeGreaterThan(140);
    expect(drive.model.counters.cleanedBands).toBe(0);
  });
});
