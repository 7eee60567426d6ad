/**
 * Drive-managed shingling: tracks overlap like shingles, so a band can only be rewritten as a whole.
 *
 * Writes go to a log in a persistent cache at the outer diameter, whose map says where each run of blocks now is.
 * When the drive is idle, or the cache is full, it cleans: reads a band, merges, writes the band back. A burst of
 * random writes therefore runs at the speed of the log and then collapses to the rate of cleaning. A stream of writes
 * that has reached a band's beginning goes straight to the band, as it replaces all of it.
 *
 * Structure: Aghayev and Desnoyers, "Skylight: A Window on Shingled Disk Operation" (FAST'15). Simplified: the log's
 * space is counted, not laid out, so it never needs compaction; of the data a stream leaves unfinished in its last
 * band nothing is read back; read-ahead sees bands as they are on the media.
 *
 * Places are block numbers; the log's are negative, before the host's first block.
 */

import { Extents, none } from "./extents.js";
import { sectorBytes } from "./geometry.js";
import type { HddParameters } from "./schema.js";

/** Sequential write streams told apart at once. */
const streamCount = 8;

export type SmrParameters = NonNullable<HddParameters["smr"]>;

export class Smr {
  /** Sectors of the log, in front of the host's blocks. */
  readonly cacheSectors: number;

  // Where the last `locate` found its block.
  place = 0;
  /** Blocks that follow at that place. */
  run = 0;

  /** First block of each band, and the end of the last. */
  private readonly bands: Float64Array;
  private readonly map: Extents;
  /** Place of each mapped run. */
  private readonly places: Float64Array;
  private readonly mapEntries: number;
  private logSectors = 0;
  private liveSectors = 0;
  /** Runs in the log, by band of their first block. */
  private readonly runsInBand: Int32Array;
  /** Bands with runs in the log, in the order they got the first: a ring with each band at most once. */
  private readonly dirtyBands: Int32Array;
  private readonly isListed: Uint8Array;
  private dirtyHead = 0;
  private dirtyCount = 0;

  /** Block each stream of writes would go on with, and when it last did. */
  private readonly streamNext = new Float64Array(streamCount).fill(-1);
  private readonly streamUsed = new Float64Array(streamCount);
  private readonly isDirect = new Uint8Array(streamCount);
  private writes = 0;

  constructor(parameters: SmrParameters, sizeSectors: number) {
    this.cacheSectors = Math.floor(parameters.cacheSize / sectorBytes);
    this.mapEntries = parameters.mapEntries;
    this.bands = layBands(parameters, sizeSectors);
    // Replacing the middle of a run makes two of it: room for one more than the drive itself has.
    this.map = new Extents(parameters.mapEntries + 2);
    this.places = new Float64Array(this.map.capacity);
    this.runsInBand = new Int32Array(this.bands.length);
    this.dirtyBands = new Int32Array(this.bands.length);
    this.isListed = new Uint8Array(this.bands.length);
  }

  get fullness(): number {
    return Math.max(this.map.size / this.mapEntries, this.liveSectors / this.cacheSectors);
  }

  get isClean(): boolean {
    return this.map.size === 0;
  }

  /** Whether a write finds room, in the log or straight in its band. */
  canTake(start: number, end: number): boolean {
    if (this.map.size < this.mapEntries && this.liveSectors + (end - start) <= this.cacheSectors) return true;
    const stream = this.streamAt(start);
    return stream !== none && this.isDirect[stream] === 1;
  }

  /** Takes a write in and says at which place the head must write it. */
  write(start: number, end: number): number {
    this.writes++;
    this.forget(start, end);
    if (this.followStream(start, end)) return start;
    const length = end - start;
    // The log is a ring; a write does not wrap within itself.
    if (this.logSectors + length > this.cacheSectors) this.logSectors = 0;
    const place = this.logSectors - this.cacheSectors;
    this.logSectors += length;
    this.add(start, end, place);
    return place;
  }

  /** How many writes have come: the map is saved every so many. */
  get writeCount(): number {
    return this.writes;
  }

