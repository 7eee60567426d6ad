/**
 * Garbage collection as a process: chooses a superblock, reads what is still valid in it stripe by stripe, places the
 * copies, and erases it on all dies. It runs beside the host's commands and competes with them for dies and channels.
 *
 * Above `background` free superblocks it sleeps. Below, it is paced: each unit the host writes allows, and demands, so many
 * copies that free space stays level, a little more the less is left. Below `forced`, and in idle time, it goes as fast as it can.
 * Reads are issued until as many copies are on their way as four program units per die hold.
 *
 * Once all copies of a superblock are read it is erased, although the last of them may still wait in the controller
 * for their program unit to fill. A drive without protection against power loss would have to fill it up first.
 */
import { assert } from "../../base/assert.js";
import type { ModelObserver } from "../observer.js";
import type { SsdCounters } from "./counters.js";
import { type Flash, Work } from "./flash.js";
import { type Frontiers, Stream } from "./frontiers.js";
import { type Geometry, unitBytes } from "./geometry.js";
import type { Mapping } from "./mapping.js";
import type { PageTimes } from "./page-times.js";
import type { SsdParameters } from "./schema.js";
import type { SlcCache } from "./slc-cache.js";
import { none, State, type Superblocks } from "./superblocks.js";
import type { Victims } from "./victims.js";
import type { Wear } from "./wear.js";

/** Superblocks being erased at once, at most. */
export const mostErasing = 4;

/**
 * How many stripes it looks at in one go, and how long the controller needs to look through so many entries of its map:
 * of the order of 100 ns each (unverified). In live time the bound keeps other requests from waiting for the look-up.
 */
const stripesAtOnce = 128;
const scanNs = 10_000;

/** Static wear levelling moves one superblock for so many erased, at most. */
const erasesPerLevelling = 8;

/** Free superblocks left before one is given up: one for the host, one for collection. */
const leastFreeToLose = 2;

/** Where collection keeps reads away: the longest time these have for themselves between two superblocks. */
const breatherNs = 1_000_000;

const Reason = Object.freeze({ space: 0, fold: 1, level: 2 });

const reasonNames = ["collect", "fold", "level wear of"];

export interface CollectorOptions {
  parameters: SsdParameters;
  geometry: Geometry;
  superblocks: Superblocks;
  mapping: Mapping;
  frontiers: Frontiers;
  flash: Flash;
  victims: Victims;
  pageTimes: PageTimes;
  slcCache: SlcCache;
  wear: Wear;
  counters: SsdCounters;
  observer: ModelObserver | null;
  operations: number;
}

export class Collector {
  /** Set while the drive has had nothing to do for long enough. */
  isIdleTime = false;
  /** When it wants to be called again, beside after every change; the caller sets it back to Infinity. */
  continueAtNs = Number.POSITIVE_INFINITY;
  /** Set while it has had nothing to do for long enough to fold the SLC cache. */
  isFoldTime = false;
  /** Superblocks being copied or erased. */
  private inWork = 0;
  private erasing = 0;
  /** Enough was erased since wear was last looked at. */
  private levelWanted = false;
  private lastEndNs = 0;
  /** Where copies go. */
  private stream = 0;
  private victim: number = none;
  private cursor = 0;
  private isPaced = false;
  /** Copies the host's writes have allowed and that are not yet made. */
  private tokens = 0;
  private tokensPerUnit = 0;
  private reading = 0;
  private readonly readsOf: Int32Array;
  private readonly erasesLeft: Int32Array;
  private readonly sinceNs: Float64Array;
  /** Units of each copy read, by operation. */
  private readonly unitsOfOp: Uint32Array;
  private readonly placesOfOp: Uint8Array;
  private readonly mostCopies: number;
  /** How far copies may fall behind what the host's writes allow. */
  private readonly mostTokens: number;

