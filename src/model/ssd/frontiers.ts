/**
 * Write frontiers: where the next unit of each stream goes. Data that will die together shall lie together, so each
 * stream has a superblock of its own open; what it fills, program unit by program unit, goes to the dies in turn.
 *
 * Which stream host data belong to can be told from how long the data lived that they replace: if they died younger than
 * the average superblock gets before it is collected, their successor will probably die young too (SepBIT: Wang et
 * al., "Separating Data via Block Invalidation Time Inference", FAST'22).
 *
 * A unit takes its address when it enters the buffer's current program unit, before it is on flash. Until the program
 * has ended a read finds it in the buffer.
 */
import { assert } from "../../base/assert.js";
import type { SsdCounters } from "./counters.js";
import { type Flash, Work } from "./flash.js";
import { type Geometry, unitBytes } from "./geometry.js";
import { type Mapping, nowhere } from "./mapping.js";
import type { SsdParameters } from "./schema.js";
import type { SlcCache } from "./slc-cache.js";
import { none, type Superblocks } from "./superblocks.js";

export const Stream = Object.freeze({
  /** Data of the host; where lifetimes are told apart, those that die young. */
  host: 0,
  /** Data of the host that live long. */
  cold: 1,
  /** What collection copies. */
  copy: 2,
  /** The SLC cache. */
  slc: 3,
  /** Copies of data that were taken to die young, where lifetimes are told apart. */
  warm: 4,
  /** What wear levelling moves to worn superblocks, because it is seldom written. */
  level: 5,
});

const streams = 6;

export interface FrontiersOptions {
  parameters: SsdParameters;
  geometry: Geometry;
  superblocks: Superblocks;
  mapping: Mapping;
  flash: Flash;
  counters: SsdCounters;
  slcCache: SlcCache;
}

export class Frontiers {
  /** Programs with data of the host that are under way. */
  hostPrograms = 0;
  /** Copies that are not yet on flash. */
  copiesPending = 0;
  /** Units the host has had placed. */
  placed = 0;
  /** Units sent to flash, whatever they hold. */
  sent = 0;
  /** Number of the last program with data of the host. */
  lastSequence = 0;

  private readonly superblock = new Int32Array(streams).fill(none);
  /** Next place in the superblock, and where the current program unit begins and ends. */
  private readonly place = new Float64Array(streams);
  private readonly first = new Float64Array(streams);
  private readonly end = new Float64Array(streams);
  /** What the current program unit holds. */
  private readonly hostHeld = new Int32Array(streams);
  private readonly copiesHeld = new Int32Array(streams);
  /** Program units that are on flash, by number over the whole device; asked only of superblocks with some pending. */
  private readonly isProgrammed: Uint8Array;
  /** Sequences that ended before an earlier one, by sequence modulo the length, a power of two. */
  private hasEnded: Uint8Array;
  private endedUpTo = 0;
  /** Mean age at which superblocks of the host were collected, in units the host has written. */
  private meanLifetime = Number.POSITIVE_INFINITY;

  private readonly geometry: Geometry;
  private readonly superblocks: Superblocks;
  private readonly mapping: Mapping;
  private readonly flash: Flash;
  private readonly counters: SsdCounters;
  private readonly slcCache: SlcCache;
  private readonly kind: SsdParameters["ftl"]["streams"];
  private readonly programNs: number;
  private readonly slcProgramNs: number;

  constructor(options: FrontiersOptions, mostPrograms: number) {
    const { parameters, geometry } = options;
    this.geometry = geometry;
    this.superblocks = options.superblocks;
    this.mapping = options.mapping;
    this.flash = options.flash;
    this.counters = options.counters;
    this.slcCache = options.slcCache;
    this.kind = parameters.ftl.streams;
    this.programNs = parameters.flash.program;
    this.slcProgramNs = parameters.flash.slcMode.program;
    this.isProgrammed = new Uint8Array(geometry.superblocks * geometry.programsPerSuperblock);
    this.hasEnded = new Uint8Array(2 ** Math.ceil(Math.log2(mostPrograms + streams + 1)));
  }

  get isShared(): boolean {
    return this.kind === "one";
  }

  /** Units that can be placed in a stream before it needs another superblock. */
  roomIn(stream: number): number {
    const superblock = this.superblock[stream];
    return superblock === none ? 0 : this.unitsOf(superblock) - this.place[stream];
  }

