/**
 * ssd: a solid-state drive, from the submission queue to the flash cells.
 *
 * A command waits in its submission queue until the controller fetches it, in turns; the firmware decodes it. A read is
 * looked up in the mapping and becomes one flash operation per page, whose data go over channel and link, or is served
 * from the buffer. A write is complete when its data are in the buffer; they find their place on flash behind it, and
 * collection makes room, competing for dies and channels. What each of these does stands in a file of its own; here is
 * the life of a command, in events.
 *
 * Not modelled: errors the drive reports (faults are injected in front of it), encryption, several name spaces, parity
 * within superblocks, and what the firmware of a particular drive does beyond these mechanisms.
 */
import { assert } from "../../base/assert.js";
import type { HealthLog } from "../../base/health.js";
import { Random } from "../../base/random.js";
import { Flag, noSlot, Op, type RequestSlot, type RequestTable } from "../../base/request.js";
import { Breakdown } from "../breakdown.js";
import { EventLanes } from "../event-lanes.js";
import type { CompletionSink, Model, ModelReport } from "../model.js";
import type { ModelObserver } from "../observer.js";
import { Ring } from "../ring.js";
import { Collector } from "./collector.js";
import { Arbiter } from "./controller/arbiter.js";
import { Completions, type SteppedDrive } from "./controller/completions.js";
import { Direction, Link } from "./controller/link.js";
import { Thermal, Throttle } from "./controller/thermal.js";
import { ControllerTime } from "./controller-time.js";
import { createCounters, type SsdCounters, writeAmplification } from "./counters.js";
import { Flash, type FlashSink, Work } from "./flash.js";
import { Frontiers } from "./frontiers.js";
import { Geometry, unitBytes } from "./geometry.js";
import type { Layout } from "./layout.js";
import { MapCache } from "./map-cache.js";
import { Mapping, nowhere } from "./mapping.js";
import { PageTimes } from "./page-times.js";
import { precondition } from "./precondition.js";
import type { SsdParameters } from "./schema.js";
import { SlcCache } from "./slc-cache.js";
import { Superblocks } from "./superblocks.js";
import { Victims } from "./victims.js";
import { Wear } from "./wear.js";
import { WriteBuffer } from "./write-buffer.js";

export interface CreateSsdOptions {
  parameters: SsdParameters;
  sizeBytes: number;
  requests: RequestTable;
  seed: number;
  /** Whether the drive has a cache the host must flush: the profile's `writeCache`. */
  hasVolatileCache?: boolean | undefined;
  observer?: ModelObserver | undefined;
}

/** Events carry a slot, or the number of a lane, die or channel, and above these bits what has happened. */
const eventBits = 24;
const eventMask = (1 << eventBits) - 1;
const Event = Object.freeze({
  /** The firmware has decoded a command. */
  decoded: 0,
  /** The data of a write have come in. */
  received: 1 << eventBits,
  /** A command is complete. */
  complete: 2 << eventBits,
  channel: 3 << eventBits,
  sensed: 4 << eventBits,
  die: 5 << eventBits,
  /** The controller can fetch its next command. */
  fetch: 6 << eventBits,
  /** The drive may have been idle for long enough. */
  idle: 7 << eventBits,
  /** Collection goes on looking. */
  collect: 8 << eventBits,
  /** A read's place has been looked up. */
  mapped: 9 << eventBits,
});

/** The first kinds of event mostly end in the order they began. */
const orderlyKinds = 4;

/** Events of the controller that are not of a command: fetch, idle, collect. */
const timers = 3;

/** Flash operations reads of the host can have under way beyond one per request. */
const readOperations = 8192;

/** Available spare below which the health log warns: what most drives report. */
const spareThresholdPercent = 10;

export class SsdModel implements Model, FlashSink, SteppedDrive {
  readonly isZeroFast = true;
  /** Where the time of each request went, by slot. */
  readonly breakdown: Breakdown;
  readonly counters: SsdCounters = createCounters();
  readonly geometry: Geometry;
  readonly superblocks: Superblocks;
  readonly mapping: Mapping;
  readonly flash: Flash;