  private readonly gc: SsdParameters["gc"];
  /** Places it reads at once: a page of every plane, or of one. */
  private readonly readUnits: number;
  private readonly eraseNs: number;
  private readonly geometry: Geometry;
  private readonly superblocks: Superblocks;
  private readonly mapping: Mapping;
  private readonly frontiers: Frontiers;
  private readonly flash: Flash;
  private readonly victims: Victims;
  private readonly pageTimes: PageTimes;
  private readonly slcCache: SlcCache;
  private readonly wear: Wear;
  /** Why each superblock is collected, and whether an erase has failed for good. */
  private readonly reason: Uint8Array;
  private readonly isLost: Uint8Array;
  private readonly counters: SsdCounters;
  private readonly observer: ModelObserver | null;

  constructor(options: CollectorOptions) {
    const { parameters, geometry } = options;
    this.gc = parameters.gc;
    this.readUnits = parameters.gc.blocking === "plane" ? geometry.pageUnits : geometry.stripeUnits;
    this.eraseNs = parameters.flash.erase;
    this.geometry = geometry;
    this.superblocks = options.superblocks;
    this.mapping = options.mapping;
    this.frontiers = options.frontiers;
    this.flash = options.flash;
    this.victims = options.victims;
    this.pageTimes = options.pageTimes;
    this.slcCache = options.slcCache;
    this.wear = options.wear;
    this.reason = new Uint8Array(geometry.superblocks);
    this.isLost = new Uint8Array(geometry.superblocks);
    this.counters = options.counters;
    this.observer = options.observer;
    this.readsOf = new Int32Array(geometry.superblocks);
    this.erasesLeft = new Int32Array(geometry.superblocks);
    this.sinceNs = new Float64Array(geometry.superblocks);
    this.unitsOfOp = new Uint32Array(options.operations * geometry.stripeUnits);
    this.placesOfOp = new Uint8Array(options.operations * geometry.stripeUnits);
    this.mostCopies = Collector.mostCopies(geometry);
    this.mostTokens = this.mostCopies;
  }

  /** Units on their way at once: what keeps all dies busy, but no more than half a superblock. */
  static mostCopies({ dies, programUnits, stripeUnits, superblockUnits }: Geometry): number {
    return Math.min(4 * dies * programUnits, Math.max(dies * stripeUnits, superblockUnits / 2));
  }

  /** Operations it can have under way. */
  static mostOperations(geometry: Geometry): number {
    // A copy read holds one unit or more; erases are of whole superblocks.
    return Collector.mostCopies(geometry) + (mostErasing + 1) * geometry.dies;
  }

  /** Whether the host may place another unit without taking from collection what it needs to go on. */
  hostMayPlace(stream: number): boolean {
    const { frontiers, superblocks, geometry, slcCache } = this;
    if (stream === Stream.slc && slcCache.isFull()) return false;
    // Pacing holds both ways: a host that writes faster than copies are made waits for them.
    if (this.victim !== none && this.isPaced && this.tokens >= this.mostTokens) return false;
    if (!frontiers.isShared || stream === Stream.slc) {
      if (frontiers.roomIn(stream) > 0) return true;
      // One superblock stays for the next collection, and what the present ones still need.
      const lacking = this.reading + this.copiesLeftToRead() - frontiers.roomIn(this.stream);
      const needed = Math.max(1, Math.ceil(lacking / geometry.superblockUnits));
      return superblocks.freeCount > needed;
    }
    const room = frontiers.roomIn(stream) + superblocks.freeCount * geometry.superblockUnits;
    return room - this.reading - this.copiesLeftToRead() > geometry.superblockUnits;
  }

  /** The host has written a unit: allows copies. */
  allow(): void {
    this.tokens = Math.min(this.tokens + this.tokensPerUnit, this.mostTokens);
  }

  /** Does what can be done now. */
  pump(nowNs: number): void {
    for (;;) {
      if (this.victim === none && !this.begin(nowNs)) return;
      if (!this.copyOn(nowNs)) return;
    }
  }

