/**
 * hdd: a hard disk, from the command queue to the sector under the head.
 *
 * A command waits for a place in the drive's queue, is decoded by the controller, and then either is served by the
 * cache or waits for an arm. Arms choose what to do next by the queue's policy, read ahead when idle and write back
 * what the write cache holds. Data share one interface. What each of these does stands in a file of its own; here is
 * the life of a command, in events.
 *
 * Beyond what DiskSim 4 models it has drive-managed shingling, two actuators, power states and a large write cache;
 * it leaves out buses with several devices and the host's own queue. A FLUSH on SATA is a barrier: commands before it
 * finish first, commands after it wait. TRIM and zone management cost only their overhead; write-zeroes is a write without data transfer.
 */
import { assert } from "../../base/assert.js";
import { Random } from "../../base/random.js";
import { Flag, Op, type RequestSlot, type RequestTable } from "../../base/request.js";
import { Breakdown } from "../breakdown.js";
import { EventHeap } from "../event-heap.js";
import type { CompletionSink, Model } from "../model.js";
import { Ring } from "../ring.js";
import { Arm, type HddCounters, type Shared, Work } from "./arm.js";
import { createGeometry, sectorBytes } from "./geometry.js";
import { Mechanics } from "./mechanics.js";
import { Targets } from "./media-queue.js";
import { Power } from "./power.js";
import { noSegment, ReadCache } from "./read-cache.js";
import type { HddParameters } from "./schema.js";
import { seekTable } from "./seek-curve.js";
import { Smr } from "./smr.js";
import { WriteCache } from "./write-cache.js";

export interface CreateHddOptions {
  parameters: HddParameters;
  sizeBytes: number;
  requests: RequestTable;
  seed: number;
  /** Whether writes are acknowledged from the cache: the profile's `writeCache`. */
  hasVolatileCache?: boolean | undefined;
  /** The profile's `blockSize.physical`: writing part of such a block costs a revolution more. */
  physicalBlockBytes?: number | undefined;
}

export function createHddModel(options: CreateHddOptions): HddModel {
  return new HddModel(options);
}

/** Events carry a slot or the number of an arm, and above these bits what has happened. */
const eventBits = 24;
const eventMask = (1 << eventBits) - 1;
const Event = Object.freeze({
  /** The controller has decoded a command. */
  decoded: 0,
  /** The data of a write past the cache have come over the interface. */
  received: 1 << eventBits,
  /** An arm has finished its work. */
  armDone: 2 << eventBits,
  /** An arm has been idle for long enough to do something of its own. */
  armIdle: 3 << eventBits,
  /** A command is complete. */
  complete: 4 << eventBits,
});

export class HddModel implements Model {
  /** Where the time of each request went, by slot. */
  readonly breakdown: Breakdown;
  readonly counters: HddCounters = {
    readHits: 0,
    partialHits: 0,
    readMisses: 0,
    cachedWrites: 0,
    joinedWrites: 0,
    stalledWrites: 0,
    destages: 0,
    destagedSectors: 0,
    retries: 0,
    powerUps: 0,
    cleanedBands: 0,
  };

  private readonly requests: RequestTable;
  private readonly parameters: HddParameters;
  private readonly hasVolatileCache: boolean;
  private readonly events: EventHeap;
  private readonly targets: Targets;
  private readonly readCache: ReadCache;
  private readonly writeCache: WriteCache;
  private readonly arms: Arm[];
  private readonly sizeSectors: number;
  /** Blocks per arm. */
  private readonly armSectors: number;

  /** Commands in front of the drive's queue. */
  private readonly backlog: Ring;
  /** Writes that wait for room in the cache. */
  private readonly stalled: Ring;
  /** Flushes that wait for dirty data to reach the media, and the period each must see there, by slot. */
  private readonly flushing: Ring;
  private readonly flushPeriods: Float64Array;
  /** Since when a stalled write or a flush waits, by slot. */
  private readonly waitingSinceNs: Float64Array;
  /** Completed commands not yet reported. */
  private readonly completed: Ring;
  private readonly completedNs: Float64Array;

