/**
 * The flash array: dies and channels as resources, and the operations that wait for them.
 *
 * A read holds its die while the cells are sensed, then its channel while the data come out. A program holds its die
 * while the data come in over the channel, a chunk at a time so that others get between, and then while the cells are
 * written; an erase needs no data. Each die has two queues: reads of the host go first, up to a limit, and may suspend a
 * program or erase; everything else goes in order of arrival. Each channel lets reads out before program data come in,
 * up to a limit as well. Nothing is allocated per operation.
 *
 * Where collection blocks by plane, each of its operations holds one plane of its die: reads of the host go on in the
 * others (independent plane reads, AIPR; US 10,877,696 describes such dies). A die still programs or erases one thing at a
 * time, so what the other modes do on all planes at once takes one plane after the other. What the host programs is
 * written on all planes in one shot as ever, and needs them all.
 *
 * Not modelled: the second register's own fullness in cache reads, command polling, and power limits other than `limit`.
 */
import { assert } from "../../base/assert.js";
import { type EventLanes, heapLane } from "../event-lanes.js";
import type { ModelObserver } from "../observer.js";
import { Ring } from "../ring.js";
import type { Geometry } from "./geometry.js";
import type { SsdParameters } from "./schema.js";

/** No operation. */
const none = -1;

export const Work = Object.freeze({
  /** A read of the host; `owner` is its slot. */
  read: 0,
  /** A page of the mapping the host's command waits for; `owner` is its slot. */
  mapRead: 1,
  /** A stripe of a block under collection; `owner` is the superblock. */
  copyRead: 2,
  /** A program unit with data of the host; `owner` is its superblock. */
  program: 3,
  /** A program unit of collection's. */
  copyProgram: 4,
  /** One die's share of erasing a superblock, the `owner`. */
  erase: 5,
  /** What nobody waits for: the rest of a unit written in part, pages of the mapping. */
  sideRead: 6,
  sideProgram: 7,
});

export const workNames = [
  "read",
  "map read",
  "copy read",
  "program",
  "copy program",
  "erase",
  "side read",
  "map write",
];

/** Work of the host's commands, which goes first. */
const lastUrgent = Work.mapRead;

/** Reads that may leave on a channel before a waiting chunk of program data comes in. */
const maximumReadsOut = 8;

const Phase = Object.freeze({
  idle: 0,
  /** Program data come in. */
  loading: 1,
  /** Cells are being programmed or erased. */
  busy: 2,
  suspending: 3,
  suspended: 4,
  /** A background read: cells are being sensed. */
  sensing: 5,
  /** A background read without cache register: its data go out. */
  draining: 6,
});

/** Bases of the three kinds of event; a lane's, die's or channel's number is added. */
export interface FlashEvents {
  sensed: number;
  die: number;
  channel: number;
}

export interface FlashSink {
  /** An operation has ended; its fields are still there during the call. */
  flashDone(op: number, nowNs: number): void;
}

export interface FlashOptions {
  parameters: SsdParameters["flash"];
  blocking: SsdParameters["gc"]["blocking"];
  geometry: Geometry;
  events: EventLanes;
  eventBases: FlashEvents;
  /** Operations there can be at once. */
  capacity: number;
  sink: FlashSink;
  observer: ModelObserver | null;
}

export class Flash {
  /** What an operation is (`Work`), who it is for, and what its owner notes with it. */
  readonly work: Uint8Array;
  readonly owner: Int32Array;
  readonly address: Float64Array;
  /** Units of a copy read, or of the host's in a program; bytes for the host of a read. */
  readonly amount: Int32Array;
  readonly copies: Int32Array;
  readonly sequence: Float64Array;
  /** Time in the cells, and bytes over the channel. */
  readonly arrayNs: Float64Array;
  readonly bytes: Int32Array;
  /** Lane of the event that ends the sensing of a read of the host, if others as long are in it. */
  readonly eventLane: Int8Array;
  freeOps: number;

