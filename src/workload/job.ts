/**
 * One fio job on virtual time: a closed loop that keeps `iodepth` requests in flight.
 *
 * The order of things is fio's (`do_io` and `get_rw_ddir`): a flush comes when as many writes have been issued as
 * `fsync` says, takes a place in the queue like any other request and waits for nobody (as with the io_uring engine;
 * with libaio the thread would stand still while it runs). Think time starts when `thinktime_blocks` requests have been
 * completed and those in flight have too. A rate is a schedule: the n-th request of a direction is not issued before its
 * time, and what fell behind is caught up (as with `io_submit_mode=offload`; fio's default waits for the queue to run
 * empty before it sleeps). With `rate_process=poisson` the gaps are exponential. Reads and writes of a mixed job are drawn
 * independently in proportion to `rwmixread`.
 *
 * Runtime begins after `ramp_time`, and ends issuing; what is in flight then still completes and counts.
 */
import { Random } from "../base/random.js";
import { Flag, Op, type RequestSlot, type RequestTable } from "../base/request.js";
import { Addresses, type Region } from "./addresses.js";
import { directions, type JobOptions } from "./options.js";
import { resolveExtent } from "./values.js";

const read = 0;
const write = 1;
const never = Number.POSITIVE_INFINITY;

/** Operation codes by direction. */
const directionOps = [Op.read, Op.write, Op.trim];

/** What a job does next, beside the three directions. */
const nothing = -1;
const flush = -2;

export interface JobPlace {
  requests: RequestTable;
  sizeBytes: number;
  seed: number;
  /** Position among the clones of its section. */
  clone: number;
  /** Position among all jobs: the hardware queue of its requests. */
  index: number;
}

export class Job {
  /** When it next wants to issue; Infinity while it waits. */
  nextIssueNs = never;
  /** Whether it has issued everything, and all of it is complete. */
  isDone = false;
  /** When its completions begin to count; Infinity before it started. */
  measureFromNs = never;

  private readonly requests: RequestTable;
  private readonly addresses: Addresses;
  private readonly mixRandom: Random;
  private readonly rateRandom: Random;
  private readonly queue: number;
  private readonly onlyDirection: number;
  private readonly totalBytes: number;
  private readonly totalRequests: number;

  private startNs = 0;
  private endNs = never;
  private planned = nothing;
  private inFlight = 0;
  private issued = 0;
  private completed = 0;
  private issuedBytes = 0;
  private writesSinceFlush = 0;
  private hasUnflushedWrites = false;
  private isThinking = false;
  /** Progress at the last pause. */
  private thoughtAt = 0;
  /** When the rate allows the next request of each direction, counted from the job's start. */
  private readonly rateNs = new Float64Array(directions.length);

  constructor(
    readonly options: JobOptions,
    place: JobPlace,
  ) {
    this.requests = place.requests;
    this.queue = place.index;
    const seed = options.seed ?? place.seed;
    const stream = `workload/${options.name}/${place.clone}`;
    const region = regionOf(options, place);
    this.addresses = new Addresses(options, region, seed, stream);
    this.mixRandom = new Random(seed, `${stream}/mix`);
    this.rateRandom = new Random(seed, `${stream}/rate`);
    const wanted = options.does.flatMap((does, direction) => (does ? [direction] : []));
    this.onlyDirection = wanted.length === 1 ? wanted[0] : nothing;
    const ioBytes =
      options.ioSize === null ? region.lengthBytes : resolveExtent(options.ioSize, place.sizeBytes);
    this.totalBytes = options.isTimeBased ? never : ioBytes * options.loops;
    this.totalRequests = options.requestLimit ?? never;
    if (options.isPoisson) {
      for (const direction of wanted) this.rateNs[direction] = this.gapNs(direction, 0);
    }
  }

  /** Bytes it would transfer without a runtime; Infinity when only time ends it. */
  get plannedBytes(): number {
    return this.totalBytes;
  }

  start(nowNs: number): void {
    const { rampNs, runtimeNs, startDelayNs } = this.options;
    this.startNs = nowNs + startDelayNs;
    this.measureFromNs = this.startNs + rampNs;
    if (runtimeNs !== null) this.endNs = this.measureFromNs + runtimeNs;
    this.plan(this.startNs);
  }