  /** Commands in the drive's queue. */
  private active = 0;
  /** Whether a flush that does not queue keeps all others out. */
  private isBarred = false;
  private controllerFreeNs = 0;
  private interfaceFreeNs = 0;
  private readonly interfaceNsPerByte: number;
  private previousWasWrite = false;

  constructor(options: CreateHddOptions) {
    const { parameters, requests, sizeBytes, seed } = options;
    const { cache } = parameters;
    const { capacity } = requests;
    this.requests = requests;
    this.parameters = parameters;
    this.hasVolatileCache = options.hasVolatileCache ?? true;
    this.breakdown = new Breakdown(capacity);
    this.targets = new Targets(capacity);
    this.backlog = new Ring(capacity);
    this.stalled = new Ring(capacity);
    this.flushing = new Ring(capacity);
    this.completed = new Ring(capacity);
    this.completedNs = new Float64Array(capacity);
    this.flushPeriods = new Float64Array(capacity);
    this.waitingSinceNs = new Float64Array(capacity);
    this.interfaceNsPerByte = 1e9 / parameters.interface.rate;
    this.readCache = new ReadCache(cache.segments, Math.floor(cache.segmentSize / sectorBytes));
    this.writeCache = new WriteCache({
      capacitySectors: Math.floor(cache.write.size / sectorBytes),
      extents: cache.write.extents,
      extentSectors: Math.floor(cache.write.extentSize / sectorBytes),
      flushes: capacity,
    });

    const sizeSectors = Math.ceil(sizeBytes / sectorBytes);
    this.sizeSectors = sizeSectors;
    const smr = parameters.smr === undefined ? undefined : new Smr(parameters.smr, sizeSectors);
    // A shingled drive has its log in front of the host's blocks.
    const logSectors = smr === undefined ? 0 : smr.cacheSectors;
    const geometry = createGeometry(parameters, sizeBytes + logSectors * sectorBytes);
    const random = new Random(seed, "model/hdd");
    const revolutionNs = 60e9 / (parameters.rpm * (1 + parameters.rpmTolerance * (2 * random.next() - 1)));
    const seekNs = seekTable(parameters.seek, geometry.cylinders);
    const shared: Shared = {
      parameters,
      targets: this.targets,
      readCache: this.readCache,
      writeCache: this.writeCache,
      power: new Power(parameters.power),
      smr,
      random,
      breakdown: this.breakdown,
      counters: this.counters,
      physicalSectors: Math.max(1, (options.physicalBlockBytes ?? sectorBytes) / sectorBytes),
      interfaceNsPerByte: this.interfaceNsPerByte,
    };
    this.armSectors = Math.ceil(sizeSectors / parameters.actuators);
    this.arms = Array.from({ length: parameters.actuators }, (_, i) => {
      const mechanics = new Mechanics({
        geometry,
        revolutionNs,
        seekNs,
        headSwitchNs: parameters.headSwitch,
        writeSettleNs: parameters.seek.writeSettle,
        hasZeroLatencyRead: cache.zeroLatencyRead,
        hasZeroLatencyWrite: cache.zeroLatencyWrite,
      });
      const baseBlock = i * this.armSectors;
      return new Arm(shared, mechanics, {
        baseBlock: baseBlock - logSectors,
        endBlock: Math.min(sizeSectors, baseBlock + this.armSectors),
        capacity,
      });
    });
    // Each request has at most one event waiting, each arm one for its work and one timer.
    this.events = new EventHeap(capacity + 2 * this.arms.length);
  }