  /** A stripe of a superblock has been read. */
  copyRead(op: number, nowNs: number): void {
    const { flash, mapping, frontiers, counters, unitsOfOp, placesOfOp } = this;
    const superblock = flash.owner[op];
    const first = op * this.geometry.stripeUnits;
    const units = flash.amount[op];
    const stream = this.streamFor(superblock);
    // What the host has overwritten meanwhile needs no copy.
    const place = flash.address[op] - superblock * this.geometry.superblockUnits;
    const copied = mapping.keepValid(superblock, place, units, unitsOfOp, placesOfOp, first);
    for (let i = 0; i < copied; i++) frontiers.put(stream, unitsOfOp[first + i], superblock, false, nowNs);
    switch (this.reason[superblock]) {
      case Reason.fold:
        counters.folded += copied;
        break;
      case Reason.level:
        counters.levelled += copied;
        break;
      default:
        counters.copied += copied;
    }
    this.reading -= units;
    if (--this.readsOf[superblock] === 0 && superblock !== this.victim) this.erase(superblock, nowNs);
  }

  /** A die has erased its share of a superblock. */
  erased(op: number, nowNs: number): void {
    const superblock = this.flash.owner[op];
    if (this.wear.eraseLoses()) this.isLost[superblock] = 1;
    if (--this.erasesLeft[superblock] > 0) return;
    this.mapping.forget(superblock);
    this.slcCache.erased(superblock);
    // One that nothing can do without just now is lost after its next erase.
    const isLost = this.isLost[superblock] === 1 && this.superblocks.freeCount >= leastFreeToLose;
    this.superblocks.release(superblock, isLost);
    if (isLost) this.counters.retired++;
    this.counters.erased++;
    if (this.counters.erased % erasesPerLevelling === 0) this.levelWanted = true;
    this.erasing--;
    this.inWork--;
    this.lastEndNs = nowNs;
    this.observer?.span(
      "gc",
      0,
      `${reasonNames[this.reason[superblock]]} ${superblock}`,
      this.sinceNs[superblock],
      nowNs,
    );
    this.observer?.level("free superblocks", nowNs, this.superblocks.freeCount);
  }

  private streamFor(superblock: number): number {
    return this.reason[superblock] === Reason.level ? Stream.level : this.frontiers.copyStream(superblock);
  }

  private get isUrgent(): boolean {
    // Writes that wait for folding allow no copies, so nothing paced may stand before it.
    if (this.isIdleTime || this.slcCache.mustFold || this.superblocks.freeCount <= this.gc.forced)
      return true;
    return this.isFoldTime && this.victim !== none && this.reason[this.victim] === Reason.fold;
  }

  /** Copies still to be read, at most: of those being read some are counted twice. */
  private copiesLeftToRead(): number {
    return this.victim === none ? 0 : this.superblocks.valid[this.victim];
  }

  /** Chooses the next superblock, if one is wanted. */
  private begin(nowNs: number): boolean {
    const { superblocks, frontiers, gc, geometry } = this;
    if (this.erasing >= mostErasing || !this.mayBlock(nowNs)) return false;
    const superblock = this.choose(nowNs);
    if (superblock === none) return false;
    const valid = superblocks.valid[superblock];
    const stream = this.streamFor(superblock);
    // Copies for another stream are under way: both could need the last free superblock.
    if (this.reading > 0 && stream !== this.stream) return false;
    const room = frontiers.roomIn(stream) + superblocks.freeCount * geometry.superblockUnits;
    if (valid + this.reading > room) return false;
    this.stream = stream;
    superblocks.state[superblock] = State.collecting;
    frontiers.noteLifetime(superblock);
    this.inWork++;
    this.counters.collected++;
    this.victim = superblock;
    this.cursor = 0;
    this.sinceNs[superblock] = nowNs;
    const { pacing } = gc;
    if (pacing === "auto") {
      const level = valid / Math.max(1, geometry.superblockUnits - valid);
      const lack = (gc.background - superblocks.freeCount) / (gc.background - gc.forced);
      this.tokensPerUnit = level * (0.75 + 0.5 * lack) + 0.01;
    } else {
      this.tokensPerUnit = pacing;
    }
    this.isPaced = pacing !== 0;
    return true;
  }

