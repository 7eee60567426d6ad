/**
 * Page mapping: which unit of the host lies where on flash, and what is valid there. The state is real, page by page.
 *
 * Memory is the concern: 4 bytes per unit forward, and 3 bytes per unit of flash back, which name the host's unit but
 * for its lowest bits. Those are found by looking at the few forward entries in question, in one cache line, and the
 * forward entry also tells whether the data there are still valid. Arrays are filled with zeroes by the operating system
 * when first touched, so nothing is held for what was never written; a forward entry of zero means "as the layout
 * says", and the layout of a drive that was preconditioned is a formula (`layout.ts`).
 *
 * Speed is a matter of memory as well: an entry of a large device lies neither in a cache nor behind an address that was
 * translated lately, and waiting for it takes as long as all else a request is simulated with. So a bit per unit, all of
 * which are near, tells of entries that need not be looked at, and copies ask for theirs many at a time.
 */

import type { Geometry } from "./geometry.js";
import type { Layout } from "./layout.js";
import type { Superblocks } from "./superblocks.js";

/** No address, or no unit. */
export const nowhere = -1;

/** Forward entry of a unit that was trimmed. */
const trimmed = 0xffffffff;

/** No unit, in a list. */
const absent = 0xffffffff;

/** Bits of a backward entry. */
const backwardBits = 24;

/**
 * Units that are looked ahead at together. Memory answers so many in the time of one; more would still be waiting for each
 * other when the first is needed.
 */
const expectedAtOnce = 4;

/** Units of a segment: how finely it is known that nothing is mapped. */
const segmentShift = 16;

export class Mapping {
  /** Units that hold data. */
  mapped = 0;
  /** Address + 1 by unit of the host; 0: see the layout. */
  private readonly forward: Uint32Array;
  /** A bit by unit: whether it has a forward entry. What was not written since lies where the layout says. */
  private readonly hasEntry: Int32Array;
  private readonly backwardLow: Uint16Array;
  private readonly backwardHigh: Uint8Array;
  /** Lowest bits of a unit the backward entry leaves out. */
  private readonly groupShift: number;
  /** Units mapped in each segment, at most; 0 is exact. */
  private readonly mappedInSegment: Uint32Array;
  private readonly superblockUnits: number;
  private readonly hostUnits: number;
  /** Units that will be looked up, and what has been fetched for them. */
  private readonly expected = new Uint32Array(expectedAtOnce);
  private readonly fetched = new Uint32Array(expectedAtOnce);
  private expectedCount = 0;
  /** Scratch of the lists: one stripe. */
  private readonly groups: Uint32Array;
  private readonly entries: Uint32Array;

  constructor(
    geometry: Geometry,
    private readonly superblocks: Superblocks,
    private readonly layout: Layout,
  ) {
    const { hostUnits, physicalUnits } = geometry;
    this.hostUnits = hostUnits;
    this.superblockUnits = geometry.superblockUnits;
    this.forward = new Uint32Array(hostUnits);
    this.hasEntry = new Int32Array(Math.ceil(hostUnits / 32));
    this.backwardLow = new Uint16Array(physicalUnits);
    this.backwardHigh = new Uint8Array(physicalUnits);
    this.groupShift = Math.max(0, Math.ceil(Math.log2(hostUnits)) - backwardBits);
    this.mappedInSegment = new Uint32Array(Math.ceil(hostUnits / 2 ** segmentShift));
    this.groups = new Uint32Array(geometry.stripeUnits);
    this.entries = new Uint32Array(geometry.stripeUnits);
    this.mapped = layout.mappedUnits;
    layout.countSegments(this.mappedInSegment, segmentShift);
  }

  /** Bytes per unit of the host, were every one written. */
  get bytesPerUnit(): number {
    const { forward, hasEntry, backwardLow, backwardHigh } = this;
    const arrays = [forward, hasEntry, backwardLow, backwardHigh];
    return arrays.reduce((sum, { byteLength }) => sum + byteLength, 0) / this.hostUnits;
  }

  /** Where a unit lies; `nowhere` if it holds no data. */
  locate(unit: number): number {
    if (!this.isMoved(unit)) return this.layout.locate(unit);
    const entry = this.forward[unit];
    return entry === trimmed ? nowhere : entry - 1;
  }

  /**
   * Says that a unit will be looked up before long. Its entry is fetched together with those of others, before the firmware
   * has decoded the first: several at the same time take as long as one. Nothing depends on it but speed.
   */
  expect(unit: number): void {
    this.expected[this.expectedCount++] = unit;
    if (this.expectedCount < expectedAtOnce) return;
    this.expectedCount = 0;
    const { expected, hasEntry, forward, fetched } = this;
    for (let i = 0; i < expectedAtOnce; i++) {
      const next = expected[i];
      // Without a branch, which would wait for the bit. What has no entry reads the first, which is always near; results
      // are stored, so that the compiler does not leave the reading out.
      fetched[i] = forward[(next & -((hasEntry[next >>> 5] >>> (next & 31)) & 1)) >>> 0];
    }
  }

  /** The unit whose data lie at an address; `nowhere` if they are no longer valid. */
  unitAt(address: number): number {
    const superblock = Math.floor(address / this.superblockUnits);
    if (this.layout.holds(superblock)) {
      const unit = this.layout.unitAt(superblock, address - superblock * this.superblockUnits);
      return unit !== nowhere && !this.isMoved(unit) ? unit : nowhere;
    }
    return this.unitInGroup(this.backwardLow[address] | (this.backwardHigh[address] << 16), address + 1);
  }

