/**
 * Layout: where the data of a preconditioned drive lie, as a formula in place of state.
 *
 * The units of the host are put in an order: their own, or a random permutation that needs no memory. Along this order
 * they fill the valid places of one superblock after the other. How many places of each are valid, `precondition.ts`
 * says. Which places of a superblock these are is again a permutation, its own turned by an amount of each superblock.
 * Both ways, from unit to address and back, are computed; memory is a number per superblock. What is rewritten leaves
 * the formula for the mapping, and a superblock leaves it when it is erased.
 */
import type { Random } from "../../base/random.js";
import { Lattice, Shuffle } from "./scatter.js";

const nowhere = -1;

/** Buckets for looking superblocks up: so many that a rank is seldom more than one superblock off. */
const bucketsPerSuperblock = 4;

export interface LayoutOptions {
  hostUnits: number;
  superblockUnits: number;
  /** Valid units of superblocks 0, 1, ... in the order they are filled. */
  valid: readonly number[];
  /** For data in random order: where the permutations come from. Otherwise data lie in order. */
  random?: Random | undefined;
}

export class Layout {
  readonly mappedUnits: number;
  private readonly superblockUnits: number;
  /** Units before each superblock in the order, and after the last. */
  private readonly firstRank: Float64Array;
  private readonly held: Uint8Array;
  private readonly order: Shuffle | null;
  private readonly places: Lattice | null;
  private readonly turns: Float64Array;
  private readonly hostUnits: number;
  /** Which superblock the first rank of each bucket of `2 ** bucketShift` ranks belongs to: where to begin looking. */
  private readonly firstInBucket: Uint32Array;
  private readonly bucketShift: number;

  constructor({ hostUnits, superblockUnits, valid, random }: LayoutOptions) {
    this.hostUnits = hostUnits;
    this.superblockUnits = superblockUnits;
    this.firstRank = new Float64Array(valid.length + 1);
    this.held = new Uint8Array(valid.length);
    this.turns = new Float64Array(valid.length);
    for (let i = 0; i < valid.length; i++) {
      this.firstRank[i + 1] = this.firstRank[i] + valid[i];
      this.held[i] = 1;
      if (random !== undefined) this.turns[i] = random.nextInteger(superblockUnits);
    }
    this.mappedUnits = this.firstRank[valid.length];
    this.bucketShift = Math.max(
      0,
      Math.ceil(Math.log2(this.mappedUnits / (bucketsPerSuperblock * valid.length))),
    );
    this.firstInBucket = new Uint32Array(Math.ceil(this.mappedUnits / 2 ** this.bucketShift));
    for (let bucket = 0, i = 0; bucket < this.firstInBucket.length; bucket++) {
      while (this.firstRank[i + 1] <= bucket * 2 ** this.bucketShift) i++;
      this.firstInBucket[bucket] = i;
    }
    this.order = random === undefined ? null : new Shuffle(hostUnits, random);
    this.places = random === undefined ? null : new Lattice(superblockUnits);
  }

  /** Whether the layout still tells what a superblock holds. */
  holds(superblock: number): boolean {
    return superblock < this.held.length && this.held[superblock] === 1;
  }

  forget(superblock: number): void {
    if (superblock < this.held.length) this.held[superblock] = 0;
  }

  /** Address of a unit that was not written since; `nowhere` if the drive was not filled that far. */
  locate(unit: number): number {
    if (this.mappedUnits === 0) return nowhere;
    const rank = this.order === null ? unit : this.order.placeOf(unit);
    if (rank >= this.mappedUnits) return nowhere;
    const { firstRank } = this;
    // A rank is a number of 32 bits, as units are.
    let superblock = this.firstInBucket[rank >>> this.bucketShift];
    while (firstRank[superblock + 1] <= rank) superblock++;
    return superblock * this.superblockUnits + this.placeIn(superblock, rank - firstRank[superblock]);
  }

  /** The unit that lay at a place of a superblock; `nowhere` if none did. */
  unitAt(superblock: number, place: number): number {
    const { firstRank } = this;
    const index = this.places === null ? place : this.places.placeOf(place, this.turns[superblock]);
    const rank = firstRank[superblock] + index;
    if (rank >= firstRank[superblock + 1]) return nowhere;
    return this.order === null ? rank : this.order.at(rank);
  }

  /**
   * The units that lay at `count` places of a superblock from `first` on, as `unitAt`; `absent` where none did. Many at once
   * take little more than half the time.
   */
  listUnits(superblock: number, first: number, count: number, units: Uint32Array, absent: number): void {
    const { firstRank, places, order } = this;
    const base = firstRank[superblock];
    const end = firstRank[superblock + 1];
    const turn = this.turns[superblock];
    for (let i = 0; i < count; i++) {
      const rank = base + (places === null ? first + i : places.placeOf(first + i, turn));
      units[i] = rank >= end ? absent : order === null ? rank : order.at(rank);
    }
  }

  /** Sets how many units of each segment of `2 ** shift` units are mapped at most; 0 is exact. */
  countSegments(counts: Uint32Array, shift: number): void {
    if (this.mappedUnits === 0) return;
    const segment = 2 ** shift;
    for (let i = 0; i < counts.length; i++) {
      const units = Math.min(this.hostUnits - i * segment, segment);
      counts[i] = this.order === null ? Math.max(0, Math.min(units, this.mappedUnits - i * segment)) : units;
    }
  }

  private placeIn(superblock: number, index: number): number {
    return this.places === null ? index : this.places.at(index, this.turns[superblock]);
  }
}