  /** Operations ended, by work. */
  readonly done = new Float64Array(workNames.length);
  readonly dieBusyNs: Float64Array;
  readonly channelBusyNs: Float64Array;
  suspensions = 0;

  private readonly die: Int32Array;
  private readonly lane: Int32Array;
  private readonly bytesLeft: Int32Array;
  private readonly startNs: Float64Array;
  private readonly next: Int32Array;
  /** Planes an operation of collection goes to after the present one. */
  private readonly planesLeft: Uint8Array;
  private readonly free: Int32Array;

  private readonly phase: Uint8Array;
  /** What a die works on besides reads of the host. */
  private readonly current: Int32Array;
  private readonly endNs: Float64Array;
  private readonly remainingNs: Float64Array;
  private readonly suspends: Uint8Array;
  /** Reads that have overtaken what waits or is suspended. */
  private readonly overtaken: Uint16Array;
  private readonly activeReads: Uint8Array;
  private readonly waitingReads: Int32Array;
  private allWaitingReads = 0;
  private readonly backgroundHead: Int32Array;
  private readonly backgroundTail: Int32Array;

  /** Places where a die can read: one, or one per plane. */
  readonly lanes: number;
  /** The read that is there, or the operation of collection that keeps reads away. */
  private readonly laneOp: Int32Array;
  private readonly laneHead: Int32Array;
  private readonly laneTail: Int32Array;

  private readonly channelOf: Int32Array;
  private readonly channelOp: Int32Array;
  private readonly outHead: Int32Array;
  private readonly outTail: Int32Array;
  private readonly inHead: Int32Array;
  private readonly inTail: Int32Array;
  private readonly outPassed: Uint8Array;

  /** Collection's outstanding work where it keeps reads away as long as there is any: by die or channel. */
  private readonly blocks: Int32Array;
  private readonly blocking: SsdParameters["gc"]["blocking"];
  private readonly isBlocking: boolean;
  /** Whether collection holds single planes instead. */
  private readonly isByPlane: boolean;

  /** Throttling: dies that may work at once, those that do, and those that wait for it. */
  private isLimited = false;
  private limitDies = 0;
  private activeDies = 0;
  private readonly isActive: Uint8Array;
  private readonly isWaiting: Uint8Array;
  private readonly limitedDies: Ring;

  private readonly events: EventLanes;
  private readonly sensedEvent: number;
  private readonly dieEvent: number;
  private readonly channelEvent: number;
  private readonly sink: FlashSink;
  private readonly observer: ModelObserver | null;
  private readonly channels: number;
  private readonly dies: number;
  private readonly nsPerByte: number;
  private readonly commandNs: number;
  private readonly chunkBytes: number;
  private readonly hasCacheRead: boolean;
  private readonly maximumReadsAhead: number;
  private readonly programSuspends: number;
  private readonly eraseSuspends: number;
  private readonly suspendNs: number;
  private readonly resumeNs: number;