  /** Finds where a block is now, and how many follow it there, `end` at most. */
  locate(block: number, end: number): void {
    const run = this.map.endingAfter(block);
    if (run === none || this.map.start[run] >= end) {
      this.place = block;
      this.run = end - block;
    } else if (this.map.start[run] > block) {
      this.place = block;
      this.run = this.map.start[run] - block;
    } else {
      this.place = this.places[run] + block - this.map.start[run];
      this.run = Math.min(this.map.end[run], end) - block;
    }
  }

  /** The band to clean next: the one that has waited longest. There must be one. */
  bandToClean(): number {
    while (this.runsInBand[this.dirtyBands[this.dirtyHead]] === 0) this.dropDirtyBand();
    return this.dirtyBands[this.dirtyHead];
  }

  bandStart(band: number): number {
    return this.bands[band];
  }

  bandEnd(band: number): number {
    return this.bands[band + 1];
  }

  /** The band is written back: nothing of it is in the log any more. */
  cleaned(band: number): void {
    this.forget(this.bandStart(band), this.bandEnd(band));
  }

  private add(start: number, end: number, place: number): void {
    const run = this.map.insert(start, end);
    this.places[run] = place;
    this.liveSectors += end - start;
    const band = this.bandOf(start);
    if (this.runsInBand[band]++ === 0) this.pushDirtyBand(band);
  }

  /** Takes blocks out of the map, cutting runs where needed. */
  private forget(start: number, end: number): void {
    const { map, places } = this;
    let run = map.endingAfter(start);
    while (run !== none && map.start[run] < end) {
      const runStart = map.start[run];
      const runEnd = map.end[run];
      const place = places[run];
      this.liveSectors -= runEnd - runStart;
      this.runsInBand[this.bandOf(runStart)]--;
      map.remove(run);
      if (runStart < start) this.add(runStart, start, place);
      if (runEnd > end && !map.isFull) this.add(end, runEnd, place + end - runStart);
      run = map.endingAfter(Math.min(runEnd, end));
    }
  }

  private pushDirtyBand(band: number): void {
    // A band that lost its runs to newer writes may still stand in the ring from before; then it keeps its turn.
    const { dirtyBands, dirtyHead, dirtyCount } = this;
    if (this.isListed[band] === 1) return;
    dirtyBands[(dirtyHead + dirtyCount) % dirtyBands.length] = band;
    this.isListed[band] = 1;
    this.dirtyCount++;
  }

  private dropDirtyBand(): void {
    this.isListed[this.dirtyBands[this.dirtyHead]] = 0;
    this.dirtyHead = (this.dirtyHead + 1) % this.dirtyBands.length;
    this.dirtyCount--;
  }

  private streamAt(start: number): number {
    for (let i = 0; i < streamCount; i++) if (this.streamNext[i] === start) return i;
    return none;
  }

  /** Whether the write belongs to a stream that goes straight to its bands. */
  private followStream(start: number, end: number): boolean {
    let stream = this.streamAt(start);
    if (stream === none) {
      stream = 0;
      for (let i = 1; i < streamCount; i++) if (this.streamUsed[i] < this.streamUsed[stream]) stream = i;
      this.isDirect[stream] = this.bands[this.bandOf(start)] === start ? 1 : 0;
    } else if (this.isDirect[stream] === 0 && this.bandOf(start) !== this.bandOf(end)) {
      this.isDirect[stream] = 1;
    }
    this.streamNext[stream] = end;
    this.streamUsed[stream] = this.writes;
    return this.isDirect[stream] === 1;
  }

  private bandOf(block: number): number {
    const { bands } = this;
    let low = 0;
    let high = bands.length - 2;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (bands[middle] <= block) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** Bands that shrink evenly from the outer size to the inner one. */
function layBands({ bandSizeOuter, bandSizeInner }: SmrParameters, sizeSectors: number): Float64Array {
  const outer = bandSizeOuter / sectorBytes;
  const inner = bandSizeInner / sectorBytes;
  const count = Math.max(1, Math.round((2 * sizeSectors) / (outer + inner)));
  const starts = new Float64Array(count + 1);
  for (let i = 0; i < count; i++) {
    const start = i * outer - ((outer - inner) * i * i) / (2 * count);
    // Bands begin at physical blocks of 4 KiB.
    starts[i] = Math.min(Math.floor(start / 8) * 8, sizeSectors);
  }
  starts[count] = sizeSectors;
  return starts;
}