  private readonly requests: RequestTable;
  private readonly parameters: SsdParameters;
  private readonly observer: ModelObserver | null;
  private readonly events: EventLanes;
  private readonly pageTimes: PageTimes;
  private readonly frontiers: Frontiers;
  private readonly collector: Collector;
  private readonly buffer: WriteBuffer;
  private readonly arbiter: Arbiter;
  private readonly completions: Completions;
  private readonly link: Link;
  private readonly controllerTime: ControllerTime;
  private readonly slcCache: SlcCache;
  private readonly mapCache: MapCache | null;
  private readonly wear: Wear;
  private readonly thermal: Thermal | null;
  /** The level of throttling the dies have been told of. */
  private throttle: number = Throttle.none;
  /** Whether an acknowledged write outlives a power cut as it is. */
  private readonly isProtected: boolean;
  private readonly isWriteThrough: boolean;

  /** Commands in work, and the flush that waits for all of them to finish, or all others wait for. */
  private active = 0;
  private heldFlush: RequestSlot = noSlot;
  private isBarred = false;
  private firmwareFreeNs = 0;
  private isFetchSet = false;
  private isIdleSet = false;
  private isCollectSet = false;
  private lastActivityNs = 0;
  /** Commands in the drive, in its queues too; since when, and how long there were any before. */
  private inDrive = 0;
  private busySinceNs = 0;
  private busyNs = 0;
  /** Exit latency of the power state the drive was in, for the command that wakes it. */
  private wakeNs = 0;
  private readCommands = 0;
  private writeCommands = 0;
  private readBytes = 0;
  private writtenBytes = 0;

  /** Writes that wait for room in the buffer, and reads that wait for flash operations. */
  private readonly stalled: Ring;
  private readonly starved: Ring;
  private readonly reservedOperations: number;
  /** By slot: since when it waits, the next unit to read, reads under way, and when the last data have come over. */
  private readonly sinceNs: Float64Array;
  private readonly cursor: Float64Array;
  private readonly readsLeft: Int32Array;
  private readonly endNs: Float64Array;

  constructor(options: CreateSsdOptions) {
    const { parameters, requests, sizeBytes, seed } = options;
    const { capacity } = requests;
    this.requests = requests;
    this.parameters = parameters;
    this.observer = options.observer ?? null;
    this.breakdown = new Breakdown(capacity);
    this.isProtected = parameters.writeBuffer.powerLossProtection;
    this.isWriteThrough =
      parameters.writeBuffer.acknowledge === "late" ||
      (!this.isProtected && options.hasVolatileCache === false);
    this.stalled = new Ring(capacity);
    this.starved = new Ring(capacity);
    this.sinceNs = new Float64Array(capacity);
    this.cursor = new Float64Array(capacity);
    this.readsLeft = new Int32Array(capacity);
    this.endNs = new Float64Array(capacity);
    this.arbiter = new Arbiter(parameters.queue.arbitration, capacity);
    this.completions = new Completions(parameters.queue, requests);
    this.controllerTime = new ControllerTime(parameters.firmware, parameters.queue.maximumTransfer, requests);
    this.link = new Link(parameters.link);

    const geometry = new Geometry(parameters, sizeBytes);
    this.geometry = geometry;
    this.superblocks = new Superblocks(geometry.superblocks, parameters.wear.cycles);
    const layout: Layout = precondition(
      parameters,
      geometry,
      this.superblocks,
      new Random(seed, "model/ssd/layout"),
    );
    this.mapping = new Mapping(geometry, this.superblocks, layout);
    this.pageTimes = new PageTimes(geometry, this.superblocks, parameters.flash);
    const bufferUnits = Math.max(1, Math.floor(parameters.writeBuffer.size / unitBytes));
    const mostPrograms = Math.max(2 * geometry.dies, Math.ceil(bufferUnits / geometry.slcProgramUnits)) + 4;
    this.reservedOperations = mostPrograms + Collector.mostOperations(geometry);
    const operations = this.reservedOperations + readOperations + capacity;
    // Each request has at most one event waiting. Pages that take equally long are sensed in order.
    this.events = new EventLanes(
      capacity + timers + Flash.mostEvents(parameters, geometry),
      orderlyKinds,
      eventBits,
      this.pageTimes.readClasses,
    );
    this.flash = new Flash({
      parameters: parameters.flash,
      blocking: parameters.gc.blocking,
      geometry,
      events: this.events,
      eventBases: Event,
      capacity: operations,
      sink: this,
      observer: this.observer,
    });
    const { superblocks, mapping, flash, pageTimes, counters, observer } = this;
    this.slcCache = new SlcCache(parameters, geometry, superblocks);
    this.mapCache =
      parameters.mapCache === undefined ? null : new MapCache(geometry.hostUnits, parameters.mapCache.size);
    this.wear = new Wear(
      parameters.wear,
      parameters.retry,
      superblocks,
      counters,
      new Random(seed, "model/ssd/wear"),
      geometry.neededSuperblocks,
    );
    this.thermal = parameters.thermal === undefined ? null : new Thermal(parameters.thermal);
    if (this.thermal !== null) flash.limit(geometry.dies);
    const { slcCache, wear } = this;
    this.frontiers = new Frontiers(
      { parameters, geometry, superblocks, mapping, flash, counters, slcCache },
      mostPrograms,
    );
    const { frontiers } = this;
    const victims = new Victims(
      superblocks,
      geometry.superblockUnits,
      parameters.gc,
      new Random(seed, "model/ssd/victims"),
    );
    this.collector = new Collector({
      parameters,
      geometry,
      superblocks,
      mapping,
      frontiers,
      flash,
      victims,
      pageTimes,
      slcCache,
      wear,
      counters,
      observer,
      operations,
    });
    this.buffer = new WriteBuffer({
      capacityUnits: bufferUnits,
      mostPrograms,
      mapping,
      frontiers,
      collector: this.collector,
      counters,
      streamOf: (before) => frontiers.hostStream(before),
      requests: capacity,
    });
  }