  /** The stream for copies of what a superblock holds. */
  copyStream(superblock: number): number {
    if (this.isShared) return Stream.host;
    const isYoung = this.kind === "lifetime" && this.superblocks.stream[superblock] === Stream.host;
    return isYoung ? Stream.warm : Stream.copy;
  }

  /** The stream for data of the host that replace those at `before`, or none. */
  hostStream(before: number): number {
    if (this.slcCache.exists && this.slcCache.takes(this.roomIn(Stream.slc))) return Stream.slc;
    if (this.kind !== "lifetime") return Stream.host;
    if (before === nowhere) return Stream.cold;
    const superblock = Math.floor(before / this.geometry.superblockUnits);
    // What has survived a collection has lived long, unless that came early; of the rest the superblock's age is the
    // unit's, or a little more.
    const stream = this.superblocks.stream[superblock];
    if (stream === Stream.copy) return Stream.cold;
    if (stream === Stream.warm) return Stream.host;
    const age = this.placed - this.superblocks.openedAt[superblock];
    return age < this.meanLifetime ? Stream.host : Stream.cold;
  }

  /** Collection has chosen a superblock: learns how long data live that are taken to die young. */
  noteLifetime(superblock: number): void {
    if (this.superblocks.stream[superblock] !== Stream.host) return;
    const age = this.placed - this.superblocks.openedAt[superblock];
    if (this.meanLifetime === Number.POSITIVE_INFINITY) this.meanLifetime = age;
    // The mean of about the last sixteen, as in SepBIT.
    else this.meanLifetime += (age - this.meanLifetime) / 16;
  }

  /** Whether the unit is in the program unit a stream is filling. */
  isBeingFilled(stream: number, address: number): boolean {
    const superblock = this.superblock[stream];
    if (superblock === none) return false;
    const place = address - superblock * this.geometry.superblockUnits;
    return place >= this.first[stream] && place < this.place[stream];
  }

  /** Whether data at an address are still in the buffer. */
  isBuffered(address: number): boolean {
    return this.isBufferedIn(Math.floor(address / this.geometry.superblockUnits), address);
  }

  /** The same for who knows the address's superblock. */
  isBufferedIn(superblock: number, address: number): boolean {
    if (this.superblocks.pending[superblock] === 0) return false;
    const { geometry } = this;
    const place = address - superblock * geometry.superblockUnits;
    const program = Math.floor(place / this.programUnitsOf(superblock));
    return this.isProgrammed[superblock * geometry.programsPerSuperblock + program] === 0;
  }

  /** Units that have a place and are not yet sent to flash. */
  get unsent(): number {
    let units = 0;
    for (let stream = 0; stream < streams; stream++) units += this.place[stream] - this.first[stream];
    return units;
  }

  /** Places a unit, whose data are in superblock `before` as yet, at the end of a stream. There must be room, or a free superblock. */
  put(stream: number, unit: number, before: number, isHost: boolean, nowNs: number): void {
    if (this.superblock[stream] === none) this.openSuperblock(stream);
    const superblock = this.superblock[stream];
    if (this.place[stream] === this.first[stream]) this.beginProgram(stream);
    const address = superblock * this.geometry.superblockUnits + this.place[stream]++;
    this.mapping.assign(unit, address, superblock, before);
    if (stream === Stream.slc) this.slcCache.wrote(address);
    if (isHost) {
      this.hostHeld[stream]++;
      this.placed++;
      this.counters.programmed++;
    } else {
      this.copiesHeld[stream]++;
      this.copiesPending++;
    }
    if (this.place[stream] === this.end[stream]) this.program(stream, nowNs);
  }

  /** Sends what program units hold of the host's data to flash, filled up with nothing. */
  pad(nowNs: number): void {
    for (let stream = 0; stream < streams; stream++) {
      if (this.hostHeld[stream] === 0) continue;
      this.counters.padding += this.end[stream] - this.place[stream];
      this.place[stream] = this.end[stream];
      this.program(stream, nowNs);
    }
  }

