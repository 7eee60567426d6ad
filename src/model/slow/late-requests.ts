/**
 * A device some of whose requests take much longer, while the others do not notice: reads a drive retries, say. Which they are
 * depends on the seed and on the arrivals before. The time is pure latency: no part of the device is busy meanwhile.
 */
import type { HealthLog } from "../../base/health.js";
import type { Random } from "../../base/random.js";
import { operations, type RequestSlot, type RequestTable } from "../../base/request.js";
import { EventHeap } from "../event-heap.js";
import type { CompletionSink, Model, ModelReport } from "../model.js";
import { draw } from "./draw.js";
import type { SlowEntry } from "./schema.js";

export type LateEntry = Extract<SlowEntry, { kind: "requests" }>;

export class LateRequests implements Model, CompletionSink {
  readonly isZeroFast?: boolean;
  readonly grow?: (sizeBytes: number) => void;
  readonly health?: (nowNs: number) => HealthLog;

  private readonly isConcerned = new Uint8Array(operations.length);
  private readonly arrivedNs: Float64Array;
  /** What each request in flight is stretched by and what is added; 1 and 0 for most. */
  private readonly ratios: Float64Array;
  private readonly addedNs: Float64Array;
  /** Requests the model inside has finished, by the time they complete. */
  private readonly late: EventHeap;
  private count = 0;
  private sink: CompletionSink | null = null;

  constructor(
    private readonly inner: Model,
    private readonly entry: LateEntry,
    private readonly requests: RequestTable,
    private readonly random: Random,
  ) {
    const { capacity } = requests;
    for (const op of entry.operations) this.isConcerned[op] = 1;
    this.arrivedNs = new Float64Array(capacity);
    this.ratios = new Float64Array(capacity);
    this.addedNs = new Float64Array(capacity);
    this.late = new EventHeap(capacity);
    if (inner.isZeroFast !== undefined) this.isZeroFast = inner.isZeroFast;
    if (inner.grow !== undefined) this.grow = (sizeBytes) => inner.grow?.(sizeBytes);
    if (inner.health !== undefined) this.health = (nowNs) => inner.health!(nowNs);
  }

  arrive(slot: RequestSlot, nowNs: number): void {
    const { entry, random } = this;
    const isLate = this.isConcerned[this.requests.op[slot]] === 1 && random.next() < entry.probability;
    this.arrivedNs[slot] = nowNs;
    this.ratios[slot] = isLate && entry.ratio !== undefined ? draw(entry.ratio, random) : 1;
    this.addedNs[slot] = isLate && entry.add !== undefined ? draw(entry.add, random) : 0;
    if (isLate) this.count++;
    this.inner.arrive(slot, nowNs);
  }

  nextEventNs(): number {
    return Math.min(this.inner.nextEventNs(), this.late.nextNs);
  }

  advance(toNs: number, done: CompletionSink): void {
    this.sink = done;
    this.inner.advance(toNs, this);
    this.reportLate(toNs);
    this.sink = null;
  }

  report(nowNs: number): ModelReport {
    return { ...this.inner.report?.(nowNs), lateRequests: this.count };
  }

  /** Called by the model inside. */
  complete(slot: RequestSlot, dueNs: number): void {
    // Those that were late come first, so that times never go back.
    this.reportLate(dueNs);
    const arrivedNs = this.arrivedNs[slot];
    if (this.ratios[slot] === 1 && this.addedNs[slot] === 0) this.sink?.complete(slot, dueNs);
    else this.late.push(arrivedNs + (dueNs - arrivedNs) * this.ratios[slot] + this.addedNs[slot], slot);
  }

  private reportLate(toNs: number): void {
    while (this.late.nextNs <= toNs) {
      const dueNs = this.late.nextNs;
      this.sink?.complete(this.late.pop(), dueNs);
    }
  }
}
