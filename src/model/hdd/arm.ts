/**
 * Arm: one actuator with its heads, the commands that wait for it, and what it does between them.
 *
 * It works on one thing at a time: a read or write of the host, writing back a dirty run, cleaning a shingled band.
 * While it has nothing to do it reads ahead. `begin` chooses and starts the next piece of work and says when it will
 * be over; nothing in between can change that, so the work costs one event whatever its length.
 */
import type { Random } from "../../base/random.js";
import { noSlot, type RequestSlot } from "../../base/request.js";
import type { Breakdown } from "../breakdown.js";
import { none } from "./extents.js";
import { sectorBytes } from "./geometry.js";
import type { Mechanics } from "./mechanics.js";
import { MediaQueue, type Targets } from "./media-queue.js";
import type { Power } from "./power.js";
import { ReadAhead } from "./read-ahead.js";
import { noSegment, type ReadCache } from "./read-cache.js";
import type { HddParameters } from "./schema.js";
import type { Smr } from "./smr.js";
import type { WriteCache } from "./write-cache.js";

/** What an arm is doing. */
export const Work = Object.freeze({
  none: 0,
  read: 1,
  write: 2,
  /** Writing back a dirty run. */
  destage: 3,
  /** Reading, then writing, a shingled band. */
  clean: 4,
  /** Between two commands: the firmware's turnaround, or the least to read ahead. */
  pause: 5,
});

/**
 * How long writing back gives way to commands that are nearer to the arm: a stream of reads always is, and would keep
 * a full write cache full for ever. Chosen so that a stream suffers little.
 */
const destagePatienceNs = 100e6;

/** What all arms of a drive share. */
export interface Shared {
  parameters: HddParameters;
  targets: Targets;
  readCache: ReadCache;
  writeCache: WriteCache;
  power: Power;
  smr: Smr | undefined;
  random: Random;
  breakdown: Breakdown;
  counters: HddCounters;
  /** Sectors of a physical block: a write that covers one in part must read it first. */
  physicalSectors: number;
  interfaceNsPerByte: number;
}

/** What the drive did inside, for reports. */
export interface HddCounters {
  /** Reads served whole, in part and not at all from the cache. */
  readHits: number;
  partialHits: number;
  readMisses: number;
  /** Writes acknowledged from the cache, those among them that joined a dirty run, and those that waited for room. */
  cachedWrites: number;
  joinedWrites: number;
  stalledWrites: number;
  /** Runs written back, and their sectors. */
  destages: number;
  destagedSectors: number;
  retries: number;
  powerUps: number;
  cleanedBands: number;
}

export interface ArmRange {
  /** First block under this arm: what its geometry calls 0. */
  baseBlock: number;
  /** Block after the last the host can reach. */
  endBlock: number;
  /** Commands that can wait. */
  capacity: number;
}

export class Arm {
  readonly baseBlock: number;
  readonly endBlock: number;
  readonly queue: MediaQueue;
  readonly readAhead: ReadAhead;

  work: number = Work.none;
  /** When the work is over. */
  endNs = 0;
  /** Command it serves: reads and writes of the host. */
  slot: RequestSlot = noSlot;
  /** Blocks of the run being written back. */
  runStart = 0;
  runEnd = 0;
  runPeriod = 0;
  /** From when the data of the read can move to the host, in order. */
  dataNs = 0;
  /** When the arm last had work of the host's. */
  idleSinceNs = 0;
  /** Time of the timer set for this arm; Infinity when none is. */
  timerNs = Number.POSITIVE_INFINITY;

  /** Block after the last one accessed: where destaging looks for neighbours. */
  private lastBlock: number;
  /** Segment the current read fills. */
  private segment: number = noSegment;
  /** Whether the current read continues what a segment holds. */
  private isSequential = false;
  /** Whether the current read is served by the read-ahead that was under way. */
  private isJoined = false;
  private readonly readAheadMode: HddParameters["cache"]["readAhead"]["mode"];
  /** Whether only a sequential read sets read-ahead going. */
  private readonly needsStream: boolean;
  private readonly readAheadSectors: number;
  private readonly minimumSectors: number;
  /** What the last access lost to powering up, and to whole revolutions. */
  private lostNs = 0;
  private turnsNs = 0;
  /** Since when a run that should be written back has given way to commands; Infinity when none has. */
  private yieldedSinceNs = Number.POSITIVE_INFINITY;
  /** When the arm last finished writing back a run. */
  private destagedNs = 0;
  /** What is next for the band being cleaned: 0 read it, 1 write it to the scratch place, 2 write it back. */
  private cleanStep = 0;
  private hasJustCleaned = false;
  private cleanedBand = 0;
  /** Positioning time of the run last chosen to be written back. */
  private runCostNs = 0;