  arrive(slot: RequestSlot, nowNs: number): void {
    // What happens at this instant because of an earlier arrival happens first, however the host slices its calls.
    while (this.events.nextNs <= nowNs) this.step();
    const { requests, targets } = this;
    const op = requests.op[slot];
    const startBytes = requests.offsetBytes[slot];
    const block = Math.min(Math.floor(startBytes / sectorBytes), this.sizeSectors - 1);
    targets.block[slot] = block;
    targets.end[slot] = Math.max(
      block + 1,
      Math.ceil((startBytes + requests.lengthBytes[slot]) / sectorBytes),
    );
    targets.isWrite[slot] = op === Op.read ? 0 : 1;
    this.breakdown.reset(slot);
    this.waitingSinceNs[slot] = nowNs;
    this.backlog.push(slot);
    this.admit(nowNs);
  }

  nextEventNs(): number {
    return this.completed.length > 0 ? this.completedNs[this.completed.first] : this.events.nextNs;
  }

  advance(toNs: number, done: CompletionSink): void {
    const { completed, events } = this;
    for (;;) {
      while (completed.length > 0) {
        const slot = completed.shift();
        done.complete(slot, this.completedNs[slot]);
      }
      if (events.nextNs > toNs) return;
      this.step();
    }
  }

  /** The next event, at its own instant. */
  private step(): void {
    const nowNs = this.events.nextNs;
    const event = this.events.pop();
    const subject = event & eventMask;
    switch (event - subject) {
      case Event.decoded:
        this.serve(subject, nowNs);
        break;
      case Event.received:
        this.queueForMedia(subject, nowNs);
        break;
      case Event.armDone:
        this.armDone(this.arms[subject], nowNs);
        break;
      case Event.armIdle: {
        const arm = this.arms[subject];
        arm.timerNs = Number.POSITIVE_INFINITY;
        this.dispatch(arm, nowNs);
        break;
      }
      default:
        this.complete(subject, nowNs);
    }
  }

  /** Lets waiting commands into the drive's queue, as far as it has places. */
  private admit(nowNs: number): void {
    const { backlog, requests, parameters } = this;
    while (backlog.length > 0 && this.active < parameters.queue.depth && !this.isBarred) {
      const slot = backlog.first;
      if (requests.op[slot] === Op.flush && !parameters.queue.flushQueued) {
        if (this.active > 0) return;
        this.isBarred = true;
      }
      backlog.shift();
      this.active++;
      const startNs = Math.max(nowNs, this.controllerFreeNs);
      const overheadNs = this.overheadOf(slot);
      this.breakdown.queueNs[slot] += startNs - this.waitingSinceNs[slot];
      this.breakdown.overheadNs[slot] += overheadNs;
      this.controllerFreeNs = startNs + overheadNs;
      this.events.push(this.controllerFreeNs, Event.decoded | slot);
    }
  }

  private overheadOf(slot: RequestSlot): number {
    const { overhead } = this.parameters;
    const op = this.requests.op[slot];
    if (op === Op.flush || op === Op.trim || op >= Op.zoneOpen) return overhead.other;
    const block = this.targets.block[slot];
    const end = this.targets.end[slot];
    const afterWrite = this.previousWasWrite;
    this.previousWasWrite = op !== Op.read;
    let kind: { afterRead: number; afterWrite: number };
    if (op === Op.read) kind = this.isCached(block, end) ? overhead.readHit : overhead.readMiss;
    else kind = this.writeCache.isHit(block, end) ? overhead.writeHit : overhead.writeMiss;
    return afterWrite ? kind.afterWrite : kind.afterRead;
  }

  private isCached(block: number, end: number): boolean {
    const { readCache } = this;
    const segment = readCache.find(block);
    return (segment !== noSegment && readCache.end[segment] >= end) || this.isHeldWrite(block, end);
  }

  /** Whether written data that is still in the cache can serve a read. */
  private isHeldWrite(block: number, end: number): boolean {
    if (!this.parameters.cache.readHitsOnWrites) return false;
    if (this.writeCache.heldSectors === 0) return false;
    const { arms } = this;
    for (let i = 0; i < arms.length; i++) {
      const arm = arms[i];
      if (arm.work === Work.destage && arm.runStart <= block && end <= arm.runEnd) return true;
    }
    return this.writeCache.holds(block, end);
  }