  /** Whether reads of the host may be kept away again: between two superblocks they have the media for themselves. */
  private mayBlock(nowNs: number): boolean {
    // By plane, reads have their turn between any two of its operations.
    if (this.gc.blocking === "none" || this.gc.blocking === "plane") return true;
    if (this.inWork > 0) return false;
    if (nowNs >= this.lastEndNs + breatherNs || !this.flash.hasWaitingReads) return true;
    this.continueAtNs = this.lastEndNs + breatherNs;
    return false;
  }

  /** The superblock to collect next, and why; `none` if nothing has to be. */
  private choose(nowNs: number): number {
    const { superblocks, frontiers, gc, slcCache } = this;
    const wanted = this.isIdleTime ? Math.max(gc.background, gc.idleTarget) : gc.background;
    const isShort = superblocks.freeCount + this.inWork < wanted;
    const mayFold = this.isFoldTime || slcCache.mustFold;
    let superblock: number = none;
    if (isShort) {
      superblock = this.victims.choose(frontiers.placed);
      if (superblock !== none) this.reason[superblock] = Reason.space;
    }
    if (superblocks.slcCount > 0 && (isShort || mayFold)) {
      let slc = superblocks.oldestSlc();
      if (slc === none && this.isFoldTime) {
        frontiers.closeSlc(nowNs);
        slc = superblocks.oldestSlc();
      }
      // Folding frees more than it takes; for space alone it must beat the best other superblock.
      const isBetter =
        slc !== none &&
        (mayFold || superblock === none || superblocks.valid[slc] < superblocks.valid[superblock]);
      if (isBetter) {
        this.reason[slc] = Reason.fold;
        return slc;
      }
    }
    if (superblock === none && this.levelWanted && this.reading === 0) {
      this.levelWanted = false;
      const cold = superblocks.leastWorn();
      if (cold !== none && this.wear.isUneven(cold)) {
        this.reason[cold] = Reason.level;
        return cold;
      }
    }
    return superblock;
  }

  /** Issues reads of the superblock under collection; false when it must wait. */
  private copyOn(nowNs: number): boolean {
    const { geometry, superblocks, mapping, flash, unitsOfOp, placesOfOp, victim } = this;
    const { readUnits } = this;
    const firstAddress = victim * geometry.superblockUnits;
    let stripes = 0;
    const end = this.frontiers.unitsOf(victim);
    while (this.cursor < end && superblocks.valid[victim] > 0) {
      if (this.reading + this.frontiers.copiesPending >= this.mostCopies) return false;
      if (this.isPaced && this.tokens <= 0 && !this.isUrgent) return false;
      if (stripes++ === stripesAtOnce) {
        this.continueAtNs = nowNs + scanNs;
        return false;
      }
      const address = firstAddress + this.cursor;
      this.cursor += readUnits;
      const op = flash.acquire(Work.copyRead, victim);
      const row = op * geometry.stripeUnits;
      const units = mapping.listValid(victim, address - firstAddress, readUnits, unitsOfOp, placesOfOp, row);
      if (units === 0) {
        flash.discard(op);
        continue;
      }
      flash.address[op] = address;
      flash.amount[op] = units;
      this.reading += units;
      if (this.reason[victim] === Reason.space) this.tokens -= units;
      this.readsOf[victim]++;
      const { pageTimes } = this;
      pageTimes.locate(address);
      flash.submit(op, pageTimes.die, pageTimes.plane, pageTimes.readNs, units * unitBytes, nowNs);
    }
    this.victim = none;
    if (this.readsOf[victim] === 0) this.erase(victim, nowNs);
    return true;
  }

  private erase(superblock: number, nowNs: number): void {
    const { geometry, flash } = this;
    assert(this.superblocks.valid[superblock] === 0, "what is erased has been copied");
    this.superblocks.state[superblock] = State.erasing;
    this.erasing++;
    this.erasesLeft[superblock] = geometry.dies;
    for (let die = 0; die < geometry.dies; die++) {
      flash.submit(flash.acquire(Work.erase, superblock), die, 0, this.eraseNs, 0, nowNs);
    }
  }
}
