import { describe, expect, test } from "vitest";
import { Flag } from "../../src/base/request.js";
import { runJobs, type SeenRequest } from "../simulate/run.js";

const ms = 1e6;

function offsets(seen: SeenRequest[]): number[] {
  return seen.map(({ offsetBytes }) => offsetBytes);
}

function operationsOf(seen: SeenRequest[]): string {
  return [...seen]
    .sort((a, b) => a.arrivalNs - b.arrivalNs)
    .map(({ op }) => op[0])
    .join("");
}

describe("a fio job on virtual time", () => {
  test("keeps iodepth requests in flight, each followed by the next at once", () => {
    const { seen, stats } = runJobs("rw=randread\niodepth=4\nnumber_ios=100", { latencyNs: 1 * ms });
    expect(seen).toHaveLength(100);
    expect(stats.meanQueueDepth).toBe(4);
    expect(seen.at(-1)?.dueNs).toBe(25 * ms);
  });

  test("sequential requests follow each other, and begin again at the start of the region", () => {
    const { seen } = runJobs("rw=read\nbs=64k\nsize=256k\noffset=1m\nio_size=384k");
    expect(offsets(seen).map((offset) => (offset - 2 ** 20) / 65536)).toEqual([0, 1, 2, 3, 0, 1]);
  });

  test("without io_size or runtime the job ends after size bytes, times loops", () => {
    expect(runJobs("rw=write\nbs=4k\nsize=40k").seen).toHaveLength(10);
    expect(runJobs("rw=write\nbs=4k\nsize=40k\nloops=3").seen).toHaveLength(30);
  });

  test("random requests cover every block once before any comes again", () => {
    const { seen } = runJobs("rw=randwrite\nbs=4k\nsize=4m\nio_size=8m");
    const first = offsets(seen.slice(0, 1024));
    expect(new Set(first).size).toBe(1024);
    expect(new Set(offsets(seen.slice(1024))).size).toBe(1024);
    expect(offsets(seen.slice(1024))).not.toEqual(first);
  });

  test("norandommap lets blocks repeat", () => {
    const { seen } = runJobs("rw=randwrite\nbs=4k\nsize=4m\nnorandommap");
    // 1024 draws from 1024 blocks hit 1 - 1/e of them: 647 on average, deviation 12.5; five deviations allowed.
    expect(Math.abs(new Set(offsets(seen)).size - 647)).toBeLessThan(63);
  });

  test("requests stay inside the region, aligned to the smallest block size", () => {
    const { seen } = runJobs(
      "rw=randrw\nbssplit=4k/40:12k/30:64k/30\noffset=1m\nsize=1000k\nnumber_ios=5000\nrandom_distribution=zipf:0.9\ntime_based\nruntime=100",
    );
    for (const { offsetBytes, lengthBytes } of seen) {
      expect(offsetBytes).toBeGreaterThanOrEqual(2 ** 20);
      expect(offsetBytes + lengthBytes).toBeLessThanOrEqual(2 ** 20 + 1000 * 1024);
      expect(offsetBytes % 4096).toBe(0);
    }
  });

  test("bssplit shares are met", () => {
    const { seen } = runJobs("rw=randread\nbssplit=4k/50:8k/30:64k/20\nnumber_ios=20000\nnorandommap");
    const share = (bytes: number) =>
      seen.filter(({ lengthBytes }) => lengthBytes === bytes).length / seen.length;
    // 20,000 draws, seed 1: a standard deviation is at most 0.0035; four allowed.
    expect(share(4096)).toBeCloseTo(0.5, 1.85);
    expect(Math.abs(share(4096) - 0.5)).toBeLessThan(0.015);
    expect(Math.abs(share(8192) - 0.3)).toBeLessThan(0.015);
    expect(Math.abs(share(65536) - 0.2)).toBeLessThan(0.015);
  });

  test("rwmixread shares are met, and each direction has its own sequence", () => {
    const { seen } = runJobs("rw=rw\nrwmixread=70\nbs=4k\nnumber_ios=10000\nsize=1g");
    const reads = seen.filter(({ op }) => op === "read");
    // 10,000 draws, seed 1: a standard deviation is 0.0046; four allowed.
    expect(Math.abs(reads.length / seen.length - 0.7)).toBeLessThan(0.019);
    expect(offsets(reads)).toEqual(reads.map((_, i) => i * 4096));
  });

  test("think time starts when the request is complete", () => {
    const { seen } = runJobs("rw=randread\nthinktime=9ms\nnumber_ios=10", { latencyNs: 1 * ms });
    expect(seen.map(({ arrivalNs }) => arrivalNs)).toEqual(Array.from({ length: 10 }, (_, i) => i * 10 * ms));
  });

  test("thinktime_blocks thinks after so many, once the queue is empty", () => {
    const { seen } = runJobs("rw=randread\niodepth=2\nthinktime=10ms\nthinktime_blocks=4\nnumber_ios=8", {
      latencyNs: 1 * ms,
    });
    expect(seen.map(({ arrivalNs }) => arrivalNs / ms)).toEqual([0, 0, 1, 1, 12, 12, 13, 13]);
  });

  test("at depth, think time lets one request through per pause, as fio does", () => {
    const { seen } = runJobs("rw=randread\niodepth=2\nthinktime=10ms\nnumber_ios=5", { latencyNs: 1 * ms });
    // fio 3.33 issues the same job on a fast device at 0 0 10 20 30 ms.
    expect(seen.map(({ arrivalNs }) => arrivalNs / ms)).toEqual([0, 0, 11, 22, 33]);
  });

  test("rate_iops is a schedule that a slow device falls behind and catches up with", () => {
    const { seen } = runJobs("rw=randread\nrate_iops=100\nnumber_ios=5\niodepth=1", { latencyNs: 2 * ms });
    expect(seen.map(({ arrivalNs }) => arrivalNs / ms)).toEqual([0, 10, 20, 30, 40]);
    const behind = runJobs("rw=randread\nrate_iops=1000\nnumber_ios=5\niodepth=1", { latencyNs: 2 * ms });
    expect(behind.seen.map(({ arrivalNs }) => arrivalNs / ms)).toEqual([0, 2, 4, 6, 8]);
  });

  test("each direction of a mixed job keeps its own rate", () => {
    const { seen } = runJobs("rw=randrw\nrate_iops=300,100\nruntime=10\ntime_based\niodepth=8");
    const reads = seen.filter(({ op }) => op === "read").length;
    expect(Math.abs(reads - 3000)).toBeLessThanOrEqual(2);
    expect(Math.abs(seen.length - reads - 1000)).toBeLessThanOrEqual(2);
  });

  test("a Poisson rate has exponential gaps", () => {
    const { seen } = runJobs(
      "rw=randread\nrate_iops=1000\nrate_process=poisson\niodepth=256\nnumber_ios=20000",
      {
        latencyNs: 10_000,
      },
    );
    const gaps = seen.slice(1).map(({ arrivalNs }, i) => arrivalNs - seen[i].arrivalNs);
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
    // 20,000 gaps, seed 1: standard error 0.7 % of the mean and 1 % of the deviation; four allowed.
    expect(Math.abs(mean / ms - 1)).toBeLessThan(0.028);
    expect(Math.abs(Math.sqrt(variance) / mean - 1)).toBeLessThan(0.04);
  });

  test("fsync comes after so many writes, as one request among the others", () => {
    const { seen } = runJobs("rw=randwrite\nfsync=3\nnumber_ios=7");
    expect(operationsOf(seen)).toBe("wwwfwwwfw");
    const deep = runJobs("rw=randwrite\nfsync=3\nnumber_ios=6\niodepth=4", {
      latencyNs: [1, 1, 5, 1, 1].map((x) => x * ms),
    });
    // The flush takes one of four places and five times as long; the writes go on beside it.
    const flush = deep.seen.find(({ op }) => op === "flush");
    expect(flush?.arrivalNs).toBe(0);
    expect(deep.seen.filter(({ op, dueNs }) => op === "write" && dueNs < (flush?.dueNs ?? 0))).toHaveLength(
      6,
    );
  });

  test("end_fsync flushes once all is complete", () => {
    const { seen } = runJobs("rw=write\nbs=4k\nsize=16k\niodepth=2\nend_fsync=1", { latencyNs: 1 * ms });
    expect(operationsOf(seen)).toBe("wwwwf");
    expect(seen.at(-1)?.arrivalNs).toBe(2 * ms);
  });

  test("sync writes carry FUA, reads do not", () => {
    const { seen } = runJobs("rw=randrw\nsync=1\nnumber_ios=50");
    for (const { op, flags } of seen) expect(flags).toBe(op === "write" ? Flag.fua : 0);
  });

  test("runtime begins after ramp_time, and only what completes in it counts", () => {
    const { seen, stats } = runJobs("rw=randread\nruntime=1\nramp_time=500ms\ntime_based", {
      latencyNs: 1 * ms,
    });
    expect(seen).toHaveLength(1500);
    // 499 completions lie before 500 ms.
    expect(stats.total.operations[0].latency.count).toBe(1001);
    expect(stats.elapsedNs).toBe(1e9);
  });

  test("clones have their own place in the device and their own random numbers", () => {
    const { seen } = runJobs("rw=randread\nnumjobs=3\nnumber_ios=100\nsize=1m\noffset_increment=16m");
    for (let clone = 0; clone < 3; clone++) {
      const own = offsets(seen.filter(({ queue }) => queue === clone));
      expect(own).toHaveLength(100);
      for (const offset of own) expect(Math.floor(offset / (16 * 2 ** 20))).toBe(clone);
    }
    const places = [0, 1].map((clone) =>
      offsets(seen.filter((r) => r.queue === clone)).map((o) => o % 2 ** 24),
    );
    expect(places[0]).not.toEqual(places[1]);
  });

  test("stonewall waits for all jobs before, startdelay for time", () => {
    const { seen } = runJobs(
      "[a]\nnumber_ios=5\n[b]\nnumber_ios=9\n[c]\nstonewall\nstartdelay=3ms\nnumber_ios=1",
      {
        latencyNs: 1 * ms,
      },
    );
    expect(seen.at(-1)).toMatchObject({ queue: 2, arrivalNs: 12 * ms });
  });

  test("requests larger than the region are refused", () => {
    expect(() => runJobs("bs=1m\nsize=512k")).toThrow(/requests of 1048576 bytes do not fit/);
    expect(() => runJobs("offset=2g")).toThrow(/do not fit its 0 bytes/);
  });

  test("the same seed gives the same requests, another seed others", () => {
    const job = "rw=randrw\nbssplit=4k/50:16k/50\niodepth=8\nnumber_ios=2000\nrandom_distribution=zipf:1.2";
    expect(runJobs(job, { seed: 7 }).seen).toEqual(runJobs(job, { seed: 7 }).seen);
    expect(runJobs(job, { seed: 8 }).seen).not.toEqual(runJobs(job, { seed: 7 }).seen);
  });
});
