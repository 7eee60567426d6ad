/**
 * Zones as a transport sees them: what it needs to tell a host of a zoned device.
 *
 * Words and numbers are the block layer's own (`include/uapi/linux/blkzoned.h`), which names the states of ZBC and ZNS alike.
 */

/** Condition of a zone, as `enum blk_zone_cond` numbers it. */
export const ZoneCondition = Object.freeze({
  /** A conventional zone: it has no write pointer. */
  conventional: 0,
  empty: 1,
  implicitlyOpen: 2,
  explicitlyOpen: 3,
  closed: 4,
  readOnly: 13,
  full: 14,
  offline: 15,
});

/** How a device is divided into zones, and what its hardware allows. */
export interface ZoneLayout {
  /** A power of two. */
  zoneBytes: number;
  /** Of a sequential zone; not more than `zoneBytes`. */
  capacityBytes: number;
  /** Zones at the beginning that are written as any disk is. */
  conventionalCount: number;
  /** Zones that may be open, and open or closed, at a time; 0: no limit. */
  maxOpen: number;
  maxActive: number;
  /** Longest append. */
  maxAppendBytes: number;
  /** Zones that are worn out from the start, by number; none of them conventional. */
  readOnly: readonly number[];
  offline: readonly number[];
}

/** The zones of a running device. */
export interface ZoneView {
  /** These are as in `ZoneLayout`. */
  readonly zoneBytes: number;
  readonly maxOpen: number;
  readonly maxActive: number;
  readonly maxAppendBytes: number;
  readonly count: number;

  isConventional(zone: number): boolean;
  /** Bytes from the zone's start that can be written. */
  capacityBytes(zone: number): number;
  /** See `ZoneCondition`. */
  condition(zone: number): number;
  /** From the zone's start; the zone's end when it is full. Means nothing for a zone that is conventional, read-only or offline. */
  writePointerBytes(zone: number): number;
}