  constructor(
    private readonly shared: Shared,
    readonly mechanics: Mechanics,
    { baseBlock, endBlock, capacity }: ArmRange,
  ) {
    const { policy, ageing, maximumWait } = shared.parameters.queue;
    this.queue = new MediaQueue(capacity, shared.targets, mechanics, {
      order: policy,
      ageing,
      maximumWaitNs: maximumWait,
    });
    this.baseBlock = baseBlock;
    this.endBlock = endBlock;
    this.readAhead = new ReadAhead(mechanics, shared.readCache, endBlock, baseBlock);
    this.lastBlock = baseBlock;
    const { readAhead } = shared.parameters.cache;
    this.readAheadMode = readAhead.mode;
    this.needsStream = readAhead.trigger === "sequential";
    this.readAheadSectors = sectors(readAhead.maximum ?? shared.parameters.cache.segmentSize);
    this.minimumSectors = sectors(readAhead.minimum);
  }

  /** Where a block is on the media. */
  placeOf(block: number): number {
    const { smr } = this.shared;
    if (smr === undefined) return block;
    smr.locate(block, block + 1);
    return smr.place;
  }

  get isIdle(): boolean {
    return this.work === Work.none;
  }

  /**
   * Starts the next piece of work, if there is any; the arm must be idle.
   *
   * @param mustDestage whether a flush, or a write without room, waits for dirty data to reach the media.
   */
  begin(nowNs: number, mustDestage: boolean): boolean {
    const { queue, shared } = this;
    const { writeCache, smr } = shared;
    this.readAhead.sync(nowNs);
    const slot = queue.length > 0 ? this.chooseCommand(nowNs) : noSlot;
    let run = none;
    if (!writeCache.isClean) {
      const { highWater } = shared.parameters.destage;
      const mayDestage =
        mustDestage || writeCache.fullness >= highWater || (slot === noSlot && nowNs >= this.destageFromNs);
      if (mayDestage) run = this.chooseRun(nowNs);
    }
    if (smr !== undefined && !smr.isClean) {
      const isBlocked = this.isBlocked(smr, slot, run);
      if (isBlocked || this.mayClean(smr, nowNs, slot === noSlot && run === none)) {
        // Bands and commands take turns, so that neither starves.
        if (isBlocked || slot === noSlot || !this.hasJustCleaned) {
          this.beginClean(smr, nowNs);
          return true;
        }
        run = none;
      }
    }
    this.hasJustCleaned = false;
    if (slot !== noSlot && (run === none || this.mayGoFirst(nowNs))) {
      queue.remove(slot);
      this.beginCommand(slot, nowNs);
      return true;
    }
    if (run === none) return false;
    this.beginDestage(run, nowNs);
    return true;
  }

  /** Whether the chosen command goes before the run to be written back: the nearer of the two, up to a point. */
  private mayGoFirst(nowNs: number): boolean {
    if (this.queue.chosenNs > this.runCostNs) return false;
    if (this.yieldedSinceNs === Number.POSITIVE_INFINITY) this.yieldedSinceNs = nowNs;
    return nowNs - this.yieldedSinceNs < destagePatienceNs;
  }

  /** Whether what is next in line is a write, and the shingled drive's log has no room for it. */
  private isBlocked(smr: Smr, slot: RequestSlot, run: number): boolean {
    const { targets, writeCache } = this.shared;
    const isWrite = slot !== noSlot && targets.isWrite[slot] === 1;
    if (isWrite && !smr.canTake(targets.block[slot], targets.end[slot])) return true;
    return run !== none && !smr.canTake(writeCache.runs.start[run], writeCache.runs.end[run]);
  }