  issue(slot: RequestSlot, nowNs: number): void {
    const { requests, options } = this;
    const direction = this.planned;
    // Had the device's table not been full, it would have been issued then, and the next one right after.
    const wantedNs = Math.min(this.nextIssueNs, nowNs);
    requests.queue[slot] = this.queue;
    requests.flags[slot] = 0;
    this.inFlight++;
    this.nextIssueNs = never;
    if (direction === flush) {
      requests.op[slot] = Op.flush;
      requests.offsetBytes[slot] = 0;
      requests.lengthBytes[slot] = 0;
      this.writesSinceFlush = 0;
      this.hasUnflushedWrites = false;
    } else {
      this.addresses.draw(direction);
      const { lengthBytes } = this.addresses;
      requests.op[slot] = directionOps[direction];
      requests.offsetBytes[slot] = this.addresses.offsetBytes;
      requests.lengthBytes[slot] = lengthBytes;
      this.issued++;
      this.issuedBytes += lengthBytes;
      this.rateNs[direction] += this.gapNs(direction, lengthBytes);
      if (direction === write) {
        if (options.isSynchronous) requests.flags[slot] = Flag.fua;
        this.writesSinceFlush++;
        this.hasUnflushedWrites = true;
      }
    }
    this.continue(wantedNs);
  }

  complete(slot: RequestSlot, nowNs: number): void {
    this.inFlight--;
    if (this.requests.op[slot] !== Op.flush) this.completed++;
    this.continue(nowNs);
  }

  /** Decides what comes next after an issue or a completion. */
  private continue(nowNs: number): void {
    const { options } = this;
    if (options.thinkTimeNs > 0 && !this.isThinking) {
      const progress = options.thinkCountsIssues ? this.issued : this.completed;
      this.isThinking = progress >= this.thoughtAt + options.thinkBlocks;
      if (this.isThinking) {
        // What completes while the queue runs empty counts towards the next pause, as in fio.
        this.thoughtAt = progress;
        this.nextIssueNs = never;
      }
    }
    if (!this.isThinking) {
      this.plan(nowNs);
    } else if (this.inFlight === 0) {
      this.isThinking = false;
      this.plan(nowNs + options.thinkTimeNs);
    }
  }

  /** Chooses the next request and its time, if there is room for one; ends the job when there is none. */
  private plan(fromNs: number): void {
    // What waits for its time stays as it was decided: drawing anew would favour the direction without a rate.
    if (this.nextIssueNs !== never || this.inFlight >= this.options.queueDepth) return;
    if (this.issuedBytes < this.totalBytes && this.issued < this.totalRequests) {
      const { flushEvery } = this.options;
      const isFlushDue = flushEvery > 0 && this.writesSinceFlush >= flushEvery;
      const direction = isFlushDue ? flush : this.nextDirection(fromNs);
      const issueNs = isFlushDue ? fromNs : Math.max(fromNs, this.startNs + this.rateNs[direction]);
      if (issueNs < this.endNs) {
        this.planned = direction;
        this.nextIssueNs = issueNs;
        return;
      }
    }
    if (this.inFlight > 0) return;
    if (this.options.flushesAtEnd && this.hasUnflushedWrites) {
      this.planned = flush;
      this.nextIssueNs = fromNs;
      return;
    }
    this.isDone = true;
  }

  /** Read or write, by the mix; the other one when the rate holds back the one drawn for longer. */
  private nextDirection(fromNs: number): number {
    if (this.onlyDirection !== nothing) return this.onlyDirection;
    const drawn = this.mixRandom.nextInteger(100) < this.options.readPercent ? read : write;
    const other = 1 - drawn;
    const drawnNs = this.startNs + this.rateNs[drawn];
    if (drawnNs <= fromNs) return drawn;
    const otherShare = other === read ? this.options.readPercent : 100 - this.options.readPercent;
    return otherShare > 0 && this.startNs + this.rateNs[other] < drawnNs ? other : drawn;
  }

  /** From a request's scheduled time to that of the next in its direction; 0 without a rate. */
  private gapNs(direction: number, lengthBytes: number): number {
    const { rateIops, rateBytes, isPoisson } = this.options;
    const iops = rateIops[direction];
    const bytesPerSecond = rateBytes[direction];
    if (iops === 0 && bytesPerSecond === 0) return 0;
    const byCountNs = iops === 0 ? 0 : 1e9 / iops;
    const byBytesNs = bytesPerSecond === 0 ? 0 : (lengthBytes / bytesPerSecond) * 1e9;
    const meanNs = Math.max(byCountNs, byBytesNs);
    return isPoisson ? this.rateRandom.nextExponential(meanNs) : meanNs;
  }
}

/** The part of the device a job works on. */
function regionOf(options: JobOptions, { sizeBytes, clone }: JobPlace): Region {
  const fromBytes =
    resolveExtent(options.offset, sizeBytes) + clone * resolveExtent(options.offsetIncrement, sizeBytes);
  const restBytes = sizeBytes - fromBytes;
  const wantedBytes = options.size === null ? restBytes : resolveExtent(options.size, sizeBytes);
  return { fromBytes, lengthBytes: Math.min(wantedBytes, restBytes) };
}
