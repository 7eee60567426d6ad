/**
 * A trace as a source of requests.
 *
 * Open loop: each request at its time stamp, whatever the device does; time begins at the first request, except in
 * recordings, whose times are the device's own. Closed loop: one request at a time, the next a think time after the
 * completion. Where the format has no think times, the time between the two time stamps passes since the previous issue,
 * or until its completion if that is later: the device is never asked faster than in the trace.
 */
import { BlkError } from "../base/errors.js";
import { Histogram } from "../base/histogram.js";
import { operations, type RequestSlot, type RequestTable } from "../base/request.js";
import type { Loop, TraceReader } from "../trace/trace.js";
import type { RequestSource } from "../workload/source.js";

const never = Number.POSITIVE_INFINITY;

export interface TraceSourceOptions {
  reader: TraceReader;
  loop: Loop;
  requests: RequestTable;
  /** Size of the device. */
  sizeBytes: number;
  /** Whether requests beyond the device's end begin again at its start; otherwise they are an error. */
  isWrapping: boolean;
  /** Whether time stamps are the device's own, not to be shifted. */
  hasDeviceTimes: boolean;
  /** Told of each completion, by the request's position in the trace, from 0. */
  onCompletion?: ((ordinal: number, dueNs: number) => void) | undefined;
}

export class TraceSource implements RequestSource {
  readonly groups = ["trace"];
  /** Time stamps that lay before that of the request in front of them; they were issued together. */
  outOfOrder = 0;
  /** What the real device took, per operation, where the trace tells. */
  readonly measured = operations.map(() => new Histogram());

  private readonly reader: TraceReader;
  private readonly requests: RequestTable;
  private readonly sizeBytes: number;
  private readonly isWrapping: boolean;
  private readonly isOpen: boolean;
  private readonly onCompletion: ((ordinal: number, dueNs: number) => void) | null;
  /** Position in the trace of the request in each slot. */
  private readonly ordinals: Float64Array;

  private hasNext = false;
  private nextNs = never;
  private read = 0;
  private baseNs: number;
  /** Time stamp of the request issued last, and when that was. */
  private stampNs = Number.NaN;
  private issuedNs = 0;

  constructor(options: TraceSourceOptions) {
    this.reader = options.reader;
    this.requests = options.requests;
    this.sizeBytes = options.sizeBytes;
    this.isWrapping = options.isWrapping;
    this.isOpen = options.loop === "open";
    this.onCompletion = options.onCompletion ?? null;
    this.baseNs = options.hasDeviceTimes ? 0 : Number.NaN;
    this.ordinals = new Float64Array(options.requests.capacity);
    this.readNext();
    if (this.hasNext) this.nextNs = this.isOpen ? this.openNs(0) : 0;
  }

  nextIssueNs(): number {
    return this.nextNs;
  }

  issue(slot: RequestSlot, nowNs: number): void {
    const { requests, reader } = this;
    const { record } = reader;
    requests.op[slot] = record.op;
    requests.flags[slot] = record.flags;
    requests.queue[slot] = record.queue;
    requests.offsetBytes[slot] = record.offsetBytes;
    requests.lengthBytes[slot] = record.lengthBytes;
    this.ordinals[slot] = this.read - 1;
    if (record.serviceNs >= 0) this.measured[record.op].record(record.serviceNs);
    this.stampNs = record.arrivalNs;
    this.issuedNs = nowNs;
    const wantedNs = this.nextNs;
    this.nextNs = never;
    this.readNext();
    if (this.hasNext && this.isOpen) this.nextNs = this.openNs(wantedNs);
  }

  complete(slot: RequestSlot, nowNs: number): void {
    this.onCompletion?.(this.ordinals[slot], nowNs);
    if (this.isOpen || !this.hasNext) return;
    const { record } = this.reader;
    if (record.thinkNs >= 0) this.nextNs = nowNs + record.thinkNs;
    else this.nextNs = Math.max(nowNs, this.issuedNs + (record.arrivalNs - this.stampNs));
  }

  groupOf(): number {
    return 0;
  }

  measureFromNs(): number {
    return 0;
  }

  private openNs(previousNs: number): number {
    const { arrivalNs } = this.reader.record;
    if (Number.isNaN(this.baseNs)) this.baseNs = arrivalNs;
    const issueNs = arrivalNs - this.baseNs;
    if (issueNs >= previousNs) return issueNs;
    this.outOfOrder++;
    return previousNs;
  }

  private readNext(): void {
    this.hasNext = this.reader.next();
    if (!this.hasNext) return;
    this.read++;
    const { record } = this.reader;
    const endBytes = record.offsetBytes + record.lengthBytes;
    if (endBytes <= this.sizeBytes) return;
    if (!this.isWrapping || record.lengthBytes > this.sizeBytes) {
      throw new BlkError(
        "BLK_E_TRACE",
        `${this.reader.position}: a request ends at byte ${endBytes}, the device at ${this.sizeBytes}`,
        "Give a larger --size, or --wrap to begin again at the start",
      );
    }
    record.offsetBytes %= this.sizeBytes;
    // What would lie across the end is moved in front of it.
    record.offsetBytes = Math.min(record.offsetBytes, this.sizeBytes - record.lengthBytes);
  }
}