  private mayClean(smr: Smr, nowNs: number, isIdle: boolean): boolean {
    // A band begun is a band finished: it is in the buffer.
    if (this.cleanStep !== 0) return true;
    return smr.fullness >= this.shared.parameters.smr!.highWater || (isIdle && nowNs >= this.cleanFromNs);
  }

  /** When an idle arm has something of its own to do; Infinity when nothing waits. */
  wakeNs(nowNs: number): number {
    const { writeCache, smr } = this.shared;
    let wakeNs = Number.POSITIVE_INFINITY;
    if (!writeCache.isClean) wakeNs = this.destageFromNs;
    if (smr !== undefined && !smr.isClean) wakeNs = Math.min(wakeNs, this.cleanFromNs);
    // What was to be done by now has been found impossible; another event will change that.
    return wakeNs > nowNs ? wakeNs : Number.POSITIVE_INFINITY;
  }

  /** From when the arm, left alone, writes back. */
  private get destageFromNs(): number {
    return this.idleSinceNs + this.shared.parameters.destage.delay;
  }

  /** From when a shingled drive, left alone, cleans bands. */
  private get cleanFromNs(): number {
    return Math.max(this.idleSinceNs, this.destagedNs) + this.shared.parameters.smr!.cleanAfter;
  }

  /** The work is over: the arm is free, the caches know. Returns what it was. */
  finish(nowNs: number): number {
    const { work, shared } = this;
    this.work = Work.none;
    shared.power.used(nowNs);
    if (work === Work.read) {
      this.idleSinceNs = nowNs;
      this.keepRead(nowNs);
      this.pause(nowNs);
    } else if (work === Work.write) {
      this.idleSinceNs = nowNs;
      // A write that goes on where this one ended is written in the same pass: firmware sees to that.
      if (!this.queue.hasWriteAt(this.lastBlock)) this.pause(nowNs);
    } else if (work === Work.destage) {
      this.destagedNs = nowNs;
      this.keepWritten();
    } else if (work === Work.clean) {
      this.finishClean();
    }
    return work;
  }

  /** A read was served whole from a segment: its stream may go on. */
  hit(segment: number, block: number, end: number, nowNs: number): void {
    const { readAhead, shared } = this;
    // The segment may have gone to another stream since, even to one of the other arm.
    const isMine = segment === readAhead.segment && block >= this.baseBlock && end < this.endBlock;
    if (!isMine || this.readAheadMode === "off") return;
    if (readAhead.isActive) {
      readAhead.extend(this.limitAfter(block, end));
    } else if (this.isIdle && this.queue.length === 0 && shared.parameters.cache.readAhead.onIdleHit) {
      readAhead.start(segment, shared.readCache.end[segment], this.limitAfter(block, end), nowNs);
    }
  }

  /** Holds the arm after a command, where the drive does so. */
  private pause(nowNs: number): void {
    const { readAhead, shared } = this;
    let untilNs = nowNs + shared.parameters.overhead.turnaround;
    if (this.minimumSectors > 0 && readAhead.isActive) {
      const end = Math.min(shared.targets.end[this.slot] + this.minimumSectors, readAhead.limit);
      untilNs = Math.max(untilNs, readAhead.timeOf(end));
    }
    if (untilNs === nowNs) return;
    this.work = Work.pause;
    this.endNs = untilNs;
  }

  private chooseCommand(nowNs: number): RequestSlot {
    const { queue, readAhead } = this;
    const chosen = queue.choose(nowNs);
    if (!readAhead.isActive || queue.isOverdue(nowNs)) return chosen;
    // A read of what is just coming under the head costs nothing, unless another has waited too long for that.
    const coming = queue.findRead(readAhead.firstBlock, readAhead.reach);
    if (coming === noSlot || -queue.credit(coming, nowNs) > queue.chosenCost) return chosen;
    queue.chosenNs = 0;
    return coming;
  }

