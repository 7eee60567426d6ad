/**
 * Interrupt coalescing: the host learns of completions when the interrupt of their queue fires, which is at the
 * threshold's last entry or when the first one has waited for the aggregation time, whichever comes first. (NVM Express
 * Base Specification 1.4, feature 08h in 5.21.1.8. There both are recommendations; here they are kept exactly.)
 *
 * One vector per completion queue, as Linux sets it up. Without coalescing (time 0) each completion is reported at once,
 * and queues behind nothing.
 *
 * Reported in order of time, as a model must: the caller advances to the instant of a completion before it posts it.
 */
import { noSlot, type RequestSlot } from "../../../base/request.js";
import type { CompletionSink } from "../../model.js";
import type { CoalescingParameters } from "./schema.js";

const unitNs = 100_000;
const none = -1;

export class Coalescing {
  private readonly vectors: number;
  private readonly threshold: number;
  private readonly timeNs: number;

  /** Chains of completions that wait, by vector; links by slot. */
  private readonly first: Int32Array;
  private readonly last: Int32Array;
  private readonly nextSlot: Int32Array;
  private readonly lengths: Int32Array;
  private readonly deadlineNs: Float64Array;

  /** Vectors that wait, by deadline. All wait equally long, so the order of their first entries is that of deadlines. */
  private earliest = none;
  private latest = none;
  private readonly before: Int32Array;
  private readonly after: Int32Array;

  /** @param capacity slots of the request table. */
  constructor(parameters: CoalescingParameters, vectors: number, capacity: number) {
    this.vectors = vectors;
    this.threshold = parameters.threshold + 1;
    this.timeNs = parameters.time * unitNs;
    this.first = new Int32Array(vectors).fill(noSlot);
    this.last = new Int32Array(vectors).fill(noSlot);
    this.nextSlot = new Int32Array(capacity).fill(noSlot);
    this.lengths = new Int32Array(vectors);
    this.deadlineNs = new Float64Array(vectors);
    this.before = new Int32Array(vectors).fill(none);
    this.after = new Int32Array(vectors).fill(none);
  }

  /** A command is done. Reports it, and those before it, if that fires the interrupt. */
  post(slot: RequestSlot, hardwareQueue: number, nowNs: number, done: CompletionSink): void {
    if (this.timeNs === 0 || this.threshold === 1) {
      done.complete(slot, nowNs);
      return;
    }
    const vector = hardwareQueue % this.vectors;
    this.nextSlot[slot] = noSlot;
    if (this.lengths[vector] === 0) {
      this.first[vector] = slot;
      this.startTimer(vector, nowNs);
    } else {
      this.nextSlot[this.last[vector]] = slot;
    }
    this.last[vector] = slot;
    if (++this.lengths[vector] === this.threshold) this.fire(vector, nowNs, done);
  }

  /** When the next interrupt fires by time; Infinity when nothing waits. */
  nextEventNs(): number {
    return this.earliest === none ? Number.POSITIVE_INFINITY : this.deadlineNs[this.earliest];
  }

  advance(toNs: number, done: CompletionSink): void {
    while (this.earliest !== none && this.deadlineNs[this.earliest] <= toNs) {
      this.fire(this.earliest, this.deadlineNs[this.earliest], done);
    }
  }

  private fire(vector: number, nowNs: number, done: CompletionSink): void {
    this.stopTimer(vector);
    let slot = this.first[vector];
    this.first[vector] = noSlot;
    this.lengths[vector] = 0;
    while (slot !== noSlot) {
      // Read before the report: whoever is told may use the slot anew.
      const next = this.nextSlot[slot];
      done.complete(slot, nowNs);
      slot = next;
    }
  }

  private startTimer(vector: number, nowNs: number): void {
    this.deadlineNs[vector] = nowNs + this.timeNs;
    this.before[vector] = this.latest;
    this.after[vector] = none;
    if (this.latest === none) this.earliest = vector;
    else this.after[this.latest] = vector;
    this.latest = vector;
  }

  private stopTimer(vector: number): void {
    const before = this.before[vector];
    const after = this.after[vector];
    if (before === none) this.earliest = after;
    else this.after[before] = after;
    if (after === none) this.latest = before;
    else this.before[after] = before;
  }
}
