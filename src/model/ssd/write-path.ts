/**
 * The way of a write, and of a flush: into the buffer when there is room, over the link, complete when the data are in, or when
 * all that came before is on flash; and behind it, whenever something has changed, what lets data find their place.
 */
import { Flag, noSlot, Op, type RequestSlot, type RequestTable } from "../../base/request.js";
import type { Breakdown } from "../breakdown.js";
import type { EventLanes } from "../event-lanes.js";
import type { ModelObserver } from "../observer.js";
import { Ring } from "../ring.js";
import type { Collector } from "./collector.js";
import { Direction, type Link } from "./controller/link.js";
import type { SsdCounters } from "./counters.js";
import { Event } from "./events.js";
import { endUnit, firstUnit } from "./extent.js";
import { type Flash, Work } from "./flash.js";
import type { Frontiers } from "./frontiers.js";
import { unitBytes } from "./geometry.js";
import type { MapPages } from "./map-pages.js";
import { type Mapping, nowhere } from "./mapping.js";
import type { PageTimes } from "./page-times.js";
import type { SsdParameters } from "./schema.js";
import type { Wear } from "./wear.js";
import type { WriteBuffer } from "./write-buffer.js";

/** Who is told that a command is complete. */
export interface Commands {
  complete(slot: RequestSlot, nowNs: number): void;
}

export interface WritePathOptions {
  parameters: SsdParameters["writeBuffer"];
  /** Whether the drive has a cache the host must flush. */
  hasVolatileCache: boolean;
  requests: RequestTable;
  commands: Commands;
  events: EventLanes;
  breakdown: Breakdown;
  mapping: Mapping;
  /** Null for drives that hold their whole mapping. */
  mapPages: MapPages | null;
  frontiers: Frontiers;
  buffer: WriteBuffer;
  collector: Collector;
  flash: Flash;
  pageTimes: PageTimes;
  wear: Wear;
  link: Link;
  counters: SsdCounters;
  observer: ModelObserver | null;
  /** Flash operations that are kept for others. */
  reservedOperations: number;
}

export class WritePath {
  /** Writes that wait for room in the buffer. */
  private readonly stalled: Ring;
  /** By slot: since when it waits. */
  private readonly sinceNs: Float64Array;
  private isCollectSet = false;

  /** Whether an acknowledged write outlives a power cut as it is. */
  private readonly isProtected: boolean;
  private readonly isWriteThrough: boolean;
  private readonly flushNs: number;
  private readonly requests: RequestTable;
  private readonly commands: Commands;
  private readonly events: EventLanes;
  private readonly breakdown: Breakdown;
  private readonly mapping: Mapping;
  private readonly mapPages: MapPages | null;
  private readonly frontiers: Frontiers;
  private readonly buffer: WriteBuffer;
  private readonly collector: Collector;
  private readonly flash: Flash;
  private readonly pageTimes: PageTimes;
  private readonly wear: Wear;
  private readonly link: Link;
  private readonly counters: SsdCounters;
  private readonly observer: ModelObserver | null;
  private readonly reservedOperations: number;

  constructor(options: WritePathOptions) {
    const { powerLossProtection, acknowledge, flush } = options.parameters;
    const { capacity } = options.requests;
    this.stalled = new Ring(capacity);
    this.sinceNs = new Float64Array(capacity);
    this.isProtected = powerLossProtection;
    this.isWriteThrough = acknowledge === "late" || (!powerLossProtection && !options.hasVolatileCache);
    this.flushNs = flush;
    this.requests = options.requests;
    this.commands = options.commands;
    this.events = options.events;
    this.breakdown = options.breakdown;
    this.mapping = options.mapping;
    this.mapPages = options.mapPages;
    this.frontiers = options.frontiers;
    this.buffer = options.buffer;
    this.collector = options.collector;
    this.flash = options.flash;
    this.pageTimes = options.pageTimes;
    this.wear = options.wear;
    this.link = options.link;
    this.counters = options.counters;
    this.observer = options.observer;
    this.reservedOperations = options.reservedOperations;
  }

  /** Lets a write's data into the buffer, or has it wait for room. */
  admit(slot: RequestSlot, nowNs: number): void {
    this.sinceNs[slot] = nowNs;
    if (this.stalled.length === 0 && this.tryAdmit(slot, nowNs)) return;
    this.counters.stalledWrites++;
    this.stalled.push(slot);
    this.buffer.padIfStuck(nowNs);
  }