  arrive(slot: RequestSlot, nowNs: number): void {
    // What happens at this instant because of an earlier arrival happens first, however the host slices its calls.
    while (this.events.nextNs <= nowNs) this.step();
    if (this.requests.op[slot] === Op.read)
      this.mapping.expect(Math.floor(this.requests.offsetBytes[slot] / unitBytes));
    this.resetBreakdown(slot);
    this.sinceNs[slot] = nowNs;
    this.collector.isIdleTime = false;
    this.collector.isFoldTime = false;
    if (this.inDrive++ === 0) {
      this.busySinceNs = nowNs;
      this.wakeNs = this.recoveryNs(nowNs);
    }
    const isFetchedAtOnce =
      this.arbiter.canBePassed &&
      this.firmwareFreeNs <= nowNs &&
      this.active < this.parameters.queue.depth &&
      !this.isBarred &&
      this.requests.op[slot] !== Op.flush;
    if (isFetchedAtOnce) {
      this.begin(slot, nowNs);
      return;
    }
    this.arbiter.push(slot, this.requests.queue[slot]);
    this.fetch(nowNs);
  }

  nextEventNs(): number {
    return this.completions.nextEventNs(this.events.nextNs);
  }

  advance(toNs: number, done: CompletionSink): void {
    this.completions.advance(this, toNs, done);
  }

  get nextStepNs(): number {
    return this.events.nextNs;
  }

  report(): ModelReport {
    const { counters, superblocks, flash } = this;
    return {
      writeAmplification: writeAmplification(counters),
      freeSuperblocks: superblocks.freeCount,
      collectedSuperblocks: counters.collected,
      copiedBytes: counters.copied * unitBytes,
      paddingBytes: counters.padding * unitBytes,
      suspensions: flash.suspensions,
      atomicWriteBytes: this.parameters.writeBuffer.atomicUnit,
    };
  }

  /** The next event, at its own instant. */
  step(): void {
    const nowNs = this.events.nextNs;
    const event = this.events.pop();
    const subject = event & eventMask;
    switch (event - subject) {
      case Event.fetch:
        this.isFetchSet = false;
        this.fetch(nowNs);
        break;
      case Event.decoded:
        this.serve(subject, nowNs);
        break;
      case Event.received:
        this.received(subject, nowNs);
        break;
      case Event.mapped:
        this.issueReads(subject, nowNs);
        break;
      case Event.complete:
        this.complete(subject, nowNs);
        break;
      case Event.sensed:
        this.flash.sensed(subject, nowNs);
        break;
      case Event.die:
        this.flash.dieDone(subject, nowNs);
        break;
      case Event.channel:
        this.flash.transferred(subject, nowNs);
        break;
      case Event.idle:
        this.isIdleSet = false;
        this.idle(nowNs);
        break;
      default:
        this.isCollectSet = false;
        this.makeProgress(nowNs);
    }
  }

