/**
 * Metadata contexts: the maps of a device a client may ask for by BLOCK_STATUS, their names, and how they are chosen.
 *
 *   base:allocation     HOLE (1) and ZERO (2), both set where the store holds nothing
 *   x-blkforge:fault    one bit per operation an armed fault may hit there: read 1, write 2, flush 4, trim 8, zeroes 16
 *
 * Source: NetworkBlockDevice/nbd, `doc/proto.md`, "Metadata querying" and "The `base:` metadata namespace".
 */
import type { BlockTarget } from "../base/target.js";
import type { RunList } from "./run-list.js";

export interface MetaContext {
  readonly name: string;
  /** Its number in a conversation; 0 is left to listings, where numbers mean nothing. */
  readonly id: number;
  /** What is true of a block two runs share, so that nobody is misled by it. */
  merge(a: number, b: number): number;
  /** Adds runs of the range to `list` until it is full. */
  collect(target: BlockTarget, offsetBytes: number, lengthBytes: number, list: RunList): void;
}

/** States of `base:allocation`. */
const holeThatReadsZero = 1 | 2;

const allocation: MetaContext = {
  name: "base:allocation",
  id: 1,
  // 0, "held, and not known to be zero", is always safe to say.
  merge: (a, b) => a & b,
  collect(target, offsetBytes, lengthBytes, list) {
    for (const extent of target.extents(offsetBytes, lengthBytes)) {
      const flags = extent.isAllocated ? 0 : holeThatReadsZero;
      if (!list.add(extent.offsetBytes, extent.lengthBytes, flags)) return;
    }
  },
};

const faults: MetaContext = {
  name: "x-blkforge:fault",
  id: 2,
  merge: (a, b) => a | b,
  collect(target, offsetBytes, lengthBytes, list) {
    for (const extent of target.faultExtents(offsetBytes, lengthBytes)) {
      if (!list.add(extent.offsetBytes, extent.lengthBytes, extent.opMask)) return;
    }
  },
};

const metaContexts: readonly MetaContext[] = [allocation, faults];

/**
 * The contexts queries mean. Listing knows wildcards (a namespace and a colon) and takes no query as all; selecting
 * wants names in full. Queries nobody knows mean nothing.
 */
export function findMetaContexts(queries: readonly string[], isListing: boolean): MetaContext[] {
  if (isListing && queries.length === 0) return [...metaContexts];
  return metaContexts.filter(({ name }) => {
    const wildcard = name.slice(0, name.indexOf(":") + 1);
    return queries.some((query) => query === name || (isListing && query === wildcard));
  });
}
