/** How the kernel's NBD devices are called. */
import { BlkError } from "../../base/errors.js";

export function deviceName(index: number): string {
  return `nbd${index}`;
}

export function devicePath(index: number): string {
  return `/dev/nbd${index}`;
}

/** The n of "/dev/nbdn". @throws BlkError BLK_E_USAGE */
export function readDeviceIndex(path: string): number {
  const match = /^(?:\/dev\/)?nbd(\d{1,6})$/.exec(path);
  if (match !== null) return Number(match[1]);
  throw new BlkError(
    "BLK_E_USAGE",
    `"${path}" is no NBD device of the kernel`,
    "Give /dev/nbd0, for example",
  );
}