  /** Takes commands from their queues, as far as the drive has places and the controller time. */
  private fetch(nowNs: number): void {
    const { arbiter, parameters, requests } = this;
    const { depth, flushQueued } = parameters.queue;
    while (arbiter.length > 0 && this.active < depth && !this.isBarred) {
      if (this.firmwareFreeNs > nowNs) {
        if (!this.isFetchSet) {
          this.isFetchSet = true;
          this.events.push(this.firmwareFreeNs, Event.fetch);
        }
        return;
      }
      const slot = arbiter.next();
      if (requests.op[slot] === Op.flush && !flushQueued) {
        this.isBarred = true;
        if (this.active > 0) {
          this.heldFlush = slot;
          return;
        }
      }
      this.begin(slot, nowNs);
    }
  }

  /** What the command's way adds to or may leave out; the other parts are set in passing, or are a hard disk's. */
  private resetBreakdown(slot: RequestSlot): void {
    const { mediaNs, transferNs, cacheNs } = this.breakdown;
    mediaNs[slot] = 0;
    transferNs[slot] = 0;
    cacheNs[slot] = 0;
  }

  private begin(slot: RequestSlot, nowNs: number): void {
    const { controllerTime } = this;
    this.active++;
    this.breakdown.queueNs[slot] = nowNs - this.sinceNs[slot];
    this.firmwareFreeNs = nowNs + controllerTime.busyNs(slot);
    // Of several commands made of one request the last decides.
    const laterNs = (controllerTime.commands(slot) - 1) * controllerTime.commandNs(slot);
    const overheadNs = this.latencyOf(slot) + laterNs + this.wakeNs;
    this.wakeNs = 0;
    this.breakdown.overheadNs[slot] = overheadNs;
    this.events.push(nowNs + overheadNs, Event.decoded | slot);
  }

  private latencyOf(slot: RequestSlot): number {
    const { firmware } = this.parameters;
    switch (this.requests.op[slot]) {
      case Op.read:
        return firmware.read;
      case Op.write:
        return firmware.write;
      case Op.flush:
        return firmware.flush;
      default:
        return firmware.trim;
    }
  }

  private serve(slot: RequestSlot, nowNs: number): void {
    const { requests } = this;
    switch (requests.op[slot]) {
      case Op.read:
        this.serveRead(slot, nowNs);
        break;
      case Op.write:
        this.admit(slot, nowNs);
        break;
      case Op.flush:
        if (this.isProtected || this.buffer.isClean) this.complete(slot, nowNs);
        else this.drain(slot, nowNs);
        break;
      case Op.trim:
        this.unmap(slot);
        this.complete(slot, nowNs);
        break;
      default:
        if ((requests.flags[slot] & Flag.noHole) !== 0) {
          this.admit(slot, nowNs);
        } else {
          this.unmap(slot);
          this.complete(slot, nowNs);
        }
    }
  }

  private serveRead(slot: RequestSlot, nowNs: number): void {
    this.cursor[slot] = Math.floor(this.requests.offsetBytes[slot] / unitBytes);
    this.readsLeft[slot] = 1;
    this.endNs[slot] = nowNs;
    const { mapCache } = this;
    if (mapCache === null) {
      this.issueReads(slot, nowNs);
      return;
    }
    const last = mapCache.pageOfUnit(this.endUnit(slot) - 1);
    for (let page = mapCache.pageOfUnit(this.cursor[slot]); page <= last; page++) {
      if (mapCache.touch(page, false) || this.flash.freeOps <= this.reservedOperations) continue;
      this.counters.mapReads++;
      this.readsLeft[slot]++;
      this.readMap(Work.mapRead, slot, page, nowNs);
    }
    this.writeMap(nowNs);
    // One that finds all it needs at hand waits for the look-up only; the others go on when the last page has come.
    if (--this.readsLeft[slot] > 0) return;
    this.readsLeft[slot] = 1;
    const hitNs = this.parameters.mapCache!.hit;
    this.breakdown.overheadNs[slot] += hitNs;
    if (hitNs === 0) this.issueReads(slot, nowNs);
    else this.events.push(nowNs + hitNs, Event.mapped | slot);
  }

  /** Reads a page of the mapping from flash. Where these lie is spread over the dies. */
  private readMap(work: number, owner: number, page: number, nowNs: number): void {
    const { flash, geometry } = this;
    const op = flash.acquire(work, owner);
    flash.amount[op] = 0;
    flash.submit(op, page % geometry.dies, 0, this.pageTimes.firstReadNs, unitBytes, nowNs);
  }