  constructor(options: FlashOptions) {
    const { parameters, geometry, capacity, eventBases } = options;
    const { dies, channels, planes } = geometry;
    this.work = new Uint8Array(capacity);
    this.owner = new Int32Array(capacity);
    this.address = new Float64Array(capacity);
    this.amount = new Int32Array(capacity);
    this.copies = new Int32Array(capacity);
    this.sequence = new Float64Array(capacity);
    this.arrayNs = new Float64Array(capacity);
    this.bytes = new Int32Array(capacity);
    this.eventLane = new Int8Array(capacity);
    this.die = new Int32Array(capacity);
    this.lane = new Int32Array(capacity);
    this.bytesLeft = new Int32Array(capacity);
    this.startNs = new Float64Array(capacity);
    this.next = new Int32Array(capacity);
    this.planesLeft = new Uint8Array(capacity);
    this.free = new Int32Array(capacity);
    for (let i = 0; i < capacity; i++) this.free[i] = capacity - 1 - i;
    this.freeOps = capacity;

    this.phase = new Uint8Array(dies);
    this.current = new Int32Array(dies).fill(none);
    this.endNs = new Float64Array(dies);
    this.remainingNs = new Float64Array(dies);
    this.suspends = new Uint8Array(dies);
    this.overtaken = new Uint16Array(dies);
    this.activeReads = new Uint8Array(dies);
    this.waitingReads = new Int32Array(dies);
    this.backgroundHead = new Int32Array(dies).fill(none);
    this.backgroundTail = new Int32Array(dies).fill(none);
    this.isByPlane = options.blocking === "plane";
    this.lanes = parameters.independentPlanes || this.isByPlane ? planes : 1;
    this.laneOp = new Int32Array(dies * this.lanes).fill(none);
    this.laneHead = new Int32Array(dies * this.lanes).fill(none);
    this.laneTail = new Int32Array(dies * this.lanes).fill(none);
    this.channelOf = Int32Array.from({ length: dies }, (_, die) => geometry.channelOf(die));
    this.channelOp = new Int32Array(channels).fill(none);
    this.outHead = new Int32Array(channels).fill(none);
    this.outTail = new Int32Array(channels).fill(none);
    this.inHead = new Int32Array(channels).fill(none);
    this.inTail = new Int32Array(channels).fill(none);
    this.outPassed = new Uint8Array(channels);
    this.dieBusyNs = new Float64Array(dies);
    this.channelBusyNs = new Float64Array(channels);
    this.isActive = new Uint8Array(dies);
    this.isWaiting = new Uint8Array(dies);
    this.limitedDies = new Ring(dies);
    this.blocks = new Int32Array(dies);
    this.blocking = options.blocking;
    this.isBlocking = options.blocking === "die" || options.blocking === "channel";

    this.events = options.events;
    this.sensedEvent = eventBases.sensed;
    this.dieEvent = eventBases.die;
    this.channelEvent = eventBases.channel;
    this.sink = options.sink;
    this.observer = options.observer;
    this.channels = channels;
    this.dies = dies;
    this.nsPerByte = 1e9 / parameters.channelRate;
    this.commandNs = parameters.command;
    this.chunkBytes = parameters.pageSize;
    this.hasCacheRead = parameters.cacheRead;
    this.maximumReadsAhead = parameters.maximumReadsAhead;
    this.programSuspends = parameters.suspend.program;
    this.eraseSuspends = parameters.suspend.erase;
    this.suspendNs = parameters.suspend.time;
    this.resumeNs = parameters.suspend.resume;
  }

  /** Events that can wait at once: of each lane, channel and die, and of each suspension one that no longer counts. */
  static mostEvents({ flash }: SsdParameters, { dies, channels, planes }: Geometry): number {
    const stale = Math.max(flash.suspend.program, flash.suspend.erase);
    return dies * (planes + 2 + stale) + channels;
  }

  /** Whether any read of the host waits for a die. */
  get hasWaitingReads(): boolean {
    return this.allWaitingReads > 0;
  }

  /** Time so many bytes take on a channel. */
  transferNs(bytes: number): number {
    return this.commandNs + bytes * this.nsPerByte;
  }

  /** Takes an operation's row, to be filled by the caller and given to `submit`. */
  acquire(work: number, owner: number): number {
    assert(this.freeOps > 0, "flash operations are bounded by those who start them");
    const op = this.free[--this.freeOps];
    this.work[op] = work;
    this.owner[op] = owner;
    this.eventLane[op] = heapLane;
    return op;
  }

  /** Gives back a row that was not submitted. */
  discard(op: number): void {
    this.free[this.freeOps++] = op;
  }

  /** Does an operation that has just ended again, for the same owner. To be called while it is reported. */
  repeat(op: number, nowNs: number): void {
    const again = this.acquire(this.work[op], this.owner[op]);
    this.address[again] = this.address[op];
    this.amount[again] = this.amount[op];
    this.copies[again] = this.copies[op];
    this.sequence[again] = this.sequence[op];
    this.submit(again, this.die[op], 0, this.arrayNs[op], this.bytes[op], nowNs);
  }

