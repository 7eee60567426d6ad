/**
 * Where data lie on flash: superblocks, program units, dies, planes and page types, in arithmetic.
 *
 * The unit of the mapping is 4 KiB. A superblock is one block of every plane of every die, as in FEMU ("line") and in
 * drives with RAIN; it is collected and erased as a whole. Within it, data go to the dies in turn, one program unit at a
 * time: what a one-shot program writes, one wordline over all planes, every page type of it. Within a program unit,
 * data fill the first page of each plane, then the second. A unit's address is the number of its superblock times
 * `superblockUnits` plus its place. In SLC mode a wordline holds one page per plane, so only the first places exist.
 *
 * Real drives differ in detail (blocks retired from a stripe, parity, several open stripes); none of it shows at this
 * resolution.
 */
import { BlkError } from "../../base/errors.js";
import { formatSize } from "../../base/units.js";
import { cellBits, type SsdParameters } from "./schema.js";

/** Bytes of a mapping unit. */
export const unitBytes = 4096;

/** Superblocks there are at least, so that collection has a choice; blocks of small devices shrink for it. */
const fewestSuperblocks = 160;

/** Superblocks that are never part of the host's space: open frontiers and what collection must have left. */
const reserveSuperblocks = 6;

/** An address and 1 must fit in 32 bits, and the highest value stands for "unmapped". */
const mostUnits = 2 ** 32 - 2;

export class Geometry {
  /** Units of the host's capacity. */
  readonly hostUnits: number;
  readonly channels: number;
  readonly dies: number;
  readonly planes: number;
  /** Bits per cell: page types of a wordline. */
  readonly bits: number;
  readonly pageUnits: number;
  /** Pages of one type, of all planes: what one multi-plane read gives. */
  readonly stripeUnits: number;
  readonly programUnits: number;
  readonly slcProgramUnits: number;
  /** Wordlines of a block, hence programs per die of a superblock. */
  readonly wordlines: number;
  readonly programsPerSuperblock: number;
  readonly superblockUnits: number;
  readonly slcSuperblockUnits: number;
  readonly superblocks: number;
  /** What the host's data, frontiers and collection cannot do without. */
  readonly neededSuperblocks: number;
  /** All addresses, used or not. */
  readonly physicalUnits: number;

  constructor({ flash, ftl }: SsdParameters, sizeBytes: number) {
    this.hostUnits = Math.ceil(sizeBytes / unitBytes);
    this.channels = flash.channels;
    this.dies = flash.channels * flash.diesPerChannel;
    this.planes = flash.planes;
    this.bits = cellBits[flash.cell];
    this.pageUnits = flash.pageSize / unitBytes;
    this.stripeUnits = this.pageUnits * this.planes;
    this.slcProgramUnits = this.stripeUnits;
    this.programUnits = this.stripeUnits * this.bits;
    const wanted = Math.ceil(this.hostUnits * (1 + ftl.overProvisioning));
    const lineUnits = this.programUnits * this.dies;
    this.wordlines = Math.max(
      1,
      Math.min(flash.pagesPerBlock / this.bits, Math.floor(wanted / lineUnits / fewestSuperblocks)),
    );
    this.programsPerSuperblock = this.dies * this.wordlines;
    this.superblockUnits = lineUnits * this.wordlines;
    this.slcSuperblockUnits = this.slcProgramUnits * this.programsPerSuperblock;
    this.neededSuperblocks = Math.ceil(this.hostUnits / this.superblockUnits) + reserveSuperblocks;
    this.superblocks = Math.max(Math.round(wanted / this.superblockUnits), this.neededSuperblocks);
    this.physicalUnits = this.superblocks * this.superblockUnits;
    if (this.physicalUnits > mostUnits) {
      throw new BlkError(
        "BLK_E_SIZE",
        `size ${formatSize(sizeBytes)} is over what the ssd model can map, about 16T of flash`,
        "Choose a smaller one",
      );
    }
  }

  channelOf(die: number): number {
    return die % this.channels;
  }
}
