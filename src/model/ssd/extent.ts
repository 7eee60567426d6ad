/** Which units of the mapping a request touches, and how much of them. */
import type { RequestSlot, RequestTable } from "../../base/request.js";
import { unitBytes } from "./geometry.js";

export function firstUnit(requests: RequestTable, slot: RequestSlot): number {
  return Math.floor(requests.offsetBytes[slot] / unitBytes);
}

/** Unit after the last that a request touches. */
export function endUnit(requests: RequestTable, slot: RequestSlot): number {
  return Math.ceil((requests.offsetBytes[slot] + requests.lengthBytes[slot]) / unitBytes);
}

/** Bytes of a request within units `first` up to `end`. */
export function bytesWithin(requests: RequestTable, slot: RequestSlot, first: number, end: number): number {
  const startBytes = requests.offsetBytes[slot];
  const endBytes = startBytes + requests.lengthBytes[slot];
  return Math.min(endBytes, end * unitBytes) - Math.max(startBytes, first * unitBytes);
}