  submit(op: number, die: number, plane: number, arrayNs: number, bytes: number, nowNs: number): void {
    const work = this.work[op];
    this.die[op] = die;
    this.arrayNs[op] = arrayNs;
    this.bytes[op] = bytes;
    this.bytesLeft[op] = bytes;
    this.startNs[op] = nowNs;
    this.next[op] = none;
    if (this.isBlocking && isCollecting(work)) this.blocks[this.blockOf(die)]++;
    if (work <= lastUrgent) {
      const lane = this.lanes === 1 ? die : die * this.lanes + plane;
      this.lane[op] = lane;
      if (this.isFree(die, lane)) {
        // Nothing to queue for: the same as below, in fewer steps.
        this.startRead(die, lane, op, nowNs);
        return;
      }
      if (this.laneHead[lane] === none) this.laneHead[lane] = op;
      else this.next[this.laneTail[lane]] = op;
      this.laneTail[lane] = op;
      this.waitingReads[die]++;
      this.allWaitingReads++;
      if (this.phase[die] === Phase.busy) this.suspend(die, nowNs);
    } else {
      if (this.isByPlane && isCollecting(work)) {
        this.planesLeft[op] = work === Work.copyRead ? 0 : this.lanes - 1;
        this.aimAtPlane(op, die * this.lanes + plane);
      }
      this.enqueueBackground(op, die);
    }
    this.dispatch(die, nowNs);
  }

  /** By plane, a copy read is of one, and a program's data are shared between all. */
  private aimAtPlane(op: number, lane: number): void {
    this.lane[op] = lane;
    if (this.arrivesByChannel(op)) this.bytesLeft[op] = this.bytes[op] / this.lanes;
  }

  private enqueueBackground(op: number, die: number): void {
    this.next[op] = none;
    if (this.backgroundHead[die] === none) {
      this.backgroundHead[die] = op;
      this.overtaken[die] = 0;
    } else {
      this.next[this.backgroundTail[die]] = op;
    }
    this.backgroundTail[die] = op;
  }

  /** The cells of a read of the host are sensed. */
  sensed(lane: number, nowNs: number): void {
    const op = this.laneOp[lane];
    const die = this.die[op];
    this.observer?.span("die", die, workNames[this.work[op]], nowNs - this.arrayNs[op], nowNs);
    if (this.hasCacheRead) {
      this.laneOp[lane] = none;
      this.activeReads[die]--;
      this.sendOut(op, nowNs);
      this.dispatch(die, nowNs);
    } else {
      this.sendOut(op, nowNs);
    }
  }

  /** Something a die does besides reads of the host has come to its end, unless it was suspended meanwhile. */
  dieDone(die: number, nowNs: number): void {
    if (this.endNs[die] !== nowNs) return;
    // A stale event of the same instant must find nothing.
    this.endNs[die] = -1;
    const op = this.current[die];
    switch (this.phase[die]) {
      case Phase.suspending:
        this.phase[die] = Phase.suspended;
        this.overtaken[die] = 0;
        this.dispatch(die, nowNs);
        break;
      case Phase.sensing:
        this.observer?.span("die", die, workNames[this.work[op]], nowNs - this.arrayNs[op], nowNs);
        if (this.hasCacheRead) this.idle(die);
        else this.phase[die] = Phase.draining;
        this.sendOut(op, nowNs);
        if (this.hasCacheRead) this.dispatch(die, nowNs);
        break;
      default:
        this.observer?.span("die", die, workNames[this.work[op]], this.startNs[op], nowNs);
        this.idle(die);
        if (this.planesLeft[op] === 0) {
          this.finish(op, nowNs);
        } else {
          // Behind what else waits for the die: this takes as many turns as there are planes.
          this.planesLeft[op]--;
          this.aimAtPlane(op, this.lane[op] + 1);
          this.enqueueBackground(op, die);
        }
        this.dispatch(die, nowNs);
    }
  }