  private beginCommand(slot: RequestSlot, nowNs: number): void {
    const { shared } = this;
    const { targets, breakdown } = shared;
    this.slot = slot;
    breakdown.queueNs[slot] += nowNs - targets.queuedNs[slot];
    if (targets.isWrite[slot] === 0) {
      this.work = Work.read;
      this.beginRead(slot, nowNs);
    } else {
      this.work = Work.write;
      this.readAhead.stop(nowNs);
      this.endNs = this.access(targets.block[slot], targets.end[slot], true, nowNs);
      this.account(slot, nowNs);
    }
  }

  private beginRead(slot: RequestSlot, nowNs: number): void {
    const { readAhead, mechanics, shared } = this;
    const { readCache, targets, counters, breakdown } = shared;
    const block = targets.block[slot];
    const end = targets.end[slot];
    this.isJoined = readAhead.comesTo(block);
    this.isSequential = true;
    if (this.isJoined) {
      this.segment = readAhead.segment;
      if (block < readCache.end[this.segment]) counters.partialHits++;
      else counters.readMisses++;
      const firstNs = Math.max(nowNs, readAhead.timeOf(block));
      this.endNs = Math.max(nowNs, readAhead.timeOf(end));
      this.dataNs = firstNs;
      breakdown.cacheNs[slot] += firstNs - nowNs;
      breakdown.transferNs[slot] += this.endNs - firstNs;
      return;
    }
    const found = readCache.find(block);
    const from = found === noSegment ? block : Math.min(readCache.end[found], end);
    if (from > block) counters.partialHits++;
    else counters.readMisses++;
    if (from === end) {
      // Read-ahead has brought everything since the command was queued.
      this.segment = found;
      this.isJoined = true;
      this.endNs = nowNs;
      this.dataNs = nowNs;
      return;
    }
    readAhead.stop(nowNs);
    this.endNs = this.access(from, end, false, nowNs);
    this.account(slot, nowNs);
    this.dataNs = Math.max(
      nowNs,
      mechanics.firstBlockNs - (from - block) * sectorBytes * shared.interfaceNsPerByte,
    );
    const continued = found === noSegment ? readCache.endingAt(block) : found;
    this.isSequential = continued !== noSegment;
    if (this.isSequential) {
      this.segment = continued;
      return;
    }
    let start = block;
    if (shared.parameters.cache.freeBlocks) {
      start -= Math.min(mechanics.passedSectors, mechanics.firstSector, this.spareSectors(end - block));
    }
    this.segment = readCache.allocate(start);
  }

  /** Sectors of a segment that a read of this length leaves free. */
  private spareSectors(length: number): number {
    return Math.max(0, this.shared.readCache.segmentSectors - length);
  }

  private keepRead(nowNs: number): void {
    const { segment, readAhead, shared } = this;
    const { readCache, targets } = shared;
    if (segment === noSegment) return;
    const block = targets.block[this.slot];
    const end = targets.end[this.slot];
    readCache.touch(segment);
    if (this.isJoined) {
      readAhead.sync(nowNs);
      if (readAhead.segment !== segment || this.readAheadMode === "off") return;
      const limit = this.limitAfter(block, end);
      if (readAhead.isActive) readAhead.extend(limit);
      else readAhead.start(segment, readCache.end[segment], limit, nowNs);
      return;
    }
    readCache.fill(segment, end);
    if (this.readAheadMode === "off" || (this.needsStream && !this.isSequential)) return;
    readAhead.start(segment, end, this.limitAfter(block, end), nowNs);
  }

  /** Where read-ahead ends after a read of blocks `block` to `end`. */
  private limitAfter(block: number, end: number): number {
    const { mechanics, shared } = this;
    const { geometry } = mechanics;
    const { readCache } = shared;
    const furthest = end + this.readAheadSectors;
    switch (this.readAheadMode) {
      case "segment": {
        if (shared.parameters.cache.readAhead.overRequested) return furthest;
        // What was requested stays: the rest of the segment is all there is to fill.
        return Math.min(furthest, Math.max(end, block + readCache.segmentSectors));
      }
      case "track":
        return Math.min(furthest, this.trackEnd(end));
      case "cylinder": {
        const tracks = geometry.heads - 1;
        const trackEnd = this.trackEnd(end);
        return Math.min(furthest, trackEnd + (tracks - geometry.trackOfCylinder) * geometry.sectorsPerTrack);
      }
      case "next-track": {
        const trackEnd = this.trackEnd(end);
        const isStream = readCache.find(trackEnd - geometry.sectorsPerTrack - 1) !== noSegment;
        return Math.min(furthest, isStream ? this.trackEnd(trackEnd + 1) : trackEnd);
      }
      default:
        return end;
    }
  }

