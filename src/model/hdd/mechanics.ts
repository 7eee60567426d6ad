/**
 * Mechanics: arm, spindle and surface. Where the head is, how long until a sector passes under it, how long to
 * read or write a run of sectors.
 *
 * The platter's angle is a pure function of device time: revolution k begins at exactly k*T, so the same sector comes
 * round every revolution and never drifts. A seek and the head switch overlap; writes settle longer. A run that ends a
 * track goes on at the next one after the switch and the skew. With zero latency a track's part is read from wherever
 * the head comes down, at the cost of the bytes being complete only at the end.
 */
import type { Geometry } from "./geometry.js";

/** Fraction of a revolution below which a sector that "has just passed" counts as arriving: rounding, under 1 ns. */
export const angleTolerance = 1e-7;

export interface MechanicsOptions {
  geometry: Geometry;
  revolutionNs: number;
  /** Seek time by distance in cylinders. */
  seekNs: Float64Array;
  headSwitchNs: number;
  writeSettleNs: number;
  hasZeroLatencyRead: boolean;
  hasZeroLatencyWrite: boolean;
}

export class Mechanics {
  cylinder = 0;
  head = 0;

  // What the last `access` took, and where it left the head.
  /** Arm movement before the first sector, settling included. */
  seekTimeNs = 0;
  /** Wait for the first sector. */
  rotationTimeNs = 0;
  /** From the first sector under the head to the end, switches between tracks included. */
  transferTimeNs = 0;
  /** When the run's first block was under the head: from then on data can move to the host in order. */
  firstBlockNs = 0;
  /** Sectors of the first track that passed unused under the head before the first one wanted. */
  passedSectors = 0;
  /** Place on its track of the first sector wanted. */
  firstSector = 0;

  readonly geometry: Geometry;
  readonly revolutionNs: number;
  readonly seekNs: Float64Array;
  /** The shortest seek over a distance or more. Measured curves fall in places; this one never does. */
  readonly leastSeekNs: Float64Array;
  readonly headSwitchNs: number;
  readonly writeSettleNs: number;
  private readonly hasZeroLatencyRead: boolean;
  private readonly hasZeroLatencyWrite: boolean;

  constructor(options: MechanicsOptions) {
    this.geometry = options.geometry;
    this.revolutionNs = options.revolutionNs;
    this.seekNs = options.seekNs;
    this.leastSeekNs = leastFrom(options.seekNs);
    this.headSwitchNs = options.headSwitchNs;
    this.writeSettleNs = options.writeSettleNs;
    this.hasZeroLatencyRead = options.hasZeroLatencyRead;
    this.hasZeroLatencyWrite = options.hasZeroLatencyWrite;
  }

  /** Time to bring the head onto a track. */
  moveNs(cylinder: number, head: number, isWrite: boolean): number {
    const distance = cylinder > this.cylinder ? cylinder - this.cylinder : this.cylinder - cylinder;
    let timeNs = this.seekNs[distance];
    if (head !== this.head && timeNs < this.headSwitchNs) timeNs = this.headSwitchNs;
    if (isWrite && (distance !== 0 || head !== this.head)) timeNs += this.writeSettleNs;
    return timeNs;
  }

  /** When the angle `angle`, in revolutions, next comes under the heads, at `fromNs` or later. */
  nextPassNs(angle: number, fromNs: number): number {
    const { revolutionNs } = this;
    return (Math.ceil(fromNs / revolutionNs - angle - angleTolerance) + angle) * revolutionNs;
  }

  /** Reads or writes blocks from `startNs` on, moving the head; returns when the last one is done. */
  access(block: number, count: number, isWrite: boolean, startNs: number): number {
    const { geometry, revolutionNs } = this;
    const hasZeroLatency = isWrite ? this.hasZeroLatencyWrite : this.hasZeroLatencyRead;
    let nowNs = startNs;
    let next = block;
    let left = count;
    for (;;) {
      geometry.locate(next);
      const run = Math.min(left, geometry.run);
      const size = geometry.sectorsPerTrack;
      const onTrackNs = nowNs + this.moveNs(geometry.cylinder, geometry.head, isWrite);
      this.cylinder = geometry.cylinder;
      this.head = geometry.head;
      const firstNs = this.nextPassNs(geometry.angle, onTrackNs);
      let endNs = firstNs + (run / size) * revolutionNs;
      let waitedNs = firstNs > onTrackNs ? firstNs - onTrackNs : 0;
      if (hasZeroLatency && endNs - onTrackNs > revolutionNs) {
        // The head comes down inside the run: read the rest of it now, its beginning when it comes round.
        waitedNs %= revolutionNs / size;
        endNs = onTrackNs + waitedNs + revolutionNs;
      }
      if (next === block) {
        this.seekTimeNs = onTrackNs - startNs;
        this.rotationTimeNs = waitedNs;
        this.firstBlockNs = firstNs;
        this.firstSector = geometry.sector;
        this.passedSectors = Math.floor((waitedNs / revolutionNs) * size);
      }
      left -= run;
      if (left <= 0) {
        this.transferTimeNs = endNs - startNs - this.seekTimeNs - this.rotationTimeNs;
        return endNs;
      }
      next += run;
      nowNs = endNs;
    }
  }
}

function leastFrom(seekNs: Float64Array): Float64Array {
  // Most curves never fall: then the curve itself is the answer, and one table the less is in the processor's cache.
  if (seekNs.every((timeNs, distance) => distance === 0 || timeNs >= seekNs[distance - 1])) return seekNs;
  const least = seekNs.slice();
  for (let distance = least.length - 2; distance >= 0; distance--) {
    least[distance] = Math.min(least[distance], least[distance + 1]);
  }
  return least;
}
