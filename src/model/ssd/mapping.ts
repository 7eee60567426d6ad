/**
 * Page mapping: which unit of the host lies where on flash, and what is valid there. The state is real, page by page.
 *
 * Memory is the concern: 4 bytes per unit forward, and 3 bytes per unit of flash back, which name the host's unit but
 * for its lowest bits. Those are found by looking at the few forward entries in question, in one cache line, and the
 * forward entry also tells whether the data there are still valid. Arrays are filled with zeroes by the operating system
 * when first touched, so nothing is held for what was never written; a forward entry of zero means "as the layout
 * says", and the layout of a drive that was preconditioned is a formula (`layout.ts`).
 */

import type { Geometry } from "./geometry.js";
import type { Layout } from "./layout.js";
import type { Superblocks } from "./superblocks.js";

/** No address, or no unit. */
export const nowhere = -1;

/** Forward entry of a unit that was trimmed. */
const trimmed = 0xffffffff;

/** Bits of a backward entry. */
const backwardBits = 24;

/** Units of a segment: how finely it is known that nothing is mapped. */
const segmentShift = 16;

export class Mapping {
  /** Units that hold data. */
  mapped = 0;
  /** Address + 1 by unit of the host; 0: see the layout. */
  private readonly forward: Uint32Array;
  private readonly backwardLow: Uint16Array;
  private readonly backwardHigh: Uint8Array;
  /** Lowest bits of a unit the backward entry leaves out. */
  private readonly groupShift: number;
  /** Units mapped in each segment, at most; 0 is exact. */
  private readonly mappedInSegment: Uint32Array;
  private readonly superblockUnits: number;
  private readonly hostUnits: number;

  constructor(
    geometry: Geometry,
    private readonly superblocks: Superblocks,
    private readonly layout: Layout,
  ) {
    const { hostUnits, physicalUnits } = geometry;
    this.hostUnits = hostUnits;
    this.superblockUnits = geometry.superblockUnits;
    this.forward = new Uint32Array(hostUnits);
    this.backwardLow = new Uint16Array(physicalUnits);
    this.backwardHigh = new Uint8Array(physicalUnits);
    this.groupShift = Math.max(0, Math.ceil(Math.log2(hostUnits)) - backwardBits);
    this.mappedInSegment = new Uint32Array(Math.ceil(hostUnits / 2 ** segmentShift));
    this.mapped = layout.mappedUnits;
    layout.countSegments(this.mappedInSegment, segmentShift);
  }

  /** Bytes per unit of the host, were every one written. */
  get bytesPerUnit(): number {
    const { forward, backwardLow, backwardHigh } = this;
    return (forward.byteLength + backwardLow.byteLength + backwardHigh.byteLength) / this.hostUnits;
  }

  /** Where a unit lies; `nowhere` if it holds no data. */
  locate(unit: number): number {
    const entry = this.forward[unit];
    if (entry === 0) return this.layout.locate(unit);
    return entry === trimmed ? nowhere : entry - 1;
  }

  /** The unit whose data lie at an address; `nowhere` if they are no longer valid. */
  unitAt(address: number): number {
    const superblock = Math.floor(address / this.superblockUnits);
    if (this.layout.holds(superblock)) {
      const unit = this.layout.unitAt(superblock, address - superblock * this.superblockUnits);
      return unit !== nowhere && this.forward[unit] === 0 ? unit : nowhere;
    }
    const { forward, groupShift } = this;
    const group = this.backwardLow[address] | (this.backwardHigh[address] << 16);
    if (groupShift === 0) return forward[group] === address + 1 ? group : nowhere;
    const first = group * 2 ** groupShift;
    const end = Math.min(first + 2 ** groupShift, this.hostUnits);
    for (let unit = first; unit < end; unit++) if (forward[unit] === address + 1) return unit;
    return nowhere;
  }

  /** Puts a unit's data at a free address; they were at `before`, or `nowhere`, as `locate` tells. */
  assign(unit: number, address: number, before: number): void {
    const { superblocks, superblockUnits } = this;
    this.forward[unit] = address + 1;
    const group = this.groupShift === 0 ? unit : Math.floor(unit / 2 ** this.groupShift);
    this.backwardLow[address] = group;
    this.backwardHigh[address] = group >>> 16;
    superblocks.valid[Math.floor(address / superblockUnits)]++;
    if (before !== nowhere) {
      superblocks.valid[Math.floor(before / superblockUnits)]--;
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
}