  /**
   * Lists what is valid of a superblock in `count` places from `first` on: units and their distances from `first`, from
   * `row` on in both lists. Returns how many there are.
   */
  listValid(
    superblock: number,
    first: number,
    count: number,
    units: Uint32Array,
    distances: Uint8Array,
    row: number,
  ): number {
    let found = 0;
    if (this.layout.holds(superblock)) {
      const { groups } = this;
      this.layout.listUnits(superblock, first, count, groups, absent);
      for (let i = 0; i < count; i++) {
        if (groups[i] === absent || this.isMoved(groups[i])) continue;
        units[row + found] = groups[i];
        distances[row + found] = i;
        found++;
      }
      return found;
    }
    this.findGroups(superblock * this.superblockUnits + first, count);
    const { groups, entries, groupShift } = this;
    const wanted = superblock * this.superblockUnits + first + 1;
    for (let i = 0; i < count; i++) {
      if (groupShift === 0) {
        if (entries[i] !== wanted + i) continue;
        units[row + found] = groups[i];
      } else {
        const unit = this.unitInGroup(groups[i], wanted + i);
        if (unit === nowhere) continue;
        units[row + found] = unit;
      }
      distances[row + found] = i;
      found++;
    }
    return found;
  }

  /** Keeps of a list made by `listValid` what is still valid; returns how many that are. */
  keepValid(
    superblock: number,
    first: number,
    count: number,
    units: Uint32Array,
    distances: Uint8Array,
    row: number,
  ): number {
    const { forward, entries } = this;
    const isLaidOut = this.layout.holds(superblock);
    const wanted = superblock * this.superblockUnits + first + 1;
    if (!isLaidOut) for (let i = 0; i < count; i++) entries[i] = forward[units[row + i]];
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const unit = units[row + i];
      const distance = distances[row + i];
      if (isLaidOut ? this.isMoved(unit) : entries[i] !== wanted + distance) continue;
      units[row + kept] = unit;
      distances[row + kept] = distance;
      kept++;
    }
    return kept;
  }

  /** The superblock of an address. */
  superblockOf(address: number): number {
    return Math.floor(address / this.superblockUnits);
  }

  /** Puts a unit's data at a free address of a superblock; they were in superblock `before`, or `nowhere`. */
  assign(unit: number, address: number, superblock: number, before: number): void {
    const { valid } = this.superblocks;
    this.forward[unit] = address + 1;
    // What lay where the layout does not reach has an entry already.
    if (before === nowhere || this.layout.holds(before)) this.hasEntry[unit >>> 5] |= 1 << (unit & 31);
    const group = this.groupShift === 0 ? unit : Math.floor(unit / 2 ** this.groupShift);
    this.backwardLow[address] = group;
    this.backwardHigh[address] = group >>> 16;
    valid[superblock]++;
    if (before !== nowhere) {
      valid[before]--;
    } else {
      this.mapped++;
      this.mappedInSegment[unit >>> segmentShift]++;
    }
  }

  /** Forgets the data of units `first` up to `end`; returns how many held any. */
  unmap(first: number, end: number): number {
    const { superblocks, superblockUnits, mappedInSegment } = this;
    const before = this.mapped;
    for (let unit = first; unit < end; unit++) {
      if (mappedInSegment[unit >>> segmentShift] === 0) {
        // Nothing in the whole segment: a trim of a fresh device of any size takes no time.
        unit = ((unit >>> segmentShift) + 1) * 2 ** segmentShift - 1;
        continue;
      }
      const address = this.locate(unit);
      if (address === nowhere) continue;
      this.forward[unit] = trimmed;
      this.hasEntry[unit >>> 5] |= 1 << (unit & 31);
      superblocks.valid[Math.floor(address / superblockUnits)]--;
      mappedInSegment[unit >>> segmentShift]--;
      this.mapped--;
    }
    return before - this.mapped;
  }

  /** A superblock has been erased: what the layout said of it no longer holds. */
  forget(superblock: number): void {
    this.layout.forget(superblock);
  }

  private isMoved(unit: number): boolean {
    return ((this.hasEntry[unit >>> 5] >>> (unit & 31)) & 1) !== 0;
  }

  /** The unit of a group whose forward entry is `entry`; `nowhere` if none is. */
  private unitInGroup(group: number, entry: number): number {
    const { forward, groupShift } = this;
    const first = group * 2 ** groupShift;
    const end = Math.min(first + 2 ** groupShift, this.hostUnits);
    for (let unit = first; unit < end; unit++) if (forward[unit] === entry) return unit;
    return nowhere;
  }

  /**
   * The groups of `count` addresses from one on, and their first forward entries. These lie all over the memory: asking for
   * all before looking at any has them fetched at the same time.
   */
  private findGroups(address: number, count: number): void {
    const { forward, groupShift, backwardLow, backwardHigh, groups, entries } = this;
    for (let i = 0; i < count; i++) groups[i] = backwardLow[address + i] | (backwardHigh[address + i] << 16);
    for (let i = 0; i < count; i++) entries[i] = forward[(groups[i] << groupShift) >>> 0];
  }
}
