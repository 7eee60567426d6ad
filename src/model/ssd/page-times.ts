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
  /** Number of that time among those a page can take. */
  readClass = 0;
  superblock = 0;
  /** First address of the flash page. */
  page = 0;

  /** Sensing the first page type. */
  readonly firstReadNs: number;
  readonly longestReadNs: number;

  /** How many different times pages take to sense. */
  readonly readClasses: number;

  /** By page type, and last of pages in SLC mode. */
  private readonly times: Float64Array;
  private readonly classes: Uint8Array;
  private readonly slc: number;

  constructor(
    private readonly geometry: Geometry,
    private readonly superblocks: Superblocks,
    flash: SsdParameters["flash"],
  ) {
    const { read } = flash;
    const byType = Array.from({ length: geometry.bits }, (_, type) =>
      typeof read === "number" ? read : read[Math.min(type, read.length - 1)],
    );
    this.firstReadNs = byType[0];
    this.longestReadNs = Math.max(...byType);
    this.times = Float64Array.of(...byType, flash.slcMode.read);
    const different = [...new Set(this.times)];
    this.readClasses = different.length;
    this.classes = Uint8Array.from(this.times, (timeNs) => different.indexOf(timeNs));
    this.slc = byType.length;
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
    const type = isSlc ? this.slc : Math.floor(page / planes);
    this.readNs = this.times[type];
    this.readClass = this.classes[type];
  }
}
