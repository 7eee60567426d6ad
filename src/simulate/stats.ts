/**
 * What a run is measured by: latency per operation and per group, where the time went, and how busy the device was.
 *
 * Latency is completion minus the time the source wanted to issue. Everything counts from the end of the ramp-up of the
 * request's group, by time of completion, as in fio.
 */
import { Histogram } from "../base/histogram.js";
import { operations, type RequestSlot, type RequestTable } from "../base/request.js";
import type { Breakdown } from "../model/breakdown.js";
import type { RequestSource } from "../workload/source.js";

/** The parts of a request's time, in the order a request passes them. */
export const timeParts = ["queue", "overhead", "cache", "seek", "rotation", "media", "transfer"] as const;

const queuePart = timeParts.indexOf("queue");

export type TimePart = (typeof timeParts)[number];

/** Counters of one operation, over all groups or within one. */
export class OperationStats {
  readonly latency = new Histogram();
  bytes = 0;
  /** Time in each part, summed; of models that tell. */
  readonly partsNs = new Float64Array(timeParts.length);
}

/** Counters of one group of requests: one row per operation. */
export class GroupStats {
  readonly operations = operations.map(() => new OperationStats());
  firstNs = Number.POSITIVE_INFINITY;
  lastNs = 0;
}

export class RunStats {
  readonly total = new GroupStats();
  /** One per group of the source; empty when there is only one, which is the total. */
  readonly groups: GroupStats[];
  /** Requests that waited because the device's table was full, and for how long in all. */
  heldBack = 0;
  heldBackNs = 0;
  /** Time integral of the requests in flight, from when something was measured on. */
  private depthNs = 0;
  private busyNs = 0;
  private lastChangeNs = 0;
  private inFlight = 0;
  private fromNs = Number.POSITIVE_INFINITY;
  private untilNs = 0;

  private readonly partsNs: readonly Float64Array[] | null;

  /** @param breakdown where the model notes each request's time; null for models without one. */
  constructor(
    private readonly requests: RequestTable,
    private readonly source: RequestSource,
    breakdown: Breakdown | null,
  ) {
    this.groups = source.groups.length > 1 ? source.groups.map(() => new GroupStats()) : [];
    this.partsNs =
      breakdown === null
        ? null
        : [
            breakdown.queueNs,
            breakdown.overheadNs,
            breakdown.cacheNs,
            breakdown.seekNs,
            breakdown.rotationNs,
            breakdown.mediaNs,
            breakdown.transferNs,
          ];
    this.fromNs = Math.min(...source.groups.map((_, group) => source.measureFromNs(group)));
  }

  get hasBreakdown(): boolean {
    return this.partsNs !== null;
  }

  /** Measured time: from the end of the first ramp-up to the last completion. */
  get elapsedNs(): number {
    return Math.max(0, this.untilNs - this.fromNs);
  }

  /** Share of the measured time with at least one request in the device. */
  get utilisation(): number {
    return this.elapsedNs === 0 ? 0 : this.busyNs / this.elapsedNs;
  }

  /** Requests in the device, averaged over the measured time. */
  get meanQueueDepth(): number {
    return this.elapsedNs === 0 ? 0 : this.depthNs / this.elapsedNs;
  }

  recordArrival(wantedNs: number, nowNs: number): void {
    this.passTime(nowNs);
    this.inFlight++;
    if (nowNs > wantedNs) {
      this.heldBack++;
      this.heldBackNs += nowNs - wantedNs;
    }
  }

  recordCompletion(slot: RequestSlot, wantedNs: number, dueNs: number): void {
    this.passTime(dueNs);
    this.inFlight--;
    const group = this.source.groupOf(slot);
    const measureFromNs = this.source.measureFromNs(group);
    if (dueNs < measureFromNs) return;
    this.recordIn(this.total, slot, wantedNs, dueNs, measureFromNs);
    if (this.groups.length > 0) this.recordIn(this.groups[group], slot, wantedNs, dueNs, measureFromNs);
  }

  endAt(nowNs: number): void {
    this.passTime(nowNs);
    this.untilNs = this.total.lastNs;
  }

  private recordIn(
    stats: GroupStats,
    slot: RequestSlot,
    wantedNs: number,
    dueNs: number,
    fromNs: number,
  ): void {
    const operation = stats.operations[this.requests.op[slot]];
    operation.latency.record(dueNs - wantedNs);
    operation.bytes += this.requests.lengthBytes[slot];
    if (fromNs < stats.firstNs) stats.firstNs = fromNs;
    stats.lastNs = dueNs;
    const { partsNs } = this;
    if (partsNs === null) return;
    for (let part = 0; part < partsNs.length; part++) operation.partsNs[part] += partsNs[part][slot];
    // The model knows the request from its arrival on; before that it waited too.
    operation.partsNs[queuePart] += this.requests.arrivalNs[slot] - wantedNs;
  }

  /** Adds the time since the last arrival or completion to the integrals. */
  private passTime(nowNs: number): void {
    const sinceNs = Math.max(this.lastChangeNs, this.fromNs);
    if (nowNs > sinceNs) {
      this.depthNs += this.inFlight * (nowNs - sinceNs);
      if (this.inFlight > 0) this.busyNs += nowNs - sinceNs;
    }
    if (nowNs > this.lastChangeNs) this.lastChangeNs = nowNs;
  }
}
