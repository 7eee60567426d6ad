/**
 * Write cache: what the drive has acknowledged and not yet brought to the media.
 *
 * Dirty blocks form runs; a write that touches a run, or continues it, joins it up to a largest size. The cache is
 * bounded in bytes and in runs: a write without room waits. Runs carry the flush period in which their oldest data
 * was written, so a flush knows when everything before it is on the media even while new writes go on.
 *
 * A run on its way to the media is no longer dirty, but holds its room until it has arrived.
 */
import { Extents, none } from "./extents.js";

export interface WriteCacheOptions {
  capacitySectors: number;
  /** Most runs at once. */
  extents: number;
  /** Largest run that neighbouring writes merge into. */
  extentSectors: number;
  /** Flushes that can be waiting at once. */
  flushes: number;
}

export class WriteCache {
  readonly runs: Extents;
  /** Sectors that occupy the cache: dirty ones, and those on their way to the media. */
  heldSectors = 0;

  private readonly capacitySectors: number;
  private readonly maximumRuns: number;
  private readonly extentSectors: number;
  /** Flush period of each run's oldest data. */
  private readonly periods: Float64Array;
  /** Runs not yet on the media, by period modulo the length. */
  private readonly runsOfPeriod: Int32Array;
  private period = 0;
  /** The earliest period with runs not yet on the media, as far as known. */
  private oldestPeriod = 0;
  /** Order of insertion, for writing back by age. */
  private readonly older: Int32Array;
  private readonly newer: Int32Array;
  private oldest = none;
  private newest = none;
  private movingRuns = 0;
  /** The run last sent to the media. */
  private lastStart = -1;
  private lastEnd = -1;

  constructor(options: WriteCacheOptions) {
    this.capacitySectors = options.capacitySectors;
    this.maximumRuns = options.extents;
    this.extentSectors = options.extentSectors;
    // Cutting a hole into a run makes two of one: the pool has a run to spare for it.
    const pool = options.extents + 1;
    this.runs = new Extents(pool);
    this.periods = new Float64Array(pool);
    this.older = new Int32Array(pool);
    this.newer = new Int32Array(pool);
    this.runsOfPeriod = new Int32Array(options.flushes + 2);
  }

  /** Whether nothing waits to be written back; some may still be on its way. */
  get isClean(): boolean {
    return this.runs.size === 0;
  }

  /** Fraction of the room in use, by bytes or by runs, whichever is scarcer. */
  get fullness(): number {
    return Math.max(
      this.heldSectors / this.capacitySectors,
      (this.runs.size + this.movingRuns) / this.maximumRuns,
    );
  }

  get oldestRun(): number {
    return this.oldest;
  }

  private get hasAllRuns(): boolean {
    return this.runs.size + this.movingRuns >= this.maximumRuns;
  }

  /** Whether all of the blocks are dirty here. */
  holds(start: number, end: number): boolean {
    let at = start;
    let run = this.runs.atOrBefore(start);
    while (run !== none && this.runs.start[run] <= at) {
      if (this.runs.end[run] > at) at = this.runs.end[run];
      if (at >= end) return true;
      run = this.runs.next(run);
    }
    return false;
  }

  /** Whether a write would join a dirty run. */
  joins(start: number, end: number): boolean {
    const run = this.runs.atOrBefore(end);
    return run !== none && this.runs.end[run] >= start;
  }

  /**
   * Whether a write touches or continues a dirty run or the last one written back, whose data and description are
   * still in the buffer: what a drive's firmware counts as a write hit.
   */
  isHit(start: number, end: number): boolean {
    return (start <= this.lastEnd && end >= this.lastStart) || this.joins(start, end);
  }

  /** Takes a write in; false, and nothing done, when there is no room. */
  insert(start: number, end: number): boolean {
    const { runs } = this;
    if (this.holds(start, end)) return true;
    if (this.heldSectors + (end - start) > this.capacitySectors && this.heldSectors > 0) return false;
    const before = runs.atOrBefore(start);
    if (before !== none && runs.end[before] >= start && end - runs.start[before] <= this.extentSectors) {
      this.grow(before, end);
      return true;
    }
    const reach = runs.atOrBefore(end);
    const touches = reach !== none && runs.end[reach] >= start;
    if (!touches && this.hasAllRuns) return false;
    // What replaces unflushed data must itself be on the media when that flush ends.
    const period = this.cut(start, end);
    // With every run taken, what the write touched was cut back to its edge: that neighbour takes it, however long.
    const limit = this.hasAllRuns ? Number.POSITIVE_INFINITY : this.extentSectors;
    const left = runs.atOrBefore(start);
    if (left !== none && runs.end[left] === start && end - runs.start[left] <= limit) {
      this.backdate(left, period);
      this.grow(left, end);
      return true;
    }
    const right = runs.endingAfter(end);
    if (right !== none && runs.start[right] === end && runs.end[right] - start <= limit) {
      this.backdate(right, period);
      this.heldSectors += end - start;
      runs.resize(right, start, runs.end[right]);
      return true;
    }
    this.add(start, end, period);
    return true;
  }