  /** A command has been decoded: now it is known what it takes. */
  private serve(slot: RequestSlot, nowNs: number): void {
    switch (this.requests.op[slot]) {
      case Op.read:
        this.serveRead(slot, nowNs);
        break;
      case Op.write:
      case Op.append:
        this.serveWrite(slot, nowNs);
        break;
      case Op.flush:
        this.serveFlush(slot, nowNs);
        break;
      case Op.zeroes:
        // Zeroes are written without data from the host; the cache would only be filled in vain.
        this.queueForMedia(slot, nowNs);
        break;
      default:
        // Trims and the management of zones change tables, not the medium.
        this.completeAt(slot, nowNs);
    }
  }

  private serveRead(slot: RequestSlot, nowNs: number): void {
    const { readCache, targets, arms } = this;
    const block = targets.block[slot];
    const end = targets.end[slot];
    for (let i = 0; i < arms.length; i++) arms[i].readAhead.sync(nowNs);
    const segment = readCache.find(block);
    if (segment !== noSegment && readCache.end[segment] >= end) {
      this.counters.readHits++;
      readCache.touch(segment);
      for (let i = 0; i < arms.length; i++) arms[i].hit(segment, block, end, nowNs);
      this.completeAt(slot, this.transfer(slot, nowNs));
    } else if (this.isHeldWrite(block, end)) {
      this.counters.readHits++;
      this.completeAt(slot, this.transfer(slot, nowNs));
    } else {
      this.queueForMedia(slot, nowNs);
    }
  }

  private serveWrite(slot: RequestSlot, nowNs: number): void {
    const isThrough = !this.hasVolatileCache || (this.requests.flags[slot] & Flag.fua) !== 0;
    if (isThrough) {
      this.events.push(this.transfer(slot, nowNs), Event.received | slot);
    } else if (this.stalled.length === 0 && this.acceptWrite(slot, nowNs)) {
      // Acknowledged when its data have come in.
    } else {
      this.counters.stalledWrites++;
      this.waitingSinceNs[slot] = nowNs;
      this.stalled.push(slot);
      this.dispatchAll(nowNs);
    }
  }

  /** Takes a write into the cache, if there is room. */
  private acceptWrite(slot: RequestSlot, nowNs: number): boolean {
    const { targets, writeCache, counters } = this;
    const block = targets.block[slot];
    const end = targets.end[slot];
    const isJoining = writeCache.joins(block, end);
    if (!writeCache.insert(block, end)) return false;
    counters.cachedWrites++;
    if (isJoining) counters.joinedWrites++;
    this.completeAt(slot, this.transfer(slot, nowNs));
    return true;
  }

  private serveFlush(slot: RequestSlot, nowNs: number): void {
    const period = this.writeCache.endPeriod();
    if (this.writeCache.isFlushed(period)) {
      this.completeAt(slot, nowNs);
      return;
    }
    this.flushPeriods[slot] = period;
    this.waitingSinceNs[slot] = nowNs;
    this.flushing.push(slot);
    this.dispatchAll(nowNs);
  }

  private queueForMedia(slot: RequestSlot, nowNs: number): void {
    const { targets } = this;
    const arm = this.arms[Math.min(Math.floor(targets.block[slot] / this.armSectors), this.arms.length - 1)];
    // Of a request across both halves of a drive with two actuators, the first arm's part decides.
    targets.end[slot] = Math.min(targets.end[slot], arm.endBlock);
    const { geometry } = arm.mechanics;
    geometry.locate(arm.placeOf(targets.block[slot]) - arm.baseBlock);
    targets.cylinder[slot] = geometry.cylinder;
    targets.head[slot] = geometry.head;
    targets.angle[slot] = geometry.angle;
    targets.queuedNs[slot] = nowNs;
    arm.queue.push(slot);
    this.dispatch(arm, nowNs);
  }

  private dispatchAll(nowNs: number): void {
    for (let i = 0; i < this.arms.length; i++) this.dispatch(this.arms[i], nowNs);
  }

