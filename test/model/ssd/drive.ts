/** A solid-state drive on the virtual clock, for tests: requests in, completion times out. */
import { Random } from "../../../src/base/random.js";
import { Op, type Operation, RequestTable } from "../../../src/base/request.js";
import type { ModelObserver } from "../../../src/model/observer.js";
import { SsdModel, type SsdParameters, ssdSchema } from "../../../src/model/ssd/index.js";

type Written = Record<string, unknown>;

export const unitBytes = 4096;

/** No overheads, an endless link, one page type: what analytical checks are stated for. Groups are merged key by key. */
export function plainDrive(changes: Written = {}): SsdParameters {
  const plain: Record<string, Written> = {
    flash: {
      channels: 8,
      diesPerChannel: 1,
      planes: 1,
      pagesPerBlock: 64,
      pageSize: 4096,
      cell: "slc",
      read: "50us",
      program: "500us",
      erase: "2ms",
      channelRate: "1000000GB/s",
    },
    firmware: { read: 0, write: 0, flush: 0, trim: 0, command: 0 },
    link: { kind: "pcie", generation: 5, lanes: 16 },
    writeBuffer: { size: 2 ** 20, powerLossProtection: true },
  };
  const merged: Written = { ...changes };
  for (const [group, keys] of Object.entries(plain))
    merged[group] = { ...keys, ...(changes[group] as Written | undefined) };
  return ssdSchema.parse(merged);
}

export class TestDrive {
  readonly requests: RequestTable;
  readonly model: SsdModel;
  nowNs = 0;
  readonly completedSlots: number[] = [];
  private readonly sink = {
    complete: (slot: number, dueNs: number) => {
      this.requests.dueNs[slot] = dueNs;
      this.completedSlots.push(slot);
    },
  };

  constructor(
    parameters: SsdParameters,
    readonly sizeBytes: number,
    options: { capacity?: number; seed?: number; writeCache?: boolean; observer?: ModelObserver } = {},
  ) {
    this.requests = new RequestTable(options.capacity ?? 256);
    this.model = new SsdModel({
      parameters,
      sizeBytes,
      requests: this.requests,
      seed: options.seed ?? 1,
      hasVolatileCache: options.writeCache ?? true,
      observer: options.observer,
    });
  }

  submit(operation: Operation, offsetBytes: number, lengthBytes: number, flags = 0, queue = 0): number {
    const { requests } = this;
    const slot = requests.acquire();
    if (slot < 0) throw new Error("the test's request table is full");
    requests.op[slot] = Op[operation];
    requests.flags[slot] = flags;
    requests.queue[slot] = queue;
    requests.offsetBytes[slot] = offsetBytes;
    requests.lengthBytes[slot] = lengthBytes;
    requests.arrivalNs[slot] = this.nowNs;
    this.model.arrive(slot, this.nowNs);
    return slot;
  }

  /** Lets time pass; completions wait in `completedSlots`. */
  runTo(timeNs: number): void {
    this.model.advance(timeNs, this.sink);
    this.nowNs = timeNs;
  }

  /** Runs until nothing is going on inside any more. */
  settle(): void {
    while (this.model.nextEventNs() !== Number.POSITIVE_INFINITY)
      this.runTo(Math.max(this.nowNs, this.model.nextEventNs()));
  }

  /** Runs until a command completes, and returns its slot, released. */
  waitForOne(): number {
    while (this.completedSlots.length === 0) {
      const nextNs = this.model.nextEventNs();
      if (nextNs === Number.POSITIVE_INFINITY)
        throw new Error("the model has come to rest with commands in flight");
      this.runTo(Math.max(this.nowNs, nextNs));
    }
    const slot = this.completedSlots.shift()!;
    this.requests.release(slot);
    return slot;
  }

  /** One command alone: its response time. */
  time(operation: Operation, offsetBytes: number, lengthBytes: number, flags = 0): number {
    const slot = this.submit(operation, offsetBytes, lengthBytes, flags);
    while (this.waitForOne() !== slot);
    return this.requests.dueNs[slot] - this.requests.arrivalNs[slot];
  }

  /** Asserts what must hold in every run. */
  checkConservation(): void {
    this.model.checkConservation(this.nowNs);
  }
}

export interface Load {
  operation: Operation;
  /** Unit of the next request. */
  next(): number;
  depth: number;
  count: number;
  lengthBytes?: number;
}

export interface LoadResult {
  latenciesNs: Float64Array;
  elapsedNs: number;
  perSecond: number;
}

/** Keeps several loads going, each at its own queue depth; ends when the first has done its count. */
export function runLoads(drive: TestDrive, loads: readonly Load[]): LoadResult[] {
  const fromNs = drive.nowNs;
  const loadOf = new Map<number, number>();
  const latencies = loads.map(({ count }) => new Float64Array(count));
  const done = loads.map(() => 0);
  let inFlight = 0;
  const issue = (index: number) => {
    const { operation, next, lengthBytes = unitBytes } = loads[index];
    inFlight++;
    loadOf.set(drive.submit(operation, next() * unitBytes, lengthBytes), index);
  };
  for (const [index, { depth }] of loads.entries()) for (let i = 0; i < depth; i++) issue(index);
  for (;;) {
    const slot = drive.waitForOne();
    inFlight--;
    const index = loadOf.get(slot)!;
    latencies[index][done[index]++ % loads[index].count] =
      drive.requests.dueNs[slot] - drive.requests.arrivalNs[slot];
    if (done[index] === loads[index].count && index === 0) break;
    issue(index);
  }
  const elapsedNs = drive.nowNs - fromNs;
  // What is still in flight counts for nothing.
  while (inFlight > 0) {
    drive.waitForOne();
    inFlight--;
  }
  return loads.map((load, index) => ({
    latenciesNs: latencies[index].subarray(0, Math.min(done[index], load.count)),
    elapsedNs,
    perSecond: (done[index] / elapsedNs) * 1e9,
  }));
}

/** Finishes what is in flight. */
export function drainAll(drive: TestDrive): void {
  drive.settle();
  while (drive.completedSlots.length > 0) drive.requests.release(drive.completedSlots.shift()!);
}

export function uniform(units: number, seed: number): () => number {
  const random = new Random(seed, "test");
  return () => random.nextInteger(units);
}

export function percentile(values: Float64Array, share: number): number {
  const sorted = values.slice().sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

/**
 * One die, one plane, pages of one unit: a superblock is one block of `pages` units, as in the simulations that theory is
 * compared with. One frontier, collection unpaced with two free blocks left.
 */
export function smallDrive(
  { pages, blocks, overProvisioning }: { pages: number; blocks: number; overProvisioning: number },
  changes: Record<string, Written>,
): { drive: TestDrive; units: number } {
  const units = Math.floor((pages * blocks) / (1 + overProvisioning));
  const parameters = plainDrive({
    ...changes,
    flash: { channels: 1, diesPerChannel: 1, pagesPerBlock: pages, ...changes.flash },
    ftl: { overProvisioning: (pages * blocks) / units - 1, streams: "one", ...changes.ftl },
    gc: { background: 3, forced: 2, pacing: 0, ...changes.gc },
    writeBuffer: { size: 16 * unitBytes, powerLossProtection: true },
  });
  return { drive: new TestDrive(parameters, units * unitBytes), units };
}

/** v = exp(-a (1 - v)) with v < 1, by iteration; WA = 1 / (1 - v). */
export function closedForm(a: number): number {
  let v = 0;
  for (let i = 0; i < 10_000; i++) v = Math.exp(-a * (1 - v));
  return 1 / (1 - v);
}
