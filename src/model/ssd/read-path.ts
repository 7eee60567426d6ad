/**
 * The way of a read: looked up in the mapping it becomes one flash operation per page, whose data go over channel and link as
 * they come. What waits in the write buffer, and what was never written or was trimmed, needs no flash.
 *
 * Flash operations are many, but not endless: a read that finds none waits for another's to end.
 */
import type { RequestSlot, RequestTable } from "../../base/request.js";
import type { Breakdown } from "../breakdown.js";
import type { EventLanes } from "../event-lanes.js";
import { Ring } from "../ring.js";
import { Direction, type Link } from "./controller/link.js";
import type { SsdCounters } from "./counters.js";
import { Event, orderlyKinds } from "./events.js";
import { bytesWithin, endUnit, firstUnit } from "./extent.js";
import { type Flash, Work } from "./flash.js";
import type { Frontiers } from "./frontiers.js";
import { type Geometry, unitBytes } from "./geometry.js";
import type { MapPages } from "./map-pages.js";
import { type Mapping, nowhere } from "./mapping.js";
import type { PageTimes } from "./page-times.js";
import type { Wear } from "./wear.js";

export interface ReadPathOptions {
  requests: RequestTable;
  events: EventLanes;
  breakdown: Breakdown;
  geometry: Geometry;
  mapping: Mapping;
  /** Null for drives that hold their whole mapping. */
  mapPages: MapPages | null;
  frontiers: Frontiers;
  flash: Flash;
  pageTimes: PageTimes;
  wear: Wear;
  link: Link;
  counters: SsdCounters;
  /** Flash operations that are kept for others. */
  reservedOperations: number;
}

export class ReadPath {
  /** Reads that wait for flash operations. */
  private readonly starved: Ring;
  /** By slot: the next unit to read, reads under way, and when the last data have come over. */
  private readonly cursor: Float64Array;
  private readonly readsLeft: Int32Array;
  private readonly endNs: Float64Array;

  private readonly requests: RequestTable;
  private readonly events: EventLanes;
  private readonly breakdown: Breakdown;
  private readonly geometry: Geometry;
  private readonly mapping: Mapping;
  private readonly mapPages: MapPages | null;
  private readonly frontiers: Frontiers;
  private readonly flash: Flash;
  private readonly pageTimes: PageTimes;
  private readonly wear: Wear;
  private readonly link: Link;
  private readonly counters: SsdCounters;
  private readonly reservedOperations: number;

  constructor(options: ReadPathOptions) {
    const { capacity } = options.requests;
    this.starved = new Ring(capacity);
    this.cursor = new Float64Array(capacity);
    this.readsLeft = new Int32Array(capacity);
    this.endNs = new Float64Array(capacity);
    this.requests = options.requests;
    this.events = options.events;
    this.breakdown = options.breakdown;
    this.geometry = options.geometry;
    this.mapping = options.mapping;
    this.mapPages = options.mapPages;
    this.frontiers = options.frontiers;
    this.flash = options.flash;
    this.pageTimes = options.pageTimes;
    this.wear = options.wear;
    this.link = options.link;
    this.counters = options.counters;
    this.reservedOperations = options.reservedOperations;
  }

  /** A read has been decoded. */
  serve(slot: RequestSlot, nowNs: number): void {
    const first = firstUnit(this.requests, slot);
    this.cursor[slot] = first;
    // One more than are under way, until all have been started.
    this.readsLeft[slot] = 1;
    this.endNs[slot] = nowNs;
    const { mapPages } = this;
    if (mapPages === null) {
      this.issue(slot, nowNs);
      return;
    }
    // One that finds all it needs at hand waits for the look-up only; the others go on when the last page has come.
    const missing = mapPages.fetch(slot, first, endUnit(this.requests, slot), nowNs);
    if (missing > 0) {
      this.readsLeft[slot] = missing;
      return;
    }
    this.breakdown.overheadNs[slot] += mapPages.hitNs;
    if (mapPages.hitNs === 0) this.issue(slot, nowNs);
    else this.events.push(nowNs + mapPages.hitNs, Event.mapped | slot);
  }

  /** A page of the mapping has come. */
  mapReadDone(op: number, nowNs: number): void {
    const slot = this.flash.owner[op];
    if (--this.readsLeft[slot] > 0) return;
    this.readsLeft[slot] = 1;
    this.issue(slot, nowNs);
  }

  /** Starts a flash operation for each page a read needs; what is not on flash goes out at once. */
  issue(slot: RequestSlot, nowNs: number): void {
    const { requests, mapping, pageTimes, flash, counters, geometry } = this;
    const end = endUnit(requests, slot);
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
        readyBytes += bytesWithin(requests, slot, unit, next);
      } else if (this.frontiers.isBufferedIn(pageTimes.superblock, address)) {
        counters.bufferHits++;
        readyBytes += bytesWithin(requests, slot, unit, next);
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
        flash.amount[op] = bytesWithin(requests, slot, unit, next);
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

  /** A page has come from flash. */
  readDone(op: number, nowNs: number): void {
    const { flash, link, breakdown } = this;
    const slot = flash.owner[op];
    const bytes = flash.amount[op];
    this.endNs[slot] = Math.max(this.endNs[slot], link.reserve(Direction.toHost, bytes, nowNs));
    breakdown.mediaNs[slot] = flash.arrayNs[op];
    breakdown.transferNs[slot] = flash.transferNs(flash.bytes[op]) + link.timeNs(bytes);
    this.readEnded(slot);
    if (this.starved.length > 0) this.issue(this.starved.shift(), nowNs);
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
}
