/**
 * ssd: a solid-state drive, from the submission queue to the flash cells.
 *
 * A command waits in its submission queue until the controller fetches it, in turns; the firmware decodes it. A read is
 * looked up in the mapping and becomes one flash operation per page, whose data go over channel and link, or is served
 * from the buffer. A write is complete when its data are in the buffer; they find their place on flash behind it, and
 * collection makes room, competing for dies and channels. What each of these does stands in a file of its own, and `parts.ts`
 * joins them; here is the life of a command, in events.
 *
 * Not modelled: errors the drive reports (faults are injected in front of it), encryption, several name spaces, parity
 * within superblocks, and what the firmware of a particular drive does beyond these mechanisms.
 */
import type { HealthLog } from "../../base/health.js";
import { Flag, noSlot, Op, type RequestSlot, type RequestTable } from "../../base/request.js";
import type { Breakdown } from "../breakdown.js";
import type { EventLanes } from "../event-lanes.js";
import type { CompletionSink, Model, ModelReport } from "../model.js";
import type { Activity } from "./activity.js";
import type { Collector } from "./collector.js";
import { assertConservation } from "./conservation.js";
import { Arbiter } from "./controller/arbiter.js";
import { Completions, type SteppedDrive } from "./controller/completions.js";
import { ControllerTime } from "./controller-time.js";
import { type SsdCounters, writeAmplification } from "./counters.js";
import { Event, eventMask } from "./events.js";
import { firstUnit } from "./extent.js";
import { type Flash, type FlashSink, Work } from "./flash.js";
import { type Geometry, unitBytes } from "./geometry.js";
import type { Heat } from "./heat.js";
import type { Mapping } from "./mapping.js";
import { createParts, type SsdParts, type SsdPartsOptions } from "./parts.js";
import type { ReadPath } from "./read-path.js";
import type { SsdParameters } from "./schema.js";
import type { Smart } from "./smart.js";
import type { Superblocks } from "./superblocks.js";
import type { Commands, WritePath } from "./write-path.js";

export type CreateSsdOptions = SsdPartsOptions;

export class SsdModel implements Model, FlashSink, SteppedDrive, Commands {
  readonly isZeroFast = true;
  /** Where the time of each request went, by slot. */
  readonly breakdown: Breakdown;
  readonly counters: SsdCounters;
  readonly geometry: Geometry;
  readonly superblocks: Superblocks;
  readonly mapping: Mapping;
  readonly flash: Flash;

  private readonly requests: RequestTable;
  private readonly parameters: SsdParameters;
  private readonly parts: SsdParts;
  private readonly events: EventLanes;
  private readonly collector: Collector;
  private readonly readPath: ReadPath;
  private readonly writePath: WritePath;
  private readonly activity: Activity;
  private readonly smart: Smart;
  private readonly heat: Heat | null;
  private readonly arbiter: Arbiter;
  private readonly completions: Completions;
  private readonly controllerTime: ControllerTime;

  /** Commands in work, and the flush that waits for all of them to finish, or all others wait for. */
  private active = 0;
  private heldFlush: RequestSlot = noSlot;
  private isBarred = false;
  private firmwareFreeNs = 0;
  private isFetchSet = false;

  constructor(options: CreateSsdOptions) {
    const { parameters, requests } = options;
    this.requests = requests;
    this.parameters = parameters;
    this.arbiter = new Arbiter(parameters.queue.arbitration, requests.capacity);
    this.completions = new Completions(parameters.queue, requests);
    this.controllerTime = new ControllerTime(parameters.firmware, parameters.queue.maximumTransfer, requests);
    this.parts = createParts(options, this);
    this.breakdown = this.parts.breakdown;
    this.counters = this.parts.counters;
    this.geometry = this.parts.geometry;
    this.superblocks = this.parts.superblocks;
    this.mapping = this.parts.mapping;
    this.flash = this.parts.flash;
    this.events = this.parts.events;
    this.collector = this.parts.collector;
    this.readPath = this.parts.readPath;
    this.writePath = this.parts.writePath;
    this.activity = this.parts.activity;
    this.smart = this.parts.smart;
    this.heat = this.parts.heat;
  }

  arrive(slot: RequestSlot, nowNs: number): void {
    // What happens at this instant because of an earlier arrival happens first, however the host slices its calls.
    while (this.events.nextNs <= nowNs) this.step();
    if (this.requests.op[slot] === Op.read) this.mapping.expect(firstUnit(this.requests, slot));
    this.resetBreakdown(slot);
    this.activity.begin(nowNs);
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
        this.writePath.received(subject, nowNs);
        break;
      case Event.mapped:
        this.readPath.issue(subject, nowNs);
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
        if (this.activity.useIdleTime(nowNs)) {
          this.writePath.makeProgress(nowNs);
          this.activity.waitForIdle();
        }
        break;
      default:
        this.writePath.collect(nowNs);
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
    this.firmwareFreeNs = nowNs + controllerTime.busyNs(slot);
    // Of several commands made of one request the last decides.
    const laterNs = (controllerTime.commands(slot) - 1) * controllerTime.commandNs(slot);
    const overheadNs = this.latencyOf(slot) + laterNs + this.activity.takeWakeNs();
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

  /** A command has been decoded. */
  private serve(slot: RequestSlot, nowNs: number): void {
    const { requests } = this;
    switch (requests.op[slot]) {
      case Op.read:
        this.readPath.serve(slot, nowNs);
        break;
      case Op.write:
        this.writePath.admit(slot, nowNs);
        break;
      case Op.flush:
        this.writePath.flush(slot, nowNs);
        break;
      case Op.trim:
        this.unmap(slot);
        this.complete(slot, nowNs);
        break;
      default:
        if ((requests.flags[slot] & Flag.noHole) !== 0) {
          this.writePath.admit(slot, nowNs);
        } else {
          this.unmap(slot);
          this.complete(slot, nowNs);
        }
    }
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
    if (this.heat !== null) this.heat.warm(flash.arrayNs[op], nowNs);
    switch (flash.work[op]) {
      case Work.read:
        this.readPath.readDone(op, nowNs);
        break;
      case Work.mapRead:
        this.readPath.mapReadDone(op, nowNs);
        break;
      case Work.program:
      case Work.copyProgram:
        this.writePath.programDone(op, nowNs);
        break;
      case Work.copyRead:
        this.collector.copyRead(op, nowNs);
        this.writePath.makeProgress(nowNs);
        break;
      case Work.erase:
        this.collector.erased(op, nowNs);
        this.writePath.makeProgress(nowNs);
        break;
      default:
        break;
    }
  }

  complete(slot: RequestSlot, nowNs: number): void {
    const { breakdown } = this;
    this.active--;
    this.activity.end(nowNs);
    this.smart.count(slot);
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
    else if (this.active === 0) this.activity.waitForIdle();
  }

  health(nowNs: number): HealthLog {
    return this.smart.log(nowNs);
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

  /** Asserts what must hold whatever the drive has done: for tests. */
  checkConservation(nowNs: number): void {
    assertConservation(this.parts, this.parameters.flash, nowNs);
  }
}
