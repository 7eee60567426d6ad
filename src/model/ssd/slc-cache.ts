/**
 * SLC cache: flash used with one bit per cell takes the host's writes first, quickly, and is folded into dense cells when
 * the drive has nothing else to do. Part of it is always there, part borrows free flash as long as there is some. When
 * it is full, writes go past it at the speed of dense cells, or wait for folding: the cliff.
 *
 * Its superblocks come from the same pool as all others; what is counted is the data written to them since each was
 * erased. Drives that keep a separate region for the static part wear it apart, which is not modelled.
 */
import { type Geometry, unitBytes } from "./geometry.js";
import type { SsdParameters } from "./schema.js";
import type { Superblocks } from "./superblocks.js";

/** Superblocks left to collection and frontiers before the dynamic part takes one. */
const reserve = 4;

export class SlcCache {
  /** Units written to it and not yet folded. */
  used = 0;
  readonly capacityUnits: number;
  private readonly staticUnits: number;
  private readonly isFolding: boolean;
  private readonly leastFree: number;
  private readonly written: Int32Array;

  constructor(
    { slcCache, gc }: Pick<SsdParameters, "slcCache" | "gc">,
    private readonly geometry: Geometry,
    private readonly superblocks: Superblocks,
  ) {
    this.staticUnits = Math.floor(slcCache.static / unitBytes);
    this.capacityUnits = Math.floor((slcCache.static + slcCache.dynamic) / unitBytes);
    this.isFolding = slcCache.full === "fold";
    this.leastFree = gc.background + reserve;
    this.written = new Int32Array(geometry.superblocks);
  }

  get exists(): boolean {
    return this.capacityUnits > 0;
  }

  /** Whether the host's next unit goes here; `room` is what the open superblock has left. */
  takes(room: number): boolean {
    if (this.used >= this.capacityUnits) return this.isFolding;
    return this.used < this.staticUnits || room > 0 || this.superblocks.freeCount > this.leastFree;
  }

  /** Whether a write has to wait for folding. */
  isFull(): boolean {
    return this.used >= this.capacityUnits;
  }

  /** Whether folding cannot wait for idle time. */
  get mustFold(): boolean {
    return this.isFolding && this.used + this.geometry.slcSuperblockUnits > this.capacityUnits;
  }

  wrote(address: number): void {
    this.used++;
    this.written[Math.floor(address / this.geometry.superblockUnits)]++;
  }

  erased(superblock: number): void {
    this.used -= this.written[superblock];
    this.written[superblock] = 0;
  }
}