  /** A channel has moved a read's data, or a chunk of a program's. */
  transferred(channel: number, nowNs: number): void {
    const op = this.channelOp[channel];
    const isProgram = this.arrivesByChannel(op);
    this.bytesLeft[op] -= isProgram ? Math.min(this.chunkBytes, this.bytesLeft[op]) : this.bytesLeft[op];
    this.channelOp[channel] = none;
    const die = this.die[op];
    if (this.bytesLeft[op] > 0) {
      this.enqueueIn(channel, op);
      this.nextTransfer(channel, nowNs);
      return;
    }
    this.nextTransfer(channel, nowNs);
    if (isProgram) {
      this.phase[die] = Phase.busy;
      this.startNs[op] = nowNs;
      this.runArray(die, this.arrayNs[op], nowNs);
      if (this.waitingReads[die] > 0) this.suspend(die, nowNs);
      return;
    }
    if (!this.hasCacheRead) {
      if (this.work[op] <= lastUrgent) {
        this.laneOp[this.lane[op]] = none;
        this.activeReads[die]--;
      } else {
        this.idle(die);
      }
      this.finish(op, nowNs);
      this.dispatch(die, nowNs);
    } else {
      this.finish(op, nowNs);
    }
  }

  private arrivesByChannel(op: number): boolean {
    const work = this.work[op];
    return work === Work.program || work === Work.copyProgram || work === Work.sideProgram;
  }

  /** Lets only so many dies work at once: throttling. */
  limit(dies: number): void {
    this.limitDies = dies;
    this.isLimited = true;
  }

  private dispatch(die: number, nowNs: number): void {
    if (this.isLimited) this.dispatchLimited(die, nowNs);
    else this.dispatchDie(die, nowNs);
  }

  /**
   * As `dispatchDie`, with no more dies at work than the limit. A die between two operations goes to the end of those that
   * wait, so that all get their turn.
   */
  private dispatchLimited(die: number, nowNs: number): void {
    const { isActive, isWaiting, limitedDies } = this;
    const isBetween = this.activeReads[die] === 0 && this.phase[die] === Phase.idle;
    if (!isBetween) {
      this.dispatchDie(die, nowNs);
      return;
    }
    this.activeDies -= isActive[die];
    isActive[die] = 0;
    const hasWork = this.waitingReads[die] > 0 || this.backgroundHead[die] !== none;
    if (hasWork && isWaiting[die] === 0) {
      isWaiting[die] = 1;
      limitedDies.push(die);
    }
    while (limitedDies.length > 0 && this.activeDies < this.limitDies) {
      const next = limitedDies.shift();
      isWaiting[next] = 0;
      this.dispatchDie(next, nowNs);
      isActive[next] = this.activeReads[next] > 0 || this.phase[next] !== Phase.idle ? 1 : 0;
      this.activeDies += isActive[next];
    }
  }

  /** Gives a die that is free, or suspended, what it does next. */
  private dispatchDie(die: number, nowNs: number): void {
    const phase = this.phase[die];
    if (phase !== Phase.idle && phase !== Phase.suspended) {
      // What waits for the die could not begin anyway, so these reads overtake nothing.
      if (this.isByPlane && this.waitingReads[die] > 0 && this.holdsPlane(this.current[die]))
        this.startReads(die, false, nowNs);
      return;
    }
    const hasOther = phase === Phase.suspended || this.backgroundHead[die] !== none;
    if (this.waitingReads[die] > 0) {
      const mayOvertake = !(hasOther && this.overtaken[die] >= this.maximumReadsAhead);
      if (this.isByPlane && phase === Phase.idle && hasOther && this.holdsPlane(this.backgroundHead[die]))
        this.startReadsAround(this.lane[this.backgroundHead[die]], die, mayOvertake, nowNs);
      else if (mayOvertake) this.startReads(die, hasOther, nowNs);
    }
    if (this.activeReads[die] > 0 && !(phase === Phase.idle && this.findsPlaneFree(die))) return;
    if (phase === Phase.suspended) this.resume(die, nowNs);
    else if (hasOther) this.startBackground(die, nowNs);
  }

