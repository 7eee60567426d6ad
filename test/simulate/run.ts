/** Helpers of the simulation tests: a run of a job file on the fixed or instant model, with every request kept. */
import { operations, RequestTable } from "../../src/base/request.js";
import { createFixedModel } from "../../src/model/simple/fixed.js";
import { runEngine } from "../../src/simulate/engine.js";
import { RunStats } from "../../src/simulate/stats.js";
import { parseJobFile } from "../../src/workload/job-file.js";
import type { RequestSource } from "../../src/workload/source.js";
import { Workload } from "../../src/workload/workload.js";

export interface SeenRequest {
  op: string;
  offsetBytes: number;
  lengthBytes: number;
  flags: number;
  queue: number;
  arrivalNs: number;
  wantedNs: number;
  dueNs: number;
}

export interface RunOptions {
  latencyNs?: number | number[];
  sizeBytes?: number;
  seed?: number;
  capacity?: number;
}

/** Runs jobs written as `option=value` lines (or a whole job file) and returns what the device saw, by completion. */
export function runJobs(text: string, options: RunOptions = {}) {
  const { sizeBytes = 2 ** 30, seed = 1, capacity = 256 } = options;
  const file = text.includes("[") ? text : `[job]\n${text}`;
  const { jobs } = parseJobFile(file, { path: "job.fio" });
  return runSource((requests) => new Workload({ jobs, requests, sizeBytes, seed }), { ...options, capacity });
}

export function runSource(
  makeSource: (requests: RequestTable) => RequestSource,
  { latencyNs = 100_000, capacity = 256 }: RunOptions = {},
) {
  const requests = new RequestTable(capacity);
  const latency = Array.isArray(latencyNs) ? latencyNs : operations.map(() => latencyNs);
  const model = createFixedModel({ parameters: { latency } as never, requests });
  const source = makeSource(requests);
  const stats = new RunStats(requests, source, null);
  const seen: SeenRequest[] = [];
  const observer = {
    onCompletion(slot: number, wantedNs: number, dueNs: number) {
      seen.push({
        op: operations[requests.op[slot]],
        offsetBytes: requests.offsetBytes[slot],
        lengthBytes: requests.lengthBytes[slot],
        flags: requests.flags[slot],
        queue: requests.queue[slot],
        arrivalNs: requests.arrivalNs[slot],
        wantedNs,
        dueNs,
      });
    },
  };
  runEngine({ model, requests, source, stats, observer });
  return { seen, stats };
}
