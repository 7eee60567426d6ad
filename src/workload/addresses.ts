/**
 * Where a job's requests go, and how long they are.
 *
 * Sequential directions each have a position of their own, as in fio, and begin again at the start of the region.
 * Random offsets are multiples of the direction's smallest block size; a request that would pass the region's end is
 * moved back. With one block size and a uniform distribution every block comes once before any comes again (fio's
 * random map); with several sizes blocks may repeat, where fio would shorten requests instead.
 */
import { BlkError } from "../base/errors.js";
import { Random } from "../base/random.js";
import { type BlockSizes, directions, type JobOptions } from "./options.js";
import { Permutation } from "./permutation.js";
import { createRanks, type Ranks } from "./ranks.js";

export interface Region {
  fromBytes: number;
  lengthBytes: number;
}

export class Addresses {
  /** Of the request `draw` came to last. */
  offsetBytes = 0;
  lengthBytes = 0;

  private readonly sizes: SizeChoice[];
  private readonly positions = new Float64Array(directions.length);
  private readonly random: Random;
  private readonly ranks: Ranks[] = [];
  private readonly scatter: Permutation[] = [];
  /** Covers every block once; null where blocks may repeat. */
  private readonly coverage: Permutation | null;
  private covered = 0;

  /** @throws BlkError when the region is smaller than a request. */
  constructor(
    private readonly job: JobOptions,
    private readonly region: Region,
    seed: number,
    stream: string,
  ) {
    this.random = new Random(seed, `${stream}/offset`);
    const sizesRandom = new Random(seed, `${stream}/size`);
    this.sizes = job.blockSizes.map((sizes) => new SizeChoice(sizes, sizesRandom));
    const used = this.sizes.filter((_, direction) => job.does[direction]);
    const largestBytes = Math.max(...used.map((size) => size.largestBytes));
    if (largestBytes > region.lengthBytes) {
      throw new BlkError(
        "BLK_E_WORKLOAD",
        `job "${job.name}": requests of ${largestBytes} bytes do not fit its ${Math.max(region.lengthBytes, 0)} bytes of the device`,
        "Give a smaller bs or offset, or a larger size",
      );
    }
    const scatterRandom = new Random(seed, `${stream}/scatter`);
    for (const size of this.sizes) {
      const blocks = Math.max(1, Math.floor(region.lengthBytes / size.smallestBytes));
      this.ranks.push(createRanks(job.distribution, blocks, this.random));
      this.scatter.push(new Permutation(blocks, scatterRandom));
    }
    const isOneSize = used.every((size) => size.isFixed && size.smallestBytes === largestBytes);
    const isCovering = job.coversEachBlockOnce && job.distribution.kind === "uniform" && isOneSize;
    this.coverage = isCovering
      ? new Permutation(Math.floor(region.lengthBytes / largestBytes), this.random)
      : null;
  }

  /** Decides offset and length of the next request in `direction`. */
  draw(direction: number): void {
    this.lengthBytes = this.sizes[direction].draw();
    const isRandom =
      this.job.isRandom &&
      (this.job.randomPercent[direction] === 100 ||
        this.random.nextInteger(100) < this.job.randomPercent[direction]);
    const relative = isRandom ? this.drawRandom(direction) : this.sequential(direction);
    this.offsetBytes = this.region.fromBytes + relative;
    this.positions[direction] = relative + this.lengthBytes;
  }

  private sequential(direction: number): number {
    const position = this.positions[direction];
    return position + this.lengthBytes > this.region.lengthBytes ? 0 : position;
  }

  private drawRandom(direction: number): number {
    const { coverage } = this;
    if (coverage !== null) {
      if (this.covered === coverage.count) {
        this.covered = 0;
        coverage.rekey(this.random);
      }
      return coverage.at(this.covered++) * this.lengthBytes;
    }
    const alignment = this.sizes[direction].smallestBytes;
    const rank = this.ranks[direction].next();
    const block = this.job.distribution.kind === "uniform" ? rank : this.scatter[direction].at(rank);
    const last = Math.floor((this.region.lengthBytes - this.lengthBytes) / alignment);
    return Math.min(block, last) * alignment;
  }
}

/** Draws request sizes of one direction. */
class SizeChoice {
  readonly smallestBytes: number;
  readonly largestBytes: number;
  private readonly bytes: Float64Array;
  /** Shares added up, in percent. */
  private readonly upToPercent: Float64Array;

  constructor(
    private readonly choice: BlockSizes,
    private readonly random: Random,
  ) {
    const parts = choice.kind === "split" ? choice.parts.filter(({ percent }) => percent > 0) : [];
    this.bytes = Float64Array.from(parts, ({ bytes }) => bytes);
    let sum = 0;
    this.upToPercent = Float64Array.from(parts, ({ percent }) => {
      sum += percent;
      return sum;
    });
    this.smallestBytes = choice.kind === "range" ? choice.fromBytes : Math.min(...this.bytes);
    this.largestBytes = choice.kind === "range" ? choice.toBytes : Math.max(...this.bytes);
  }

  get isFixed(): boolean {
    return this.smallestBytes === this.largestBytes;
  }

  draw(): number {
    if (this.smallestBytes === this.largestBytes) return this.smallestBytes;
    if (this.choice.kind === "range") {
      // Multiples of the smallest size, as in fio.
      const steps = Math.floor(this.largestBytes / this.smallestBytes);
      return this.smallestBytes * (1 + this.random.nextInteger(steps));
    }
    const percent = this.random.next() * 100;
    const last = this.bytes.length - 1;
    let part = 0;
    while (part < last && percent >= this.upToPercent[part]) part++;
    return this.bytes[part];
  }
}
