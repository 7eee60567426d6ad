import { describe, expect, test } from "vitest";
import { operations as operationNames, RequestTable } from "../../src/base/request.js";
import type { CompletionSink, Model } from "../../src/model/model.js";
import { createInstantModel } from "../../src/model/simple/instant.js";
import { runEngine } from "../../src/simulate/engine.js";
import { RunStats } from "../../src/simulate/stats.js";
import { parseJobFile } from "../../src/workload/job-file.js";
import { Workload } from "../../src/workload/workload.js";
import { runJobs } from "./run.js";

const ms = 1e6;

describe("engine", () => {
  test.each([1, 4, 32, 200])("a fixed device obeys Little's law exactly at queue depth %d", (depth) => {
    const { stats } = runJobs(`rw=randread\niodepth=${depth}\nnumber_ios=${depth * 50}`, {
      latencyNs: 0.25 * ms,
    });
    const { latency } = stats.total.operations[0];
    expect(latency.summary()).toMatchObject({ minNs: 0.25 * ms, maxNs: 0.25 * ms, meanNs: 0.25 * ms });
    expect(latency.count / (stats.elapsedNs / 1e9)).toBe(depth * 4000);
    expect(stats.meanQueueDepth).toBe(depth);
    expect(stats.utilisation).toBe(1);
  });

  test("utilisation is the share of time with a request in the device", () => {
    const { stats } = runJobs("rw=randread\nthinktime=3ms\nnumber_ios=1001", { latencyNs: 1 * ms });
    // The last think time is not waited for: 1001 ms busy of 4001.
    expect(stats.utilisation).toBeCloseTo(1001 / 4001, 12);
  });

  test("requests beyond the device's table wait outside in order, and their waiting counts", () => {
    const { seen, stats } = runJobs("rw=read\niodepth=6\nnumber_ios=6", { latencyNs: 1 * ms, capacity: 4 });
    expect(seen.map(({ arrivalNs, dueNs, wantedNs }) => [wantedNs, arrivalNs, dueNs])).toEqual([
      [0, 0, 1 * ms],
      [0, 0, 1 * ms],
      [0, 0, 1 * ms],
      [0, 0, 1 * ms],
      [0, 1 * ms, 2 * ms],
      [0, 1 * ms, 2 * ms],
    ]);
    expect(seen.map(({ offsetBytes }) => offsetBytes / 4096)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(stats.heldBack).toBe(2);
    expect(stats.total.operations[0].latency.summary().maxNs).toBe(2 * ms);
  });

  test("groups are measured apart, and add up to the total", () => {
    const { stats } = runJobs("[a]\nrw=read\nnumber_ios=10\n[b]\nrw=write\nnumber_ios=30\nthinktime=1ms");
    const countsOf = ({ operations }: typeof stats.total) =>
      Object.fromEntries(
        operations.flatMap(({ latency: { count } }, op) =>
          count === 0 ? [] : [[operationNames[op], count]],
        ),
      );
    expect(stats.groups.map(countsOf)).toEqual([{ read: 10 }, { write: 30 }]);
    expect(countsOf(stats.total)).toEqual({ read: 10, write: 30 });
  });

  test("a device that takes no time under a workload that ends by time is an error, not a hang", () => {
    const requests = new RequestTable(8);
    const { jobs } = parseJobFile("[job]\nruntime=1\ntime_based", { path: "job.fio" });
    const source = new Workload({ jobs, requests, sizeBytes: 2 ** 20, seed: 1 });
    const stats = new RunStats(requests, source, null);
    const model = createInstantModel({ requests });
    expect(() => runEngine({ model, requests, source, stats })).toThrow(/time stands still/);
  });

  test("a model that forgets a request is found out", () => {
    const requests = new RequestTable(8);
    const { jobs } = parseJobFile("[job]\nnumber_ios=2", { path: "job.fio" });
    const source = new Workload({ jobs, requests, sizeBytes: 2 ** 20, seed: 1 });
    const forgetful: Model = {
      arrive: () => {},
      nextEventNs: () => Number.POSITIVE_INFINITY,
      advance: (_toNs: number, _done: CompletionSink) => {},
    };
    const stats = new RunStats(requests, source, null);
    expect(() => runEngine({ model: forgetful, requests, source, stats })).toThrow(/broke a promise/);
  });
});
