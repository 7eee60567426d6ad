/**
 * Which die, plane and page type an address lies on, and how long its page takes to sense.
 *
 * Results are fields, so that nothing is allocated per look-up.
 */
import type { Geometry } from "./geometry.js";
import type { SsdParameters } from "./schema.js";
import type { Superblocks } from "./superblocks.js";

export class PageTimes {
  /** Of the address last located. */
  die = 0;
  plane = 0;
  readNs = 0;
  superblock = 0;
  /** First address of the flash page. */
  page = 0;

  /** Sensing the first page type. */
  readonly firstReadNs: number;
  readonly longestReadNs: number;

  private readonly byType: Float64Array;
  private readonly slcReadNs: number;

  constructor(
    private readonly geometry: Geometry,
    private readonly superblocks: Superblocks,
    flash: SsdParameters["flash"],
  ) {
    const { read } = flash;
    this.byType = Float64Array.from({ length: geometry.bits }, (_, type) =>
      typeof read === "number" ? read : read[Math.min(type, read.length - 1)],
    );
    this.firstReadNs = this.byType[0];
    this.longestReadNs = Math.max(...this.byType);
    this.slcReadNs = flash.slcMode.read;
  }

  locate(address: number): void {
    const { geometry } = this;
    const { pageUnits, planes } = geometry;
    const superblock = Math.floor(address / geometry.superblockUnits);
    const place = address - superblock * geometry.superblockUnits;
    const isSlc = this.superblocks.isSlc[superblock] === 1;
    const programUnits = isSlc ? geometry.slcProgramUnits : geometry.programUnits;
    const program = Math.floor(place / programUnits);
    const within = place - program * programUnits;
    const page = Math.floor(within / pageUnits);
    this.superblock = superblock;
    this.die = program % geometry.dies;
    this.plane = page % planes;
    this.page = address - (within - page * pageUnits);
    this.readNs = isSlc ? this.slcReadNs : this.byType[Math.floor(page / planes)];
  }
}
