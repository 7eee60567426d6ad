/**
 * The runs of one answer to BLOCK_STATUS: equal neighbours joined, boundaries on whole blocks, never more than fit.
 * Two arrays used over and over; filling them allocates nothing.
 */

/** Runs in one answer and context; a client asks on from where it ends. The protocol would allow 2^20. */
export const maximumRuns = 2000;

export class RunList {
  count = 0;
  readonly lengths = new Float64Array(maximumRuns);
  readonly flags = new Uint32Array(maximumRuns);

  private limit = maximumRuns;
  private startBytes = 0;
  private endBytes = 0;
  /** End of the last run so far. */
  private coveredBytes = 0;
  private blockBytes = 1;
  private merge: (a: number, b: number) => number = (a) => a;

  /** Begins the answer for a range of whole blocks, with at most `limit` runs. */
  begin(
    offsetBytes: number,
    lengthBytes: number,
    options: { limit: number; blockBytes: number; merge: (a: number, b: number) => number },
  ): void {
    this.count = 0;
    this.limit = Math.min(options.limit, maximumRuns);
    this.startBytes = offsetBytes;
    this.coveredBytes = offsetBytes;
    this.endBytes = offsetBytes + lengthBytes;
    this.blockBytes = options.blockBytes;
    this.merge = options.merge;
  }

  /** Adds the next run; false when the list is full, and what there is of it stands. */
  add(offsetBytes: number, lengthBytes: number, flags: number): boolean {
    const toBytes = offsetBytes + lengthBytes;
    if (offsetBytes < this.coveredBytes) {
      // It begins in the last block of the run before.
      if (!this.mergeLastBlock(flags)) return false;
      if (toBytes <= this.coveredBytes) return true;
    }
    const beyond = (toBytes - this.startBytes) % this.blockBytes;
    const wholeBytes = beyond === 0 ? toBytes : toBytes + this.blockBytes - beyond;
    return this.push(Math.min(wholeBytes, this.endBytes) - this.coveredBytes, flags);
  }

  private mergeLastBlock(flags: number): boolean {
    const last = this.count - 1;
    const merged = this.merge(this.flags[last], flags);
    if (merged === this.flags[last]) return true;
    const { blockBytes } = this;
    this.lengths[last] -= blockBytes;
    this.coveredBytes -= blockBytes;
    if (this.lengths[last] === 0) this.count--;
    return this.push(blockBytes, merged);
  }

  private push(lengthBytes: number, flags: number): boolean {
    const last = this.count - 1;
    if (last >= 0 && this.flags[last] === flags) {
      this.lengths[last] += lengthBytes;
    } else if (this.count < this.limit) {
      this.lengths[this.count] = lengthBytes;
      this.flags[this.count] = flags;
      this.count++;
    } else {
      return false;
    }
    this.coveredBytes += lengthBytes;
    return true;
  }
}