  /** Writes changed pages of the mapping that were evicted, a program unit of them at a time. */
  private writeMap(nowNs: number): void {
    const { mapCache, geometry, flash } = this;
    if (mapCache === null || flash.freeOps <= this.reservedOperations) return;
    while (mapCache.evictedDirty >= geometry.programUnits) {
      mapCache.evictedDirty -= geometry.programUnits;
      const die = (this.counters.mapWrites / geometry.programUnits) % geometry.dies;
      this.counters.mapWrites += geometry.programUnits;
      const op = flash.acquire(Work.sideProgram, 0);
      flash.submit(op, die, 0, this.parameters.flash.program, geometry.programUnits * unitBytes, nowNs);
    }
  }

  /** Unit after the last that a request touches. */
  private endUnit(slot: RequestSlot): number {
    const { requests } = this;
    return Math.ceil((requests.offsetBytes[slot] + requests.lengthBytes[slot]) / unitBytes);
  }

  /** Bytes of a request within units `first` up to `end`. */
  private bytesWithin(slot: RequestSlot, first: number, end: number): number {
    const { requests } = this;
    const startBytes = requests.offsetBytes[slot];
    const endBytes = startBytes + requests.lengthBytes[slot];
    return Math.min(endBytes, end * unitBytes) - Math.max(startBytes, first * unitBytes);
  }

  /** Starts a flash operation for each page a read needs; what is not on flash goes out at once. */
  private issueReads(slot: RequestSlot, nowNs: number): void {
    const { mapping, pageTimes, flash, counters, geometry } = this;
    const end = this.endUnit(slot);
    let unit = this.cursor[slot];
    let readyBytes = 0;
    while (unit < end) {
      if (flash.freeOps <= this.reservedOperations) {
        this.cursor[slot] = unit;
        this.starved.push(slot);
        this.sendReady(slot, readyBytes, nowNs);
        return;
      }
      const address = mapping.locate(unit);
      let next = unit + 1;
      if (address !== nowhere) pageTimes.locate(address);
      if (address === nowhere) {
        counters.unmappedReads++;
        readyBytes += this.bytesWithin(slot, unit, next);
      } else if (this.frontiers.isBufferedIn(pageTimes.superblock, address)) {
        counters.bufferHits++;
        readyBytes += this.bytesWithin(slot, unit, next);
      } else {
        const pageEnd = pageTimes.page + geometry.pageUnits;
        while (
          next < end &&
          address + (next - unit) < pageEnd &&
          mapping.locate(next) === address + (next - unit)
        ) {
          next++;
        }
        const op = flash.acquire(Work.read, slot);
        flash.amount[op] = this.bytesWithin(slot, unit, next);
        this.readsLeft[slot]++;
        const retryNs = this.wear.retryNs(pageTimes.superblock);
        if (retryNs === 0) flash.eventLane[op] = orderlyKinds + pageTimes.readClass;
        const readNs = pageTimes.readNs + retryNs;
        flash.submit(op, pageTimes.die, pageTimes.plane, readNs, (next - unit) * unitBytes, nowNs);
      }
      counters.hostRead += next - unit;
      unit = next;
    }
    this.sendReady(slot, readyBytes, nowNs);
    this.readEnded(slot);
  }

  private sendReady(slot: RequestSlot, bytes: number, nowNs: number): void {
    if (bytes === 0) return;
    this.endNs[slot] = Math.max(this.endNs[slot], this.link.reserve(Direction.toHost, bytes, nowNs));
    this.breakdown.transferNs[slot] = this.link.timeNs(bytes);
  }

  /** One of a read's operations has ended, or the last has been started. */
  private readEnded(slot: RequestSlot): void {
    if (--this.readsLeft[slot] > 0) return;
    this.events.push(this.endNs[slot] + this.link.latencyNs, Event.complete | slot);
  }

  /** Lets a write's data into the buffer, or has it wait for room. */
  private admit(slot: RequestSlot, nowNs: number): void {
    this.sinceNs[slot] = nowNs;
    if (this.stalled.length === 0 && this.tryAdmit(slot, nowNs)) return;
    this.counters.stalledWrites++;
    this.stalled.push(slot);
    this.buffer.padIfStuck(nowNs);
  }

  private tryAdmit(slot: RequestSlot, nowNs: number): boolean {
    const { requests, link } = this;
    const units = this.endUnit(slot) - Math.floor(requests.offsetBytes[slot] / unitBytes);
    if (!this.buffer.admit(units)) return false;
    this.breakdown.cacheNs[slot] = nowNs - this.sinceNs[slot];
    const bytes = requests.op[slot] === Op.write ? requests.lengthBytes[slot] : 0;
    this.breakdown.transferNs[slot] = link.timeNs(bytes);
    const endNs = link.reserve(Direction.toDevice, bytes, nowNs);
    this.events.push(endNs + link.latencyNs, Event.received | slot);
    return true;
  }

