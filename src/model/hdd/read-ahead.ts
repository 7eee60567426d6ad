/**
 * Read-ahead: the head stays on the track after a read and goes on filling the segment, idle or not, until its limit
 * is reached or another command needs the arm.
 *
 * Nothing happens per sector: the stream is a chain of pieces of tracks, each with the instant its first sector comes
 * under the head, and what has been read at some instant follows by arithmetic.
 */
import type { Mechanics } from "./mechanics.js";
import { noSegment, type ReadCache } from "./read-cache.js";

export class ReadAhead {
  isActive = false;
  /** Segment it fills, or was the last to fill. */
  segment: number = noSegment;
  /** Where it will stop: the block after the last. */
  limit = 0;

  /**
   * The piece of a track under the head: first block, number of blocks, instant and time per block. Until it has its
   * place, only the first block, and since when the head could have been moving there.
   */
  private hasPlace = false;
  private pieceBlock = 0;
  private pieceRun = 0;
  private pieceNs = 0;
  private sectorNs = 0;

  constructor(
    private readonly mechanics: Mechanics,
    private readonly cache: ReadCache,
    /** Blocks of this arm end here. */
    private readonly endBlock: number,
    /** First block of this arm. */
    private readonly baseBlock: number,
  ) {}

  /** Reads on from `block`; the head has just left the block before it, or is anywhere at all. */
  start(segment: number, block: number, limit: number, fromNs: number): void {
    this.segment = segment;
    this.limit = Math.min(limit, this.endBlock);
    if (block >= this.limit) return;
    this.isActive = true;
    this.cache.setFilling(segment, true);
    // With commands waiting the stream often ends at the instant it begins: finding its place can wait.
    this.hasPlace = false;
    this.pieceBlock = block;
    this.pieceNs = fromNs;
  }

  /** The host keeps reading: the stream may go on to `limit`. */
  extend(limit: number): void {
    this.limit = Math.max(this.limit, Math.min(limit, this.endBlock));
  }

  /** The arm is needed elsewhere; what has been read stays. */
  stop(nowNs: number): void {
    this.sync(nowNs);
    if (this.isActive) this.end();
  }

  /** Brings the segment up to what has been read by `nowNs`. */
  sync(nowNs: number): void {
    if (!this.isActive || (!this.hasPlace && nowNs <= this.pieceNs)) return;
    if (!this.hasPlace) this.enter(this.pieceBlock, this.pieceNs);
    for (;;) {
      const endNs = this.pieceNs + this.pieceRun * this.sectorNs;
      const pieceEnd = this.pieceBlock + this.pieceRun;
      if (endNs > nowNs || pieceEnd >= this.limit) break;
      this.enter(pieceEnd, endNs);
    }
    const passed = Math.floor((nowNs - this.pieceNs) / this.sectorNs);
    const read = this.pieceBlock + Math.min(Math.max(passed, 0), this.pieceRun);
    this.cache.fill(this.segment, Math.min(read, this.limit));
    if (read >= this.limit) this.end();
  }

  /** First block the segment holds. */
  get firstBlock(): number {
    return this.cache.start[this.segment];
  }

  /** The last block the head comes to without leaving this track; call `sync` first. */
  get reach(): number {
    return this.hasPlace ? Math.min(this.pieceBlock + this.pieceRun, this.limit) : this.pieceBlock;
  }

  comesTo(block: number): boolean {
    return this.isActive && block >= this.firstBlock && block <= this.reach;
  }

  /** When everything before `end` will have been read; the stream goes on at least that far. */
  timeOf(end: number): number {
    if (end > this.limit) this.limit = end;
    if (!this.hasPlace) this.enter(this.pieceBlock, this.pieceNs);
    const { mechanics, pieceBlock, pieceRun, pieceNs, sectorNs } = this;
    const { cylinder, head } = mechanics;
    while (this.pieceBlock + this.pieceRun < end) {
      this.enter(this.pieceBlock + this.pieceRun, this.pieceNs + this.pieceRun * this.sectorNs);
    }
    const endNs = this.pieceNs + (end - this.pieceBlock) * this.sectorNs;
    // That was a look ahead: the head is still where it was.
    this.pieceBlock = pieceBlock;
    this.pieceRun = pieceRun;
    this.pieceNs = pieceNs;
    this.sectorNs = sectorNs;
    mechanics.cylinder = cylinder;
    mechanics.head = head;
    return endNs;
  }

  private end(): void {
    this.isActive = false;
    this.cache.setFilling(this.segment, false);
  }

  private enter(block: number, fromNs: number): void {
    this.hasPlace = true;
    const { mechanics } = this;
    const { geometry } = mechanics;
    geometry.locate(block - this.baseBlock);
    const onTrackNs = fromNs + mechanics.moveNs(geometry.cylinder, geometry.head, false);
    mechanics.cylinder = geometry.cylinder;
    mechanics.head = geometry.head;
    this.pieceBlock = block;
    this.pieceRun = geometry.run;
    this.sectorNs = mechanics.revolutionNs / geometry.sectorsPerTrack;
    this.pieceNs = mechanics.nextPassNs(geometry.angle, onTrackNs);
  }
}