  /** Block after the last on the track that holds the block before `end`. */
  private trackEnd(end: number): number {
    const { geometry } = this.mechanics;
    geometry.locate(end - 1 - this.baseBlock);
    return end - 1 + geometry.sectorsPerTrack - geometry.sector;
  }

  private chooseRun(nowNs: number): number {
    const { writeCache, parameters } = this.shared;
    const { runs } = writeCache;
    const { order, window } = parameters.destage;
    if (order === "fifo" && this.owns(writeCache.oldestRun)) {
      this.runCostNs = this.runPositioningNs(writeCache.oldestRun, nowNs);
      return writeCache.oldestRun;
    }
    const ahead = this.runFrom(this.lastBlock);
    if (order === "elevator") {
      const next = this.owns(ahead) ? ahead : this.runFrom(this.baseBlock);
      if (!this.owns(next)) return none;
      this.runCostNs = this.runPositioningNs(next, nowNs);
      return next;
    }
    let best = none;
    this.runCostNs = Number.POSITIVE_INFINITY;
    let left = window;
    for (let run = ahead; left > 0 && this.owns(run); run = runs.next(run), left--) {
      const costNs = this.runPositioningNs(run, nowNs);
      if (costNs < this.runCostNs) {
        this.runCostNs = costNs;
        best = run;
      }
    }
    left += window;
    const behind = runs.atOrBefore(this.lastBlock);
    for (let run = behind; left > 0 && this.owns(run); run = runs.previous(run), left--) {
      const costNs = this.runPositioningNs(run, nowNs);
      if (costNs < this.runCostNs) {
        this.runCostNs = costNs;
        best = run;
      }
    }
    return best;
  }

  /** The first dirty run of this arm that ends after `block`; a run belongs to the arm that has its beginning. */
  private runFrom(block: number): number {
    const { runs } = this.shared.writeCache;
    const run = runs.endingAfter(block);
    return run !== none && runs.start[run] < this.baseBlock ? runs.next(run) : run;
  }

  private owns(run: number): boolean {
    if (run === none) return false;
    const start = this.shared.writeCache.runs.start[run];
    return start >= this.baseBlock && start < this.endBlock;
  }

  private runPositioningNs(run: number, nowNs: number): number {
    const { mechanics } = this;
    const { geometry } = mechanics;
    geometry.locate(this.shared.writeCache.runs.start[run] - this.baseBlock);
    const moveNs = mechanics.moveNs(geometry.cylinder, geometry.head, true);
    return mechanics.nextPassNs(geometry.angle, nowNs + moveNs) - nowNs;
  }

  private beginDestage(run: number, nowNs: number): void {
    const { writeCache, counters } = this.shared;
    const { runs } = writeCache;
    this.readAhead.stop(nowNs);
    this.work = Work.destage;
    this.yieldedSinceNs = Number.POSITIVE_INFINITY;
    this.runStart = runs.start[run];
    this.runEnd = runs.end[run];
    this.runPeriod = writeCache.periodOf(run);
    writeCache.depart(run);
    counters.destages++;
    counters.destagedSectors += this.runEnd - this.runStart;
    this.endNs = this.access(this.runStart, Math.min(this.runEnd, this.endBlock), true, nowNs);
  }

  private keepWritten(): void {
    const { writeCache, readCache, parameters } = this.shared;
    writeCache.arrived(this.runEnd - this.runStart, this.runPeriod);
    if (!parameters.cache.readHitsOnWrites || readCache.find(this.runStart) !== noSegment) return;
    const segment = readCache.allocate(this.runStart);
    if (segment !== noSegment) readCache.fill(segment, this.runEnd);
  }

