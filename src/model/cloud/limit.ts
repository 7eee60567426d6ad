/**
 * One limit of a cloud volume: a rate that is always there, and credits to go beyond it.
 *
 * Two token buckets in one, both in closed form, so that nothing is polled. The pace spaces requests at the highest rate
 * there is (the burst rate, or the base rate where there is no burst). The credits start full, come back at the base
 * rate, and each request takes its cost of them; when they are used up, requests can go no faster than credits come
 * back, which is the base rate. (EBS: "I/O credits and burst performance"; Azure: "credit-based bursting".)
 *
 * Requests are let through in order of arrival, so when each may start is known as it arrives.
 */
import { operations, type RequestTable } from "../../base/request.js";
import { figureFor, type LimitParameters } from "./schema.js";

export class Limit {
  readonly name: string;
  private readonly parameters: LimitParameters;
  /** By operation code. */
  private readonly isLimited = new Uint8Array(operations.length);
  private readonly unitBytes: number;
  private readonly isMerging: boolean;

  /** Units a second: always, and at most. */
  private baseRate = 0;
  private topRate = 0;
  private creditsMaximum = Number.POSITIVE_INFINITY;

  /** Credits at `lastNs`, the latest start of a request. */
  private credits = Number.POSITIVE_INFINITY;
  private lastNs = 0;
  /** When the pace lets the next request through. */
  private nextNs = 0;

  /** Where the last request ended, of which operation, and how full its last unit is. */
  private lastOp = -1;
  private lastEndBytes = -1;
  private unitUsedBytes = 0;

  /** Requests that had to wait for this limit, and how long in all. */
  private waited = 0;
  private waitedNs = 0;

  constructor(parameters: LimitParameters, sizeBytes: number) {
    this.parameters = parameters;
    this.name = parameters.name;
    for (const op of parameters.operations) this.isLimited[op] = 1;
    this.unitBytes = parameters.counts === "requests" ? parameters.unit : 0;
    this.isMerging = parameters.counts === "requests" && parameters.merge;
    this.setSize(sizeBytes, 0);
    this.credits = this.creditsMaximum;
  }

  /** The volume has so many bytes from now on; credits that have been gathered stay. */
  setSize(sizeBytes: number, nowNs: number): void {
    this.credits = this.creditsAt(nowNs);
    this.lastNs = Math.max(this.lastNs, nowNs);
    const { base, burst, credits, burstTime } = this.parameters;
    this.baseRate = figureFor(base, sizeBytes);
    this.topRate = Math.max(this.baseRate, burst === undefined ? 0 : figureFor(burst, sizeBytes));
    const beyondBase = this.topRate - this.baseRate;
    if (beyondBase === 0) this.creditsMaximum = Number.POSITIVE_INFINITY;
    else if (credits !== undefined) this.creditsMaximum = figureFor(credits, sizeBytes);
    else if (burstTime !== undefined) this.creditsMaximum = (beyondBase * burstTime) / 1e9;
    else this.creditsMaximum = Number.POSITIVE_INFINITY;
    this.credits = Math.min(this.credits, this.creditsMaximum);
  }

  applies(op: number): boolean {
    return this.isLimited[op] === 1;
  }

  /** What the request counts: bytes, or requests of the unit's size. To be asked once per request, in order of arrival. */
  costOf(requests: RequestTable, slot: number): number {
    const bytes = requests.lengthBytes[slot];
    if (this.unitBytes === 0) return bytes;
    if (!this.isMerging) return Math.max(1, Math.ceil(bytes / this.unitBytes));
    const op = requests.op[slot];
    const offsetBytes = requests.offsetBytes[slot];
    const isContinued = op === this.lastOp && offsetBytes === this.lastEndBytes;
    const usedBytes = isContinued ? this.unitUsedBytes : 0;
    // The unit it continues is paid for; a request that begins one pays for it whole.
    const paidUnits = isContinued ? Math.ceil(usedBytes / this.unitBytes) : 0;
    const endBytes = usedBytes + bytes;
    const cost = Math.max(isContinued ? 0 : 1, Math.ceil(endBytes / this.unitBytes) - paidUnits);
    this.lastOp = op;
    this.lastEndBytes = offsetBytes + bytes;
    this.unitUsedBytes = endBytes % this.unitBytes;
    return cost;
  }

  /** The earliest moment, not before `nowNs`, at which a request of this cost may start. */
  readyNs(cost: number, nowNs: number): number {
    const pacedNs = Math.max(nowNs, this.lastNs, cost === 0 ? 0 : this.nextNs - this.parameters.window);
    if (this.creditsMaximum === Number.POSITIVE_INFINITY) return pacedNs;
    // A request that costs more than the bucket holds needs it full.
    const missing = Math.min(cost, this.creditsMaximum) - this.credits;
    return missing <= 0 ? pacedNs : Math.max(pacedNs, this.lastNs + (missing / this.baseRate) * 1e9);
  }

  /** A request starts at `startNs`, which is not before it is ready. */
  take(cost: number, startNs: number): void {
    this.credits = this.creditsAt(startNs) - cost;
    this.lastNs = startNs;
    if (cost > 0) this.nextNs = Math.max(this.nextNs, startNs) + (cost / this.topRate) * 1e9;
  }

  /** It was this limit, of all that apply, that made a request wait. */
  countWait(waitedNs: number): void {
    this.waited++;
    this.waitedNs += waitedNs;
  }

  creditsAt(nowNs: number): number {
    const gathered = (Math.max(0, nowNs - this.lastNs) * this.baseRate) / 1e9;
    return Math.min(this.creditsMaximum, this.credits + gathered);
  }

  /** State for reports: names carry the limit's own and the unit. */
  report(nowNs: number, into: Record<string, number>): void {
    const isBytes = this.parameters.counts === "bytes";
    const rate = isBytes ? "BytesPerSecond" : "PerSecond";
    const amount = isBytes ? "CreditBytes" : "Credits";
    into[`${this.name}Base${rate}`] = this.baseRate;
    if (this.topRate > this.baseRate) into[`${this.name}Burst${rate}`] = this.topRate;
    if (this.creditsMaximum !== Number.POSITIVE_INFINITY) {
      into[`${this.name}${amount}`] = this.creditsAt(nowNs);
      into[`${this.name}Maximum${amount}`] = this.creditsMaximum;
    }
    into[`${this.name}Throttled`] = this.waited;
    into[`${this.name}WaitedNs`] = this.waitedNs;
  }
}
