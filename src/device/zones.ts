/**
 * The zones of a device, if its profile has some, and what a zoned device cannot do.
 */
import { BlkError } from "../base/errors.js";
import type { Store } from "../store/store.js";
import { ZoneTable } from "../zone/table.js";
import type { DeviceSpec } from "./spec.js";

export function createZones({ profile: { zones } }: DeviceSpec, store: Store): ZoneTable | null {
  if (zones === null) return null;
  return new ZoneTable(zones, store.sizeBytes, (offset, length) => store.trim(offset, length));
}

/**
 * NBD has no way to ask for zones or to reset one: its clients would take a zoned device for a plain disk, on which a
 * second write to the same place fails.
 *
 * @throws BlkError BLK_E_ZONED
 */
export function refuseZonesOverNbd({ profile }: DeviceSpec): void {
  if (profile.zones === null) return;
  throw new BlkError(
    "BLK_E_ZONED",
    `"${profile.name}" is a zoned device, and NBD knows no zones`,
    "Attach it with --ublk, or see how its timing does with blkforge simulate",
  );
}

/** @throws BlkError BLK_E_ZONED when a zoned device is to keep its bytes in a file */
export function refuseZonesInFile({ profile, file }: DeviceSpec): void {
  if (profile.zones === null || file === null) return;
  throw new BlkError(
    "BLK_E_ZONED",
    `"${profile.name}" is a zoned device: its write pointers live in memory and would not be in "${file}"`,
    "Leave out --file and --recovery",
  );
}