  private received(slot: RequestSlot, nowNs: number): void {
    const { requests, buffer } = this;
    const first = Math.floor(requests.offsetBytes[slot] / unitBytes);
    const end = this.endUnit(slot);
    this.readRest(slot, first, end, nowNs);
    buffer.accept(first, end - first);
    const mustBeOnFlash =
      this.isWriteThrough || (!this.isProtected && (requests.flags[slot] & Flag.fua) !== 0);
    if (mustBeOnFlash) this.drain(slot, nowNs);
    else this.complete(slot, nowNs);
    this.makeProgress(nowNs);
  }

  /**
   * What a write needs to be read for, beside the host's wait: the rest of units it writes in part, and pages of the mapping
   * that are not at hand.
   */
  private readRest(slot: RequestSlot, first: number, end: number, nowNs: number): void {
    const { requests, mapCache, flash } = this;
    const startBytes = requests.offsetBytes[slot];
    const endBytes = startBytes + requests.lengthBytes[slot];
    if (startBytes !== first * unitBytes) this.readUnit(first, nowNs);
    if (endBytes !== end * unitBytes && (end - 1 > first || startBytes === first * unitBytes))
      this.readUnit(end - 1, nowNs);
    if (mapCache === null) return;
    for (let page = mapCache.pageOfUnit(first); page <= mapCache.pageOfUnit(end - 1); page++) {
      if (mapCache.touch(page, true)) continue;
      this.counters.mapReads++;
      if (flash.freeOps > this.reservedOperations) this.readMap(Work.sideRead, 0, page, nowNs);
    }
    this.writeMap(nowNs);
  }

  private readUnit(unit: number, nowNs: number): void {
    const { mapping, pageTimes, flash } = this;
    const address = mapping.locate(unit);
    if (address === nowhere || this.frontiers.isBuffered(address)) return;
    if (flash.freeOps <= this.reservedOperations) return;
    pageTimes.locate(address);
    flash.submit(
      flash.acquire(Work.sideRead, 0),
      pageTimes.die,
      pageTimes.plane,
      pageTimes.readNs,
      unitBytes,
      nowNs,
    );
  }

  private drain(slot: RequestSlot, nowNs: number): void {
    this.sinceNs[slot] = nowNs;
    this.buffer.drain(slot);
    this.makeProgress(nowNs);
  }

  private unmap(slot: RequestSlot): void {
    const { requests } = this;
    // Units trimmed in part keep their data.
    const first = Math.ceil(requests.offsetBytes[slot] / unitBytes);
    const end = Math.floor((requests.offsetBytes[slot] + requests.lengthBytes[slot]) / unitBytes);
    if (end > first) this.counters.trimmed += this.mapping.unmap(first, end);
  }

  /** An operation of the flash array has ended. */
  flashDone(op: number, nowNs: number): void {
    const { flash } = this;
    if (this.thermal !== null) this.warm(this.thermal, flash.arrayNs[op], nowNs);
    switch (flash.work[op]) {
      case Work.read:
        this.readDone(op, nowNs);
        break;
      case Work.mapRead:
        if (--this.readsLeft[flash.owner[op]] === 0) {
          this.readsLeft[flash.owner[op]] = 1;
          this.issueReads(flash.owner[op], nowNs);
        }
        break;
      case Work.program:
      case Work.copyProgram:
        if (this.wear.programFails()) {
          // The spare block that takes the bad one's place is programmed with the same data, from the buffer.
          flash.repeat(op, nowNs);
          break;
        }
        this.frontiers.programmed(op);
        this.buffer.programmed(flash.amount[op]);
        this.observer?.level("write buffer", nowNs, this.buffer.used);
        this.makeProgress(nowNs);
        break;
      case Work.copyRead:
        this.collector.copyRead(op, nowNs);
        this.makeProgress(nowNs);
        break;
      case Work.erase:
        this.collector.erased(op, nowNs);
        this.makeProgress(nowNs);
        break;
      default:
        break;
    }
  }

