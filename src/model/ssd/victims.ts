/**
 * Which superblock to collect. Greedy takes the one with the least valid data; d-choices the best of some drawn at random
 * (Van Houdt, SIGMETRICS'13: ten are nearly as good as all); FIFO the oldest; cost-benefit weighs what is gained and
 * how long it has been left alone against the copying (Rosenblum and Ousterhout, SOSP'91: (1-u)*age/2u).
 */
import type { Random } from "../../base/random.js";
import type { SsdParameters } from "./schema.js";
import { none, State, type Superblocks } from "./superblocks.js";

export class Victims {
  constructor(
    private readonly superblocks: Superblocks,
    private readonly superblockUnits: number,
    private readonly gc: Pick<SsdParameters["gc"], "policy" | "choices">,
    private readonly random: Random,
  ) {}

  /** The superblock to collect, `none` if nothing would be gained. `placed` is the present, in units of the host. */
  choose(placed: number): number {
    switch (this.gc.policy) {
      case "d-choices":
        return this.chooseAmong();
      case "fifo":
        return this.chooseBy((superblock) => -this.superblocks.order[superblock]);
      case "cost-benefit":
        return this.chooseBy((superblock) => {
          const used = this.superblocks.valid[superblock] / this.superblockUnits;
          const age = placed - this.superblocks.closedAt[superblock] + 1;
          return used === 0 ? Number.POSITIVE_INFINITY : ((1 - used) * age) / (2 * used);
        });
      default:
        return this.leastValid();
    }
  }

  /** Whether a superblock may be collected, and would give anything. */
  private isCandidate(superblock: number): boolean {
    const { state, pending, valid, isSlc } = this.superblocks;
    return (
      state[superblock] === State.closed &&
      isSlc[superblock] === 0 &&
      pending[superblock] === 0 &&
      valid[superblock] < this.superblockUnits
    );
  }

  private leastValid(): number {
    const { valid, order, count } = this.superblocks;
    let best = none;
    for (let superblock = 0; superblock < count; superblock++) {
      if (best !== none && valid[superblock] > valid[best]) continue;
      if (!this.isCandidate(superblock)) continue;
      if (best === none || valid[superblock] < valid[best] || order[superblock] < order[best])
        best = superblock;
    }
    return best;
  }

  private chooseBy(score: (superblock: number) => number): number {
    let best = none;
    let bestScore = Number.NEGATIVE_INFINITY;
    for (let superblock = 0; superblock < this.superblocks.count; superblock++) {
      if (!this.isCandidate(superblock)) continue;
      const value = score(superblock);
      if (value > bestScore) {
        best = superblock;
        bestScore = value;
      }
    }
    return best;
  }

  private chooseAmong(): number {
    const { valid, count } = this.superblocks;
    let best = none;
    for (let drawn = 0; drawn < this.gc.choices; drawn++) {
      const superblock = this.random.nextInteger(count);
      if (this.isCandidate(superblock) && (best === none || valid[superblock] < valid[best]))
        best = superblock;
    }
    return best === none ? this.leastValid() : best;
  }
}