  private tryAdmit(slot: RequestSlot, nowNs: number): boolean {
    const { requests, link } = this;
    if (!this.buffer.admit(endUnit(requests, slot) - firstUnit(requests, slot))) return false;
    this.breakdown.cacheNs[slot] = nowNs - this.sinceNs[slot];
    const bytes = requests.op[slot] === Op.write ? requests.lengthBytes[slot] : 0;
    this.breakdown.transferNs[slot] = link.timeNs(bytes);
    const endNs = link.reserve(Direction.toDevice, bytes, nowNs);
    this.events.push(endNs + link.latencyNs, Event.received | slot);
    return true;
  }

  /** A write's data have come in. */
  received(slot: RequestSlot, nowNs: number): void {
    const { requests, buffer } = this;
    const first = firstUnit(requests, slot);
    const end = endUnit(requests, slot);
    this.readRest(slot, first, end, nowNs);
    this.mapPages?.change(first, end, nowNs);
    buffer.accept(first, end - first);
    const mustBeOnFlash =
      this.isWriteThrough || (!this.isProtected && (requests.flags[slot] & Flag.fua) !== 0);
    if (mustBeOnFlash) this.drain(slot, nowNs);
    else this.commands.complete(slot, nowNs);
    this.makeProgress(nowNs);
  }

  /** A flush has been decoded. */
  flush(slot: RequestSlot, nowNs: number): void {
    if (this.isProtected || this.buffer.isClean) this.commands.complete(slot, nowNs);
    else this.drain(slot, nowNs);
  }

  /** A program has ended. */
  programDone(op: number, nowNs: number): void {
    const { flash, buffer } = this;
    if (this.wear.programFails()) {
      // The spare block that takes the bad one's place is programmed with the same data, from the buffer.
      flash.repeat(op, nowNs);
      return;
    }
    this.frontiers.programmed(op);
    buffer.programmed(flash.amount[op]);
    this.observer?.level("write buffer", nowNs, buffer.used);
    this.makeProgress(nowNs);
  }

  /** Collection goes on looking, as it asked for. */
  collect(nowNs: number): void {
    this.isCollectSet = false;
    this.makeProgress(nowNs);
  }

  /** Something has changed: data may find their place, collection may go on, waiting commands may end. */
  makeProgress(nowNs: number): void {
    const { buffer, collector, stalled } = this;
    buffer.place(nowNs);
    collector.pump(nowNs);
    for (;;) {
      const slot = buffer.takeDrained();
      if (slot === noSlot) break;
      this.breakdown.cacheNs[slot] += nowNs - this.sinceNs[slot];
      this.breakdown.overheadNs[slot] += this.flushNs;
      this.events.push(nowNs + this.flushNs, Event.complete | slot);
    }
    while (stalled.length > 0 && this.tryAdmit(stalled.first, nowNs)) stalled.shift();
    if (stalled.length > 0) buffer.padIfStuck(nowNs);
    if (collector.continueAtNs !== Number.POSITIVE_INFINITY) {
      if (!this.isCollectSet) this.events.push(collector.continueAtNs, Event.collect);
      this.isCollectSet = true;
      collector.continueAtNs = Number.POSITIVE_INFINITY;
    }
  }

  private drain(slot: RequestSlot, nowNs: number): void {
    this.sinceNs[slot] = nowNs;
    this.buffer.drain(slot);
    this.makeProgress(nowNs);
  }

  /** Reads the rest of units that are written in part, beside the host's wait. */
  private readRest(slot: RequestSlot, first: number, end: number, nowNs: number): void {
    const { requests } = this;
    const startBytes = requests.offsetBytes[slot];
    const endBytes = startBytes + requests.lengthBytes[slot];
    if (startBytes !== first * unitBytes) this.readUnit(first, nowNs);
    if (endBytes !== end * unitBytes && (end - 1 > first || startBytes === first * unitBytes))
      this.readUnit(end - 1, nowNs);
  }

  private readUnit(unit: number, nowNs: number): void {
    const { mapping, pageTimes, flash } = this;
    const address = mapping.locate(unit);
    if (address === nowhere || this.frontiers.isBuffered(address)) return;
    if (flash.freeOps <= this.reservedOperations) return;
    pageTimes.locate(address);
    const op = flash.acquire(Work.sideRead, 0);
    flash.submit(op, pageTimes.die, pageTimes.plane, pageTimes.readNs, unitBytes, nowNs);
  }
}
