/** What a drive has done, in units of 4 KiB unless said otherwise. */
export interface SsdCounters {
  /** Written by the host, and of these replaced in the buffer before they reached flash. */
  hostWritten: number;
  absorbed: number;
  hostRead: number;
  bufferHits: number;
  unmappedReads: number;
  trimmed: number;
  /** Programmed: data of the host, and copies made by collection, wear levelling and folding; filling of short units. */
  programmed: number;
  copied: number;
  levelled: number;
  folded: number;
  padding: number;
  /** Superblocks. */
  collected: number;
  erased: number;
  /** Pages of the mapping read and written because the cache did not hold them. */
  mapReads: number;
  mapWrites: number;
  /** Steps of read retry, failed programs and erases of a die's share, superblocks lost. */
  retries: number;
  programFailures: number;
  eraseFailures: number;
  retired: number;
  /** Commands that found no room in the buffer. */
  stalledWrites: number;
}

export function createCounters(): SsdCounters {
  return {
    hostWritten: 0,
    absorbed: 0,
    hostRead: 0,
    bufferHits: 0,
    unmappedReads: 0,
    trimmed: 0,
    programmed: 0,
    copied: 0,
    levelled: 0,
    folded: 0,
    padding: 0,
    collected: 0,
    erased: 0,
    mapReads: 0,
    mapWrites: 0,
    retries: 0,
    programFailures: 0,
    eraseFailures: 0,
    retired: 0,
    stalledWrites: 0,
  };
}

/** Write amplification: everything programmed for each unit of the host's that was. Filling counts. */
export function writeAmplification({ programmed, copied, levelled, folded, padding }: SsdCounters): number {
  return programmed === 0 ? 1 : (programmed + copied + levelled + folded + padding) / programmed;
}