  /** Whether an operation keeps reads away from one plane of its die only. */
  private holdsPlane(op: number): boolean {
    return this.isByPlane && isCollecting(this.work[op]);
  }

  /** Whether what comes next on a die needs one plane only, and no read is there. */
  private findsPlaneFree(die: number): boolean {
    const op = this.backgroundHead[die];
    return op !== none && this.holdsPlane(op) && this.laneOp[this.lane[op]] === none;
  }

  private startReads(die: number, isOvertaking: boolean, nowNs: number): void {
    if (this.isBlocking && this.blocks[this.blockOf(die)] > 0) return;
    const { lanes, laneOp, laneHead } = this;
    for (let lane = die * lanes; lane < (die + 1) * lanes; lane++) {
      if (laneHead[lane] === none || laneOp[lane] !== none) continue;
      if (isOvertaking) this.overtaken[die]++;
      this.startWaitingRead(die, lane, nowNs);
    }
  }

  /** Where what comes next needs one plane only: reads of the others are not in its way, whether or not those of this may be. */
  private startReadsAround(wantedLane: number, die: number, mayOvertake: boolean, nowNs: number): void {
    const { lanes, laneOp, laneHead } = this;
    for (let lane = die * lanes; lane < (die + 1) * lanes; lane++) {
      if (laneHead[lane] === none || laneOp[lane] !== none) continue;
      if (lane === wantedLane) {
        if (!mayOvertake) continue;
        this.overtaken[die]++;
      }
      this.startWaitingRead(die, lane, nowNs);
    }
  }

  private startWaitingRead(die: number, lane: number, nowNs: number): void {
    const op = this.laneHead[lane];
    this.laneHead[lane] = this.next[op];
    this.waitingReads[die]--;
    this.allWaitingReads--;
    this.startRead(die, lane, op, nowNs);
  }

  private startRead(die: number, lane: number, op: number, nowNs: number): void {
    const arrayNs = this.arrayNs[op];
    this.laneOp[lane] = op;
    this.activeReads[die]++;
    this.dieBusyNs[die] += arrayNs;
    this.events.pushTo(this.eventLane[op], nowNs + arrayNs, this.sensedEvent + lane);
  }

  /** Whether a read can start at once: nothing else waits for the die, and nothing keeps it away. */
  private isFree(die: number, lane: number): boolean {
    return (
      this.laneOp[lane] === none &&
      this.waitingReads[die] === 0 &&
      this.phase[die] === Phase.idle &&
      this.backgroundHead[die] === none &&
      !this.isBlocking &&
      !this.isLimited
    );
  }

  private startBackground(die: number, nowNs: number): void {
    const op = this.backgroundHead[die];
    this.backgroundHead[die] = this.next[op];
    this.overtaken[die] = 0;
    this.current[die] = op;
    this.suspends[die] = 0;
    if (this.holdsPlane(op)) this.laneOp[this.lane[op]] = op;
    if (this.arrivesByChannel(op)) {
      this.phase[die] = Phase.loading;
      const channel = this.channelOf[die];
      this.enqueueIn(channel, op);
      if (this.channelOp[channel] === none) this.nextTransfer(channel, nowNs);
    } else {
      this.phase[die] = this.work[op] === Work.erase ? Phase.busy : Phase.sensing;
      this.startNs[op] = nowNs;
      this.runArray(die, this.arrayNs[op], nowNs);
    }
  }

  private runArray(die: number, timeNs: number, nowNs: number): void {
    this.dieBusyNs[die] += timeNs;
    this.endNs[die] = nowNs + timeNs;
    this.events.push(this.endNs[die], this.dieEvent + die);
  }