  /** A program of the array has ended. */
  programmed(op: number): void {
    const { flash, superblocks, geometry } = this;
    const superblock = flash.owner[op];
    const place = flash.address[op] - superblock * geometry.superblockUnits;
    const program = Math.floor(place / this.programUnitsOf(superblock));
    this.isProgrammed[superblock * geometry.programsPerSuperblock + program] = 1;
    superblocks.pending[superblock]--;
    this.copiesPending -= flash.copies[op];
    if (flash.amount[op] === 0) return;
    this.hostPrograms--;
    const { hasEnded } = this;
    const mask = hasEnded.length - 1;
    hasEnded[flash.sequence[op] & mask] = 1;
    while (hasEnded[(this.endedUpTo + 1) & mask] === 1) hasEnded[++this.endedUpTo & mask] = 0;
  }

  /**
   * So few programs are under way at once, but one of them may be held up, by reads that go first on its die, while any number of
   * later ones end.
   */
  private widen(): void {
    const { hasEnded, endedUpTo } = this;
    const wider = new Uint8Array(2 * hasEnded.length);
    for (let i = 1; i <= hasEnded.length; i++) {
      wider[(endedUpTo + i) & (wider.length - 1)] = hasEnded[(endedUpTo + i) & (hasEnded.length - 1)];
    }
    this.hasEnded = wider;
  }

  /** Whether all programs with data of the host, up to the one of this number, have ended. */
  isOnFlash(sequence: number): boolean {
    return this.endedUpTo >= sequence;
  }

  /** Closes the SLC superblock being written, so that it can be folded. */
  closeSlc(nowNs: number): void {
    const stream = Stream.slc;
    const superblock = this.superblock[stream];
    if (superblock === none || this.place[stream] === 0) return;
    if (this.hostHeld[stream] > 0) {
      this.counters.padding += this.end[stream] - this.place[stream];
      this.place[stream] = this.end[stream];
      this.program(stream, nowNs);
    }
    if (this.superblock[stream] === none) return;
    this.superblocks.close(superblock, this.placed);
    this.superblock[stream] = none;
  }

  /** Units a superblock has places for. */
  unitsOf(superblock: number): number {
    const { geometry } = this;
    return this.superblocks.isSlc[superblock] === 1 ? geometry.slcSuperblockUnits : geometry.superblockUnits;
  }

  private programUnitsOf(superblock: number): number {
    const { geometry } = this;
    return this.superblocks.isSlc[superblock] === 1 ? geometry.slcProgramUnits : geometry.programUnits;
  }

  private openSuperblock(stream: number): void {
    const { programsPerSuperblock } = this.geometry;
    const superblock = this.superblocks.open(
      stream,
      stream === Stream.slc,
      this.placed,
      stream === Stream.level,
    );
    this.superblock[stream] = superblock;
    this.place[stream] = 0;
    this.first[stream] = 0;
    this.isProgrammed.fill(0, superblock * programsPerSuperblock, (superblock + 1) * programsPerSuperblock);
  }

  private beginProgram(stream: number): void {
    const superblock = this.superblock[stream];
    this.end[stream] = this.first[stream] + this.programUnitsOf(superblock);
    this.superblocks.pending[superblock]++;
  }

  private program(stream: number, nowNs: number): void {
    const { flash, geometry } = this;
    const superblock = this.superblock[stream];
    const isSlc = this.superblocks.isSlc[superblock] === 1;
    const units = isSlc ? geometry.slcProgramUnits : geometry.programUnits;
    const hostHeld = this.hostHeld[stream];
    assert(this.end[stream] - this.first[stream] === units, "a program writes whole wordlines");
    const op = flash.acquire(hostHeld > 0 ? Work.program : Work.copyProgram, superblock);
    flash.address[op] = superblock * geometry.superblockUnits + this.first[stream];
    flash.amount[op] = hostHeld;
    flash.copies[op] = this.copiesHeld[stream];
    if (hostHeld > 0) {
      flash.sequence[op] = ++this.lastSequence;
      if (this.lastSequence - this.endedUpTo >= this.hasEnded.length) this.widen();
      this.hostPrograms++;
    }
    const die = (this.first[stream] / units) % geometry.dies;
    this.sent += units;
    this.hostHeld[stream] = 0;
    this.copiesHeld[stream] = 0;
    this.first[stream] = this.place[stream];
    if (this.place[stream] === this.unitsOf(superblock)) {
      this.superblocks.close(superblock, this.placed);
      this.superblock[stream] = none;
    }
    flash.submit(op, die, 0, isSlc ? this.slcProgramNs : this.programNs, units * unitBytes, nowNs);
  }
}