  /** Gives an idle arm its next piece of work, or a time at which to look again. */
  private dispatch(arm: Arm, nowNs: number): void {
    if (!arm.isIdle) return;
    const index = this.arms.indexOf(arm);
    if (arm.begin(nowNs, this.stalled.length > 0 || this.flushing.length > 0)) {
      assert(arm.endNs >= nowNs, "an arm's work ends after it begins");
      this.events.push(arm.endNs, Event.armDone | index);
    } else if (arm.timerNs === Number.POSITIVE_INFINITY) {
      const wakeNs = arm.wakeNs(nowNs);
      if (wakeNs === Number.POSITIVE_INFINITY) return;
      arm.timerNs = wakeNs;
      this.events.push(wakeNs, Event.armIdle | index);
    }
  }

  private armDone(arm: Arm, nowNs: number): void {
    const { slot } = arm;
    const work = arm.finish(nowNs);
    if (work === Work.read) {
      this.completeAt(slot, this.transferRead(slot, arm.dataNs, nowNs));
    } else if (work === Work.write) {
      this.writeCache.discard(this.targets.block[slot], this.targets.end[slot]);
      this.completeAt(slot, nowNs);
      this.releaseWaiting(nowNs);
    } else if (work === Work.destage) {
      this.releaseWaiting(nowNs);
    }
    if (arm.isIdle) this.dispatch(arm, nowNs);
    else this.events.push(arm.endNs, Event.armDone | this.arms.indexOf(arm));
  }

  /** Dirty data have reached the media: flushes may be done, writes may find room. */
  private releaseWaiting(nowNs: number): void {
    const { flushing, stalled, breakdown, waitingSinceNs } = this;
    while (flushing.length > 0 && this.writeCache.isFlushed(this.flushPeriods[flushing.first])) {
      const slot = flushing.shift();
      const extraNs = this.parameters.overhead.flush;
      breakdown.cacheNs[slot] += nowNs - waitingSinceNs[slot];
      breakdown.overheadNs[slot] += extraNs;
      this.completeAt(slot, nowNs + extraNs);
    }
    while (stalled.length > 0 && this.acceptWrite(stalled.first, nowNs)) {
      const slot = stalled.shift();
      breakdown.cacheNs[slot] += nowNs - waitingSinceNs[slot];
    }
  }

  /** Moves a command's data over the interface, after what is on it already; returns when they have passed. */
  private transfer(slot: RequestSlot, nowNs: number): number {
    const startNs = Math.max(nowNs, this.interfaceFreeNs);
    const timeNs = this.requests.lengthBytes[slot] * this.interfaceNsPerByte;
    this.interfaceFreeNs = startNs + timeNs;
    this.breakdown.queueNs[slot] += startNs - nowNs;
    this.breakdown.transferNs[slot] += timeNs;
    return this.interfaceFreeNs;
  }

  /** As `transfer`, for data that have been coming off the media since `dataNs`, the last of them now. */
  private transferRead(slot: RequestSlot, dataNs: number, nowNs: number): number {
    const startNs = Math.max(dataNs, this.interfaceFreeNs);
    const doneNs = Math.max(
      startNs + this.requests.lengthBytes[slot] * this.interfaceNsPerByte,
      nowNs + sectorBytes * this.interfaceNsPerByte,
    );
    this.interfaceFreeNs = doneNs;
    this.breakdown.transferNs[slot] += doneNs - nowNs;
    return doneNs;
  }

  private completeAt(slot: RequestSlot, dueNs: number): void {
    this.events.push(dueNs, Event.complete | slot);
  }

  private complete(slot: RequestSlot, nowNs: number): void {
    this.active--;
    const op = this.requests.op[slot];
    if (op === Op.flush) this.isBarred = false;
    this.completedNs[slot] = nowNs;
    this.completed.push(slot);
    // Data just taken into the cache may be written back from now on.
    if (op === Op.write && !this.writeCache.isClean) this.dispatchAll(nowNs);
    this.admit(nowNs);
  }
}
