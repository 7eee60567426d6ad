/** A hard disk on the virtual clock, for tests: requests in, completion times out. */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { Op, type Operation, RequestTable } from "../../../src/base/request.js";
import {
  createHddModel,
  type HddModel,
  type HddParameters,
  hddSchema,
} from "../../../src/model/hdd/index.js";

const commonKeys = [
  "name",
  "description",
  "model",
  "size",
  "blockSize",
  "rotational",
  "writeCache",
  "extends",
];

type Written = Record<string, unknown>;

/** A shipped profile's own keys, with `changes` laid over its top-level keys. */
export function profileParameters(name: string, changes: Written = {}): HddParameters {
  const url = new URL(`../../../devices/${name}.yaml`, import.meta.url);
  const written = parse(readFileSync(url, "utf8")) as Written;
  for (const key of commonKeys) delete written[key];
  return hddSchema.parse({ ...written, ...changes });
}

/** One zone, 7200 rpm, Lee(.5, 8, 16), nothing clever: the drive the analytical checks are stated for. */
export function plainDrive(changes: Written = {}): HddParameters {
  return hddSchema.parse({
    rpm: 7200,
    heads: 1,
    seek: { curve: "lee", minimum: "0.5ms", average: "8ms", maximum: "16ms" },
    layout: { zones: [{ first: 0, last: 9999, sectorsPerTrack: 3332 }] },
    interface: { rate: "1000000GB/s" },
    overhead: { readHit: 0, readMiss: 0, writeHit: 0, writeMiss: 0, other: 0 },
    cache: { segments: 0, freeBlocks: false, zeroLatencyRead: false, zeroLatencyWrite: false },
    ...changes,
  });
}

export class TestDrive {
  readonly requests: RequestTable;
  readonly model: HddModel;
  nowNs = 0;
  /** Slots in the order they completed, with their times, since the last call of `take`. */
  readonly completedSlots: number[] = [];
  private readonly sink = {
    complete: (slot: number, dueNs: number) => {
      this.requests.dueNs[slot] = dueNs;
      this.completedSlots.push(slot);
    },
  };

  constructor(
    readonly parameters: HddParameters,
    readonly sizeBytes: number,
    options: { capacity?: number; seed?: number; writeCache?: boolean; physicalBlockBytes?: number } = {},
  ) {
    this.requests = new RequestTable(options.capacity ?? 64);
    this.model = createHddModel({
      parameters,
      sizeBytes,
      requests: this.requests,
      seed: options.seed ?? 1,
      hasVolatileCache: options.writeCache ?? true,
      physicalBlockBytes: options.physicalBlockBytes ?? 512,
    });
  }

  submit(operation: Operation, offsetBytes: number, lengthBytes: number, flags = 0): number {
    const { requests } = this;
    const slot = requests.acquire();
    if (slot < 0) throw new Error("the test's request table is full");
    requests.op[slot] = Op[operation];
    requests.flags[slot] = flags;
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
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
