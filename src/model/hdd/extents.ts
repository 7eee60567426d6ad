/**
 * Extents: disjoint runs of blocks in order, for what is dirty in a write cache or remapped on a shingled disk.
 *
 * A skip list (Pugh 1990) on typed arrays: look-up, insertion and removal take logarithmic time, neighbours are one
 * step away in both directions, nothing is allocated after construction. Towers are drawn from a generator of its own
 * with a fixed seed: the list's shape changes how fast answers come, never the answers.
 */
import { assert } from "../../base/assert.js";

/** No extent. */
export const none = -1;

const levels = 10;

export class Extents {
  /** First block, by extent. */
  readonly start: Float64Array;
  /** Block after the last. */
  readonly end: Float64Array;
  size = 0;

  /** Successors, `levels` per extent; the row after the last extent is the list's head. */
  private readonly successors: Int32Array;
  private readonly heights: Uint8Array;
  private readonly predecessors: Int32Array;
  private readonly path = new Int32Array(levels);
  private readonly free: Int32Array;
  private freeCount: number;
  private randomState = 0x9e3779b9;

  constructor(readonly capacity: number) {
    this.start = new Float64Array(capacity);
    this.end = new Float64Array(capacity);
    this.successors = new Int32Array((capacity + 1) * levels).fill(none);
    this.heights = new Uint8Array(capacity);
    this.predecessors = new Int32Array(capacity);
    this.free = new Int32Array(capacity);
    for (let i = 0; i < capacity; i++) this.free[i] = capacity - 1 - i;
    this.freeCount = capacity;
  }

  get isFull(): boolean {
    return this.freeCount === 0;
  }

  first(): number {
    return this.successors[this.capacity * levels];
  }

  next(extent: number): number {
    return this.successors[extent * levels];
  }

  previous(extent: number): number {
    const before = this.predecessors[extent];
    return before === this.capacity ? none : before;
  }

  /** The last extent that starts at `block` or before; `none` if all start later. */
  atOrBefore(block: number): number {
    const { successors, start } = this;
    let at = this.capacity;
    for (let level = levels - 1; level >= 0; level--) {
      for (;;) {
        const next = successors[at * levels + level];
        if (next === none || start[next] > block) break;
        at = next;
      }
    }
    return at === this.capacity ? none : at;
  }

  /** The first extent that ends after `block`: the one that holds it, or the next one; `none` if there is none. */
  endingAfter(block: number): number {
    const before = this.atOrBefore(block);
    if (before === none) return this.first();
    return this.end[before] > block ? before : this.next(before);
  }

  /** Adds an extent that overlaps no other. */
  insert(startBlock: number, endBlock: number): number {
    assert(this.freeCount > 0, "extents are inserted only where there is room");
    const { successors, start, path } = this;
    let at = this.capacity;
    for (let level = levels - 1; level >= 0; level--) {
      for (;;) {
        const next = successors[at * levels + level];
        if (next === none || start[next] > startBlock) break;
        at = next;
      }
      path[level] = at;
    }
    const extent = this.free[--this.freeCount];
    start[extent] = startBlock;
    this.end[extent] = endBlock;
    const height = this.drawHeight();
    this.heights[extent] = height;
    for (let level = 0; level < height; level++) {
      successors[extent * levels + level] = successors[path[level] * levels + level];
      successors[path[level] * levels + level] = extent;
    }
    this.predecessors[extent] = path[0];
    const after = successors[extent * levels];
    if (after !== none) this.predecessors[after] = extent;
    this.size++;
    return extent;
  }

  remove(extent: number): void {
    const { successors, start } = this;
    const block = start[extent];
    let at = this.capacity;
    for (let level = levels - 1; level >= 0; level--) {
      for (;;) {
        const next = successors[at * levels + level];
        if (next === none || start[next] >= block) break;
        at = next;
      }
      if (level < this.heights[extent]) successors[at * levels + level] = successors[extent * levels + level];
    }
    const after = successors[extent * levels];
    if (after !== none) this.predecessors[after] = this.predecessors[extent];
    this.free[this.freeCount++] = extent;
    this.size--;
  }

  /** Moves an extent's edges; it must still overlap no other. */
  resize(extent: number, startBlock: number, endBlock: number): void {
    this.start[extent] = startBlock;
    this.end[extent] = endBlock;
  }

  /** Height h with probability 3/4^h: on average four thirds of a link per extent. */
  private drawHeight(): number {
    let height = 1;
    let bits = this.randomState;
    bits ^= bits << 13;
    bits ^= bits >>> 17;
    bits ^= bits << 5;
    this.randomState = bits;
    while (height < levels && (bits & 3) === 0) {
      height++;
      bits >>>= 2;
    }
    return height;
  }
}