  /** The heat of an operation; throttling may begin or end with it. */
  private warm(thermal: Thermal, arrayNs: number, nowNs: number): void {
    thermal.addEnergy(this.parameters.flash.dieWatts * arrayNs * 1e-9, nowNs);
    if (thermal.level === this.throttle) return;
    this.throttle = thermal.level;
    this.flash.limit(Math.max(1, Math.round(this.geometry.dies * thermal.speed)));
    this.observer?.level("dies allowed", nowNs, Math.round(this.geometry.dies * thermal.speed));
  }

  private readDone(op: number, nowNs: number): void {
    const { flash, link, breakdown } = this;
    const slot = flash.owner[op];
    const bytes = flash.amount[op];
    this.endNs[slot] = Math.max(this.endNs[slot], link.reserve(Direction.toHost, bytes, nowNs));
    breakdown.mediaNs[slot] = flash.arrayNs[op];
    breakdown.transferNs[slot] = flash.transferNs(flash.bytes[op]) + link.timeNs(bytes);
    this.readEnded(slot);
    if (this.starved.length > 0) this.issueReads(this.starved.shift(), nowNs);
  }

  /** Something has changed: data may find their place, collection may go on, waiting commands may end. */
  private makeProgress(nowNs: number): void {
    const { buffer, collector, stalled } = this;
    buffer.place(nowNs);
    collector.pump(nowNs);
    for (;;) {
      const slot = buffer.takeDrained();
      if (slot === noSlot) break;
      const flushNs = this.parameters.writeBuffer.flush;
      this.breakdown.cacheNs[slot] += nowNs - this.sinceNs[slot];
      this.breakdown.overheadNs[slot] += flushNs;
      this.events.push(nowNs + flushNs, Event.complete | slot);
    }
    while (stalled.length > 0 && this.tryAdmit(stalled.first, nowNs)) stalled.shift();
    if (stalled.length > 0) buffer.padIfStuck(nowNs);
    if (collector.continueAtNs !== Number.POSITIVE_INFINITY) {
      if (!this.isCollectSet) this.events.push(collector.continueAtNs, Event.collect);
      this.isCollectSet = true;
      collector.continueAtNs = Number.POSITIVE_INFINITY;
    }
  }

  private complete(slot: RequestSlot, nowNs: number): void {
    const { breakdown } = this;
    this.active--;
    this.lastActivityNs = nowNs;
    if (--this.inDrive === 0) this.busyNs += nowNs - this.busySinceNs;
    this.count(slot);
    const partsNs =
      breakdown.overheadNs[slot] +
      breakdown.mediaNs[slot] +
      breakdown.transferNs[slot] +
      breakdown.cacheNs[slot];
    // Whatever else it waited for, it waited for other commands.
    breakdown.queueNs[slot] = nowNs - this.requests.arrivalNs[slot] - partsNs;
    this.completions.push(slot, nowNs);
    if (this.heldFlush !== noSlot) {
      if (this.active > 0) return;
      const flush = this.heldFlush;
      this.heldFlush = noSlot;
      this.begin(flush, nowNs);
      return;
    }
    if (this.requests.op[slot] === Op.flush) this.isBarred = false;
    if (this.arbiter.length > 0) this.fetch(nowNs);
    else if (this.active === 0) this.waitForIdle();
  }

  private count(slot: RequestSlot): void {
    const op = this.requests.op[slot];
    if (op === Op.read) {
      this.readCommands++;
      this.readBytes += this.requests.lengthBytes[slot];
    } else if (op === Op.write) {
      this.writeCommands++;
      this.writtenBytes += this.requests.lengthBytes[slot];
    }
  }

  /** Exit latency of the power state the drive has sunk to. */
  private recoveryNs(nowNs: number): number {
    const { power } = this.parameters;
    const idleNs = nowNs - this.lastActivityNs;
    let recoveryNs = 0;
    for (let i = 0; i < power.length && power[i].after <= idleNs; i++) recoveryNs = power[i].recovery;
    return recoveryNs;
  }

  /** When idle time becomes long enough for the next thing it is used for; Infinity if there is none. */
  private nextIdleNs(): number {
    const { gc, slcCache } = this.parameters;
    const { collector, lastActivityNs } = this;
    let dueNs = Number.POSITIVE_INFINITY;
    if (gc.idleAfter > 0 && !collector.isIdleTime) dueNs = lastActivityNs + gc.idleAfter;
    if (slcCache.foldAfter > 0 && this.slcCache.used > 0 && !collector.isFoldTime)
      dueNs = Math.min(dueNs, lastActivityNs + slcCache.foldAfter);
    return dueNs;
  }

