/**
 * Read cache: a drive's buffer, divided into segments that each hold one run of blocks.
 *
 * A segment belongs to one stream of reads and slides with it: read-ahead fills it, what the host has fetched makes
 * room. The least recently used segment gives way to a new stream. Data the host writes replaces what segments hold,
 * so they stay valid.
 */
export const noSegment = -1;

export class ReadCache {
  /** First block a segment holds. */
  readonly start: Float64Array;
  /** Block after the last; equal to `start` in an empty segment. */
  readonly end: Float64Array;
  /** Segments a read-ahead is filling: not to be handed out. */
  private readonly isFilling: Uint8Array;
  private readonly used: Float64Array;
  private uses = 0;

  constructor(
    readonly segments: number,
    readonly segmentSectors: number,
  ) {
    this.start = new Float64Array(segments);
    this.end = new Float64Array(segments);
    this.isFilling = new Uint8Array(segments);
    this.used = new Float64Array(segments);
  }

  /** The segment that holds most of the blocks from `block` on; `noSegment` if none holds it. */
  find(block: number): number {
    const { start, end } = this;
    let best = noSegment;
    for (let i = 0; i < this.segments; i++) {
      if (start[i] <= block && block < end[i] && (best === noSegment || end[i] > end[best])) best = i;
    }
    return best;
  }

  /** The segment that ends just before `block`, so that a read from there continues it; `noSegment` if none does. */
  endingAt(block: number): number {
    const { start, end } = this;
    for (let i = 0; i < this.segments; i++) if (end[i] === block && start[i] < block) return i;
    return noSegment;
  }

  touch(segment: number): void {
    this.used[segment] = ++this.uses;
  }

  setFilling(segment: number, isFilling: boolean): void {
    this.isFilling[segment] = isFilling ? 1 : 0;
  }

  /** Hands out the least recently used segment, emptied, for blocks from `start` on; `noSegment` if all are busy. */
  allocate(start: number): number {
    const { used, isFilling } = this;
    let oldest = noSegment;
    for (let i = 0; i < this.segments; i++) {
      if (isFilling[i] === 0 && (oldest === noSegment || used[i] < used[oldest])) oldest = i;
    }
    if (oldest === noSegment) return noSegment;
    this.start[oldest] = start;
    this.end[oldest] = start;
    this.touch(oldest);
    return oldest;
  }

  /** The segment now holds blocks up to `end`; its oldest blocks give way when it is full. */
  fill(segment: number, end: number): void {
    this.end[segment] = end;
    if (end - this.start[segment] > this.segmentSectors) this.start[segment] = end - this.segmentSectors;
  }
}
