/**
 * Compares a replay with its recording, completion by completion: the same model fed with the same arrivals must give
 * the same times to the bit.
 *
 * The two sides come at different moments: recorded completions while the trace is read ahead, replayed ones when the
 * model reports them. A ring holds whichever came first. It is larger than any request table, so a request finds its
 * counterpart unless one side is missing, as at the end of a recording that was cut off.
 */

const ringSize = 2 ** 17;
/** Different positions are listed up to here; a replay that differs, differs everywhere after. */
const maximumListed = 10;

export interface ComparisonReport {
  /** Completions found on both sides. */
  compared: number;
  /** Of these, with equal times, bit for bit. */
  identical: number;
  largestDifferenceNs: number;
  /** Requests, counted from 0, that were the first to differ. */
  firstDifferent: { request: number; recordedNs: number; replayedNs: number }[];
}

export class Comparison {
  private compared = 0;
  private identical = 0;
  private largestDifferenceNs = 0;
  private readonly firstDifferent: ComparisonReport["firstDifferent"] = [];
  private readonly recordedNs = new Float64Array(ringSize);
  private readonly replayedNs = new Float64Array(ringSize);
  /** Which request each place of the ring holds a time of; -1 for none. */
  private readonly recordedOrdinal = new Float64Array(ringSize).fill(-1);
  private readonly replayedOrdinal = new Float64Array(ringSize).fill(-1);

  recorded(ordinal: number, dueNs: number): void {
    const place = ordinal % ringSize;
    this.recordedNs[place] = dueNs;
    this.recordedOrdinal[place] = ordinal;
    if (this.replayedOrdinal[place] === ordinal) this.compare(place, ordinal);
  }

  replayed(ordinal: number, dueNs: number): void {
    const place = ordinal % ringSize;
    this.replayedNs[place] = dueNs;
    this.replayedOrdinal[place] = ordinal;
    if (this.recordedOrdinal[place] === ordinal) this.compare(place, ordinal);
  }

  report(): ComparisonReport {
    const { compared, identical, largestDifferenceNs, firstDifferent } = this;
    return { compared, identical, largestDifferenceNs, firstDifferent };
  }

  private compare(place: number, ordinal: number): void {
    const recordedNs = this.recordedNs[place];
    const replayedNs = this.replayedNs[place];
    this.compared++;
    if (recordedNs === replayedNs) {
      this.identical++;
      return;
    }
    this.largestDifferenceNs = Math.max(this.largestDifferenceNs, Math.abs(recordedNs - replayedNs));
    if (this.firstDifferent.length < maximumListed) {
      this.firstDifferent.push({ request: ordinal, recordedNs, replayedNs });
    }
  }
}
