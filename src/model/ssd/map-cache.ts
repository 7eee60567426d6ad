/**
 * Mapping cache of a drive that cannot hold its whole mapping: which pages of it are at hand. A page of 4 KiB maps 1024
 * units, 4 MiB of the host's. Which page goes is chosen by a clock hand that spares what was used since it last came by,
 * an approximation of least recently used (CLOCK, Corbato 1968); changed pages are written back when they go (as in DFTL,
 * ASPLOS'09). Copies made by collection are taken to update the mapping without it, in batches.
 */
const unitsPerPage = 1024;
const pageBytes = 4096;
const absent = -1;

export class MapCache {
  /** Changed pages that have gone and wait to be written. */
  evictedDirty = 0;
  private readonly frameOf: Int32Array;
  private readonly pageOf: Int32Array;
  private readonly isUsed: Uint8Array;
  private readonly isDirty: Uint8Array;
  private filled = 0;
  private hand = 0;

  constructor(hostUnits: number, sizeBytes: number) {
    const pages = Math.ceil(hostUnits / unitsPerPage);
    const frames = Math.max(1, Math.min(pages, Math.floor(sizeBytes / pageBytes)));
    this.frameOf = new Int32Array(pages).fill(absent);
    this.pageOf = new Int32Array(frames);
    this.isUsed = new Uint8Array(frames);
    this.isDirty = new Uint8Array(frames);
  }

  pageOfUnit(unit: number): number {
    return Math.floor(unit / unitsPerPage);
  }

  /** Looks a page up, and takes it in if it is absent; whether it was there. */
  touch(page: number, isChanged: boolean): boolean {
    let frame = this.frameOf[page];
    const wasThere = frame !== absent;
    if (!wasThere) {
      frame = this.frame();
      this.frameOf[page] = frame;
      this.pageOf[frame] = page;
      this.isDirty[frame] = 0;
    }
    this.isUsed[frame] = 1;
    if (isChanged) this.isDirty[frame] = 1;
    return wasThere;
  }

  /** A frame for a new page. */
  private frame(): number {
    const { pageOf, isUsed } = this;
    if (this.filled < pageOf.length) return this.filled++;
    while (isUsed[this.hand] === 1) {
      isUsed[this.hand] = 0;
      this.hand = this.hand + 1 === pageOf.length ? 0 : this.hand + 1;
    }
    const frame = this.hand;
    this.hand = this.hand + 1 === pageOf.length ? 0 : this.hand + 1;
    this.frameOf[pageOf[frame]] = absent;
    this.evictedDirty += this.isDirty[frame];
    return frame;
  }
}
