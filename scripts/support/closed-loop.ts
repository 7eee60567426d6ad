/**
 * A model under a closed loop of random 4 KiB requests, for benchmarks of speed and memory: whenever one completes, the next
 * arrives at that instant. Virtual time, CPU time of this machine; other load on it counts through caches and memory only.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Random } from "../../src/base/random.js";
import { Op, RequestTable } from "../../src/base/request.js";
import type { Model } from "../../src/model/model.js";

export const blockBytes = 4096;

/** Growth of the heap from which on something is allocated for every request. */
export const heapLimitBytes = 2 ** 20;

export interface ClosedLoopOptions<M extends Model> {
  sizeBytes: number;
  queueDepth: number;
  create(requests: RequestTable): M;
}

export class ClosedLoop<M extends Model> {
  readonly model: M;
  /** Of the requests that arrive from now on. */
  op: number = Op.read;
  private readonly requests: RequestTable;
  private readonly random = new Random(1, "bench");
  private readonly blocks: number;
  private completions = 0;
  private readonly sink = {
    complete: (slot: number, dueNs: number) => {
      this.completions++;
      this.submit(slot, dueNs);
    },
  };
  private isStarted = false;

  constructor({ sizeBytes, queueDepth, create }: ClosedLoopOptions<M>) {
    this.requests = new RequestTable(queueDepth);
    this.blocks = sizeBytes / blockBytes;
    this.model = create(this.requests);
  }

  /** CPU seconds for so many requests of an operation. */
  run(op: number, count: number): number {
    this.op = op;
    if (!this.isStarted)
      for (let i = 0; i < this.requests.capacity; i++) this.submit(this.requests.acquire(), 0);
    this.isStarted = true;
    const { model, sink } = this;
    const before = process.cpuUsage();
    const end = this.completions + count;
    while (this.completions < end) model.advance(model.nextEventNs(), sink);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1e6;
  }

  private submit(slot: number, nowNs: number): void {
    const { requests } = this;
    requests.op[slot] = this.op;
    requests.offsetBytes[slot] = this.random.nextInteger(this.blocks) * blockBytes;
    requests.lengthBytes[slot] = blockBytes;
    requests.arrivalNs[slot] = nowNs;
    this.model.arrive(slot, nowNs);
  }
}

let collectGarbage: (() => void) | null = null;

/** Bytes of the heap that are in use, after garbage collection: the difference of two is what was kept. */
export function heapUsedBytes(): number {
  if (collectGarbage === null) {
    setFlagsFromString("--expose-gc");
    collectGarbage = runInNewContext("gc") as () => void;
  }
  collectGarbage();
  return process.memoryUsage().heapUsed;
}