  private idle(die: number): void {
    const op = this.current[die];
    if (this.holdsPlane(op)) this.laneOp[this.lane[op]] = none;
    this.phase[die] = Phase.idle;
    this.current[die] = none;
  }

  /** A read has come for a die that programs or erases: interrupts that, where it may and where it pays. */
  private suspend(die: number, nowNs: number): void {
    const most = this.work[this.current[die]] === Work.erase ? this.eraseSuspends : this.programSuspends;
    const remainingNs = this.endNs[die] - nowNs;
    if (this.suspends[die] >= most || remainingNs <= this.suspendNs) return;
    if (this.isBlocking && this.blocks[this.blockOf(die)] > 0) return;
    if (this.holdsPlane(this.current[die])) return;
    this.suspends[die]++;
    this.suspensions++;
    this.remainingNs[die] = remainingNs;
    this.dieBusyNs[die] -= remainingNs;
    this.phase[die] = Phase.suspending;
    this.runArray(die, this.suspendNs, nowNs);
  }

  private resume(die: number, nowNs: number): void {
    this.phase[die] = Phase.busy;
    this.runArray(die, this.resumeNs + this.remainingNs[die], nowNs);
    // The limit on overtaking may have ended the suspension with reads still waiting: these wait for the end now.
  }

  private sendOut(op: number, nowNs: number): void {
    const channel = this.channelOf[this.die[op]];
    if (this.channelOp[channel] === none) {
      // A channel stands still only when nothing waits for it.
      this.outPassed[channel]++;
      this.transfer(channel, op, this.bytesLeft[op], nowNs);
      return;
    }
    if (this.outHead[channel] === none) this.outHead[channel] = op;
    else this.next[this.outTail[channel]] = op;
    this.outTail[channel] = op;
    this.next[op] = none;
  }

  private enqueueIn(channel: number, op: number): void {
    if (this.inHead[channel] === none) this.inHead[channel] = op;
    else this.next[this.inTail[channel]] = op;
    this.inTail[channel] = op;
    this.next[op] = none;
  }

  private nextTransfer(channel: number, nowNs: number): void {
    const { outHead, inHead, outPassed, next } = this;
    let op = outHead[channel];
    let bytes: number;
    if (op !== none && (inHead[channel] === none || outPassed[channel] < maximumReadsOut)) {
      outHead[channel] = next[op];
      outPassed[channel]++;
      bytes = this.bytesLeft[op];
    } else {
      op = inHead[channel];
      if (op === none) return;
      inHead[channel] = next[op];
      outPassed[channel] = 0;
      bytes = Math.min(this.chunkBytes, this.bytesLeft[op]);
    }
    this.transfer(channel, op, bytes, nowNs);
  }

  private transfer(channel: number, op: number, bytes: number, nowNs: number): void {
    this.channelOp[channel] = op;
    const timeNs = this.commandNs + bytes * this.nsPerByte;
    this.channelBusyNs[channel] += timeNs;
    this.observer?.span("channel", channel, workNames[this.work[op]], nowNs, nowNs + timeNs);
    this.events.push(nowNs + timeNs, this.channelEvent + channel);
  }

  private finish(op: number, nowNs: number): void {
    const work = this.work[op];
    this.done[work]++;
    this.sink.flashDone(op, nowNs);
    this.free[this.freeOps++] = op;
    if (this.isBlocking && isCollecting(work)) this.unblock(this.die[op], nowNs);
  }

  /** Index into `blocks` of what a die belongs to. */
  private blockOf(die: number): number {
    return this.blocking === "channel" ? die % this.channels : die;
  }

  private unblock(die: number, nowNs: number): void {
    const block = this.blockOf(die);
    if (--this.blocks[block] > 0) return;
    if (this.blocking === "die") this.dispatch(die, nowNs);
    else for (let other = block; other < this.dies; other += this.channels) this.dispatch(other, nowNs);
  }
}

function isCollecting(work: number): boolean {
  return work === Work.copyRead || work === Work.copyProgram || work === Work.erase;
}
