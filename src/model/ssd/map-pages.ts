/**
 * The pages of the mapping on flash, for drives that cannot hold all of them: read when a command needs one that is not at
 * hand, and written when changed ones had to go (`map-cache.ts` says which).
 */
import type { RequestSlot } from "../../base/request.js";
import type { SsdCounters } from "./counters.js";
import { type Flash, Work } from "./flash.js";
import { type Geometry, unitBytes } from "./geometry.js";
import type { MapCache } from "./map-cache.js";
import type { PageTimes } from "./page-times.js";

export interface MapPagesOptions {
  cache: MapCache;
  /** Time to look up what is at hand. */
  hitNs: number;
  geometry: Geometry;
  flash: Flash;
  pageTimes: PageTimes;
  programNs: number;
  counters: SsdCounters;
  /** Flash operations that are kept for others. */
  reservedOperations: number;
}

export class MapPages {
  readonly hitNs: number;
  private readonly cache: MapCache;
  private readonly geometry: Geometry;
  private readonly flash: Flash;
  private readonly pageTimes: PageTimes;
  private readonly programNs: number;
  private readonly counters: SsdCounters;
  private readonly reservedOperations: number;

  constructor(options: MapPagesOptions) {
    this.hitNs = options.hitNs;
    this.cache = options.cache;
    this.geometry = options.geometry;
    this.flash = options.flash;
    this.pageTimes = options.pageTimes;
    this.programNs = options.programNs;
    this.counters = options.counters;
    this.reservedOperations = options.reservedOperations;
  }

  /** Gets the pages of units `first` up to `end` for a read; returns how many it must wait for. */
  fetch(slot: RequestSlot, first: number, end: number, nowNs: number): number {
    const { cache, flash } = this;
    let reads = 0;
    const last = cache.pageOfUnit(end - 1);
    for (let page = cache.pageOfUnit(first); page <= last; page++) {
      if (cache.touch(page, false) || flash.freeOps <= this.reservedOperations) continue;
      this.counters.mapReads++;
      reads++;
      this.read(Work.mapRead, slot, page, nowNs);
    }
    this.writeBack(nowNs);
    return reads;
  }

  /** Units `first` up to `end` are written: their pages change. Nobody waits for those that are not at hand. */
  change(first: number, end: number, nowNs: number): void {
    const { cache, flash } = this;
    for (let page = cache.pageOfUnit(first); page <= cache.pageOfUnit(end - 1); page++) {
      if (cache.touch(page, true)) continue;
      this.counters.mapReads++;
      if (flash.freeOps > this.reservedOperations) this.read(Work.sideRead, 0, page, nowNs);
    }
    this.writeBack(nowNs);
  }

  /** Reads a page from flash. Where these lie is spread over the dies. */
  private read(work: number, owner: number, page: number, nowNs: number): void {
    const { flash, geometry } = this;
    const op = flash.acquire(work, owner);
    flash.amount[op] = 0;
    flash.submit(op, page % geometry.dies, 0, this.pageTimes.firstReadNs, unitBytes, nowNs);
  }

  /** Writes changed pages that were evicted, a program unit of them at a time. */
  private writeBack(nowNs: number): void {
    const { cache, geometry, flash, counters } = this;
    if (flash.freeOps <= this.reservedOperations) return;
    while (cache.evictedDirty >= geometry.programUnits) {
      cache.evictedDirty -= geometry.programUnits;
      const die = (counters.mapWrites / geometry.programUnits) % geometry.dies;
      counters.mapWrites += geometry.programUnits;
      const op = flash.acquire(Work.sideProgram, 0);
      flash.submit(op, die, 0, this.programNs, geometry.programUnits * unitBytes, nowNs);
    }
  }
}
