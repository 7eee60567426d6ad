/**
 * Wear: read retry, failures of programs and erases, and the spare blocks that take the place of bad ones.
 *
 * A bad block is replaced by a spare of the same die without anyone noticing but the health log. When spares are used up,
 * the superblock is lost with its next failed erase, as long as the host's data and collection can spare it.
 * Retention and read disturb are not modelled.
 */
import type { Random } from "../../base/random.js";
import type { SsdCounters } from "./counters.js";
import type { SsdParameters } from "./schema.js";
import type { Superblocks } from "./superblocks.js";

export class Wear {
  /** Blocks that have gone bad. */
  badBlocks = 0;
  /** Superblocks that may still be lost. */
  private expendable: number;

  constructor(
    private readonly wear: SsdParameters["wear"],
    private readonly retry: SsdParameters["retry"],
    private readonly superblocks: Superblocks,
    private readonly counters: SsdCounters,
    private readonly random: Random,
    /** Superblocks the host's data and collection need. */
    needed: number,
  ) {
    this.expendable = superblocks.count - needed;
  }

  /** Spare blocks left, in percent. */
  get availableSparePercent(): number {
    const { spares } = this.wear;
    return spares === 0 ? 100 : Math.max(0, Math.round((1 - this.badBlocks / spares) * 100));
  }

  /** Mean cycles in percent of what the flash is rated for. */
  get percentageUsed(): number {
    return Math.floor((this.superblocks.totalErases / this.superblocks.count / this.wear.rated) * 100);
  }

  /** What retries add to a read of the host. */
  retryNs(superblock: number): number {
    const { rate, cyclesPerStep, maximum, time } = this.retry;
    let steps = 0;
    if (cyclesPerStep > 0) steps = Math.floor(this.superblocks.erases[superblock] / cyclesPerStep);
    if (rate > 0) while (steps < maximum && this.random.next() < rate) steps++;
    if (steps === 0) return 0;
    steps = Math.min(steps, maximum);
    this.counters.retries += steps;
    return steps * time;
  }

  programFails(): boolean {
    const { programFailure } = this.wear;
    if (programFailure === 0 || this.random.next() >= programFailure) return false;
    this.counters.programFailures++;
    this.badBlocks++;
    return true;
  }

  /** A die's share of a superblock was erased; whether the superblock is lost. */
  eraseLoses(): boolean {
    const { eraseFailure, spares } = this.wear;
    if (eraseFailure === 0 || this.random.next() >= eraseFailure) return false;
    this.counters.eraseFailures++;
    this.badBlocks++;
    if (this.badBlocks <= spares || this.expendable <= 0) return false;
    this.expendable--;
    return true;
  }

  /** Whether wear is uneven enough to move long-lived data off a superblock as little worn as this. */
  isUneven(superblock: number): boolean {
    const { levelling } = this.wear;
    return levelling > 0 && this.superblocks.mostErases - this.superblocks.erases[superblock] > levelling;
  }
}
