/**
 * The superblocks of a drive: what state each is in, how much of it is valid, how often it was erased.
 *
 * The block opened next is the least worn of the free ones: dynamic wear levelling.
 */
import { assert } from "../../base/assert.js";

/** No superblock. */
export const none = -1;

export const State = Object.freeze({
  free: 0,
  /** Being written. */
  open: 1,
  /** Full, or left for good. */
  closed: 2,
  /** Its valid data are being copied elsewhere. */
  collecting: 3,
  erasing: 4,
  /** Bad: never used again. */
  retired: 5,
});

export class Superblocks {
  readonly state: Uint8Array;
  readonly isSlc: Uint8Array;
  /** Units that hold data of the host. */
  readonly valid: Uint32Array;
  readonly erases: Uint32Array;
  /** Program units begun and not yet on flash. */
  readonly pending: Int32Array;
  /** When it was opened, counted in superblocks opened. */
  readonly order: Float64Array;
  /** When it was opened and closed, counted in units the host has written. */
  readonly openedAt: Float64Array;
  readonly closedAt: Float64Array;
  /** Stream that wrote it. */
  readonly stream: Uint8Array;
  freeCount: number;
  /** Superblocks in use in SLC mode. */
  slcCount = 0;
  retiredCount = 0;
  /** Erases of the most worn, and of all. */
  mostErases: number;
  totalErases: number;
  /** Erases since power-on. */
  erasesDone = 0;
  private nextOrder = 0;
  private readonly freeList: Int32Array;

  constructor(
    readonly count: number,
    cycles: number,
  ) {
    this.state = new Uint8Array(count);
    this.isSlc = new Uint8Array(count);
    this.valid = new Uint32Array(count);
    this.erases = new Uint32Array(count).fill(cycles);
    this.mostErases = cycles;
    this.totalErases = cycles * count;
    this.pending = new Int32Array(count);
    this.order = new Float64Array(count);
    this.openedAt = new Float64Array(count);
    this.closedAt = new Float64Array(count);
    this.stream = new Uint8Array(count);
    this.freeList = new Int32Array(count);
    for (let i = 0; i < count; i++) this.freeList[i] = i;
    this.freeCount = count;
  }

  /** Takes the least worn free superblock, or the most worn one for data that will stay. */
  open(stream: number, isSlc: boolean, hostUnits: number, isToStay = false): number {
    assert(this.freeCount > 0, "a superblock is opened only when one is free");
    const { freeList, erases } = this;
    let best = 0;
    for (let i = 1; i < this.freeCount; i++) {
      const difference = (erases[freeList[i]] - erases[freeList[best]]) * (isToStay ? -1 : 1);
      if (difference < 0 || (difference === 0 && freeList[i] < freeList[best])) best = i;
    }
    const superblock = freeList[best];
    freeList[best] = freeList[--this.freeCount];
    this.state[superblock] = State.open;
    this.isSlc[superblock] = isSlc ? 1 : 0;
    if (isSlc) this.slcCount++;
    this.stream[superblock] = stream;
    this.order[superblock] = this.nextOrder++;
    this.openedAt[superblock] = hostUnits;
    return superblock;
  }

  close(superblock: number, hostUnits: number): void {
    this.state[superblock] = State.closed;
    this.closedAt[superblock] = hostUnits;
  }

  /** An erase has ended; a superblock that is worn out is never used again. */
  release(superblock: number, isLost: boolean): void {
    assert(this.valid[superblock] === 0, "what is erased holds no data");
    this.totalErases++;
    this.erasesDone++;
    if (++this.erases[superblock] > this.mostErases) this.mostErases = this.erases[superblock];
    if (this.isSlc[superblock] === 1) this.slcCount--;
    this.isSlc[superblock] = 0;
    if (isLost) {
      this.state[superblock] = State.retired;
      this.retiredCount++;
      return;
    }
    this.state[superblock] = State.free;
    this.freeList[this.freeCount++] = superblock;
  }

  /** The closed superblock of dense cells that is least worn; `none` if there is none. */
  leastWorn(): number {
    let best = none;
    for (let i = 0; i < this.count; i++) {
      if (this.state[i] !== State.closed || this.isSlc[i] === 1 || this.pending[i] > 0) continue;
      if (best === none || this.erases[i] < this.erases[best]) best = i;
    }
    return best;
  }

  /** The SLC superblock written first; `none` if there is none to fold. */
  oldestSlc(): number {
    if (this.slcCount === 0) return none;
    let best = none;
    for (let i = 0; i < this.count; i++) {
      if (this.state[i] !== State.closed || this.isSlc[i] === 0 || this.pending[i] > 0) continue;
      if (best === none || this.order[i] < this.order[best]) best = i;
    }
    return best;
  }
}