  /** Sets the alarm for idle time, if it is used for anything. */
  private waitForIdle(): void {
    if (this.isIdleSet) return;
    const dueNs = this.nextIdleNs();
    if (dueNs === Number.POSITIVE_INFINITY) return;
    this.isIdleSet = true;
    this.events.push(dueNs, Event.idle);
  }

  private idle(nowNs: number): void {
    if (this.inDrive > 0) return;
    const { gc, slcCache } = this.parameters;
    // Compared as they were added: a difference could fall short of the limit by rounding, for ever.
    const { lastActivityNs } = this;
    if (gc.idleAfter > 0 && nowNs >= lastActivityNs + gc.idleAfter) this.collector.isIdleTime = true;
    if (slcCache.foldAfter > 0 && nowNs >= lastActivityNs + slcCache.foldAfter)
      this.collector.isFoldTime = true;
    this.makeProgress(nowNs);
    this.waitForIdle();
  }

  health(nowNs: number): HealthLog {
    const { wear, thermal, parameters, counters } = this;
    thermal?.advance(nowNs);
    const spare = wear.availableSparePercent;
    const isHot =
      thermal !== null && parameters.thermal !== undefined && thermal.celsius >= parameters.thermal.warning;
    return {
      criticalWarning: (spare < spareThresholdPercent ? 1 : 0) | (isHot ? 2 : 0),
      temperatureCelsius: thermal === null ? 0 : Math.round(thermal.celsius),
      availableSparePercent: spare,
      availableSpareThresholdPercent: spareThresholdPercent,
      percentageUsed: wear.percentageUsed,
      bytesRead: this.readBytes,
      bytesWritten: this.writtenBytes,
      hostReadCommands: this.readCommands,
      hostWriteCommands: this.writeCommands,
      busyNs: this.busyNs + (this.inDrive > 0 ? nowNs - this.busySinceNs : 0),
      powerCycles: 1,
      powerOnNs: nowNs,
      unsafeShutdowns: 0,
      mediaErrors: 0,
      errorLogEntries: counters.programFailures + counters.eraseFailures,
      warningTemperatureNs: thermal?.totalWarningNs ?? 0,
      criticalTemperatureNs: thermal?.totalCriticalNs ?? 0,
      sensorsCelsius: thermal === null ? [] : [Math.round(thermal.celsius)],
      throttleTransitions: [
        thermal?.transitionsTo(Throttle.light) ?? 0,
        thermal?.transitionsTo(Throttle.heavy) ?? 0,
      ],
      throttledNs: [thermal?.totalNs(Throttle.light) ?? 0, thermal?.totalNs(Throttle.heavy) ?? 0],
    };
  }

  /**
   * Asserts what must hold whatever the drive has done: nothing is lost or counted twice. Looks at every unit, so for
   * tests.
   */
  checkConservation(nowNs: number): void {
    const { superblocks, mapping, flash, geometry } = this;
    let valid = 0;
    for (let i = 0; i < superblocks.count; i++) valid += superblocks.valid[i];
    assert(valid === mapping.mapped, "valid units are the mapped ones");
    let mapped = 0;
    for (let unit = 0; unit < geometry.hostUnits; unit++) {
      const address = mapping.locate(unit);
      if (address === nowhere) continue;
      mapped++;
      assert(mapping.unitAt(address) === unit, "the way back from flash leads to the same unit");
    }
    assert(mapped === mapping.mapped, "mapped units are counted");
    const { programmed, copied, folded, levelled, padding, erased } = this.counters;
    const written = programmed + copied + folded + levelled + padding;
    assert(
      this.frontiers.sent + this.frontiers.unsent === written,
      "what is programmed is data of the host, copies, folds, levelling and padding",
    );
    assert(superblocks.erasesDone === erased, "every superblock collected is erased once");
    assert(flash.done[Work.erase] >= erased * geometry.dies, "every die erases its share");
    const { program, erase, suspend } = this.parameters.flash;
    const { lanes } = flash;
    // Time is counted when an operation begins.
    const begunNs =
      Math.max(program, erase) + suspend.resume + suspend.time + lanes * this.pageTimes.longestReadNs;
    for (let die = 0; die < geometry.dies; die++) {
      assert(flash.dieBusyNs[die] <= nowNs * lanes + begunNs, "a die works no longer than time has passed");
    }
  }
}