  /**
   * Cleaning a band takes three accesses, so that a command can come in between: read it, write it merged to a scratch
   * place in front of the log (a power cut must not catch the only copy half overwritten), write it back.
   */
  private beginClean(smr: Smr, nowNs: number): void {
    this.readAhead.stop(nowNs);
    this.work = Work.clean;
    this.hasJustCleaned = true;
    if (this.cleanStep === 0) this.cleanedBand = smr.bandToClean();
    const start = smr.bandStart(this.cleanedBand);
    const end = smr.bandEnd(this.cleanedBand);
    const isScratch = this.cleanStep === 1;
    const place = isScratch ? this.baseBlock : start;
    this.endNs = this.accessPlace(place, place + end - start, this.cleanStep > 0, nowNs);
    this.cleanStep = (this.cleanStep + 1) % 3;
  }

  private finishClean(): void {
    if (this.cleanStep !== 0) return;
    this.shared.smr!.cleaned(this.cleanedBand);
    this.shared.counters.cleanedBands++;
  }

  /** Reads or writes blocks, wherever they are. Returns when it is done. */
  private access(block: number, end: number, isWrite: boolean, nowNs: number): number {
    this.lastBlock = end;
    const { smr } = this.shared;
    if (smr === undefined) return this.accessPlace(block, end, isWrite, nowNs);
    if (isWrite) {
      const place = smr.write(block, end);
      const { journalEvery, journalTime } = this.shared.parameters.smr!;
      const isSaving = journalEvery > 0 && smr.writeCount % journalEvery === 0;
      const startNs = isSaving ? nowNs + journalTime : nowNs;
      const endNs = this.accessPlace(place, place + end - block, true, startNs);
      if (isSaving) this.lostNs += journalTime;
      return endNs;
    }
    smr.locate(block, end);
    let endNs = this.accessPlace(smr.place, smr.place + smr.run, false, nowNs);
    for (let next = block + smr.run; next < end; next += smr.run) {
      const { lostNs, turnsNs, mechanics } = this;
      const { seekTimeNs, rotationTimeNs, firstBlockNs } = mechanics;
      smr.locate(next, end);
      endNs = this.accessPlace(smr.place, smr.place + smr.run, false, endNs);
      // The account is of the first piece; the others count as its transfer.
      this.lostNs = lostNs;
      this.turnsNs = turnsNs;
      mechanics.seekTimeNs = seekTimeNs;
      mechanics.rotationTimeNs = rotationTimeNs;
      mechanics.firstBlockNs = firstBlockNs;
    }
    return endNs;
  }

  /** Moves the head and reads or writes, with what may go wrong on the way. */
  private accessPlace(place: number, end: number, isWrite: boolean, nowNs: number): number {
    const { mechanics, shared } = this;
    const { power, random, parameters, counters, physicalSectors } = shared;
    const recoveryNs = power.recoveryNs(nowNs);
    if (recoveryNs > 0) counters.powerUps++;
    this.lostNs = recoveryNs;
    this.turnsNs = 0;
    if (isWrite && (place % physicalSectors !== 0 || end % physicalSectors !== 0)) {
      // The physical blocks at the edges are read in one revolution and written in the next.
      this.turnsNs += mechanics.revolutionNs;
    }
    const { rate, revolutions } = parameters.retries;
    if (rate > 0 && random.next() < rate) {
      counters.retries++;
      this.turnsNs += (1 + random.nextInteger(revolutions)) * mechanics.revolutionNs;
    }
    const doneNs = mechanics.access(place - this.baseBlock, end - place, isWrite, nowNs + recoveryNs);
    const endNs = doneNs + this.turnsNs;
    power.used(endNs);
    return endNs;
  }

  /** Writes down where the time of the access went. */
  private account(slot: RequestSlot, nowNs: number): void {
    const { breakdown } = this.shared;
    const { seekTimeNs, rotationTimeNs } = this.mechanics;
    const seekNs = this.lostNs + seekTimeNs;
    const rotationNs = rotationTimeNs + this.turnsNs;
    breakdown.seekNs[slot] += seekNs;
    breakdown.rotationNs[slot] += rotationNs;
    breakdown.transferNs[slot] += this.endNs - nowNs - seekNs - rotationNs;
  }
}

function sectors(bytes: number): number {
  return Math.floor(bytes / sectorBytes);
}