  /** Forgets dirty blocks that a write past the cache has replaced on the media. */
  discard(start: number, end: number): void {
    this.cut(start, end);
  }

  /** A run leaves for the media. Its room is given back by `arrived`. */
  depart(run: number): void {
    this.lastStart = this.runs.start[run];
    this.lastEnd = this.runs.end[run];
    this.unlinkByAge(run);
    this.runs.remove(run);
    this.movingRuns++;
  }

  /** Flush period of a run, to be handed back to `arrived`. */
  periodOf(run: number): number {
    return this.periods[run];
  }

  arrived(sectors: number, period: number): void {
    this.heldSectors -= sectors;
    this.movingRuns--;
    this.runsOfPeriod[period % this.runsOfPeriod.length]--;
  }

  /** Begins a new period; returns the one that ends, for `isFlushed`. */
  endPeriod(): number {
    return this.period++;
  }

  /** Whether everything written in `period` and before is on the media. */
  isFlushed(period: number): boolean {
    while (
      this.oldestPeriod <= period &&
      this.runsOfPeriod[this.oldestPeriod % this.runsOfPeriod.length] === 0
    ) {
      this.oldestPeriod++;
    }
    return this.oldestPeriod > period;
  }

  /** Extends a run to `end`, swallowing what lies between. */
  private grow(run: number, end: number): void {
    const { runs } = this;
    if (end <= runs.end[run]) return;
    let to = end;
    for (;;) {
      const next = runs.next(run);
      if (next === none || runs.start[next] > to) break;
      // A neighbour that would make the run too long only gives up its beginning.
      if (runs.end[next] > to && runs.end[next] - runs.start[run] > this.extentSectors) {
        this.heldSectors -= to - runs.start[next];
        runs.resize(next, to, runs.end[next]);
        break;
      }
      to = Math.max(to, runs.end[next]);
      this.backdate(run, this.periods[next]);
      this.drop(next);
    }
    this.heldSectors += to - runs.end[run];
    runs.resize(run, runs.start[run], to);
  }

  /** The run now counts for `period`, if that is older than its own. */
  private backdate(run: number, period: number): void {
    if (period >= this.periods[run]) return;
    const { runsOfPeriod } = this;
    runsOfPeriod[this.periods[run] % runsOfPeriod.length]--;
    runsOfPeriod[period % runsOfPeriod.length]++;
    this.periods[run] = period;
  }

  /** Removes the blocks from all runs; returns the oldest flush period among these, the current one if there are none. */
  private cut(start: number, end: number): number {
    const { runs } = this;
    let period = this.period;
    let run = runs.endingAfter(start);
    while (run !== none && runs.start[run] < end) {
      const next = runs.next(run);
      const runStart = runs.start[run];
      const runEnd = runs.end[run];
      period = Math.min(period, this.periods[run]);
      if (runStart < start && runEnd > end) {
        // A hole in the middle. Without a spare run the hole stays dirty: written twice, harmless.
        if (runs.isFull) return period;
        runs.resize(run, runStart, start);
        this.heldSectors -= runEnd - start;
        this.add(end, runEnd, this.periods[run]);
      } else if (runStart < start) {
        this.heldSectors -= runEnd - start;
        runs.resize(run, runStart, start);
      } else if (runEnd > end) {
        this.heldSectors -= end - runStart;
        runs.resize(run, end, runEnd);
      } else {
        this.drop(run);
      }
      run = next;
    }
    return period;
  }

  private add(start: number, end: number, period: number): void {
    const run = this.runs.insert(start, end);
    this.periods[run] = period;
    this.runsOfPeriod[period % this.runsOfPeriod.length]++;
    this.heldSectors += end - start;
    this.older[run] = this.newest;
    this.newer[run] = none;
    if (this.newest === none) this.oldest = run;
    else this.newer[this.newest] = run;
    this.newest = run;
  }

  private drop(run: number): void {
    this.heldSectors -= this.runs.end[run] - this.runs.start[run];
    this.runsOfPeriod[this.periods[run] % this.runsOfPeriod.length]--;
    this.unlinkByAge(run);
    this.runs.remove(run);
  }

  private unlinkByAge(run: number): void {
    const before = this.older[run];
    const after = this.newer[run];
    if (before === none) this.oldest = after;
    else this.newer[before] = after;
    if (after === none) this.newest = before;
    else this.older[after] = before;
  }
}
