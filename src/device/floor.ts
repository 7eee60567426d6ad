/**
 * The floor: the time a transport itself takes, on one machine, from a program's request to its answer when the device takes
 * none. `blkforge calibrate-floor` measures it, `--subtract-floor` takes it off what the model says.
 *
 * It is the median of single requests, one after the other. Under load a transport takes longer for each; that stays visible.
 */
import * as z from "zod";
import { BlkError } from "../base/errors.js";
import { Op, operations } from "../base/request.js";
import { formatDuration } from "../base/units.js";

export const floorTransports = ["nbd-user", "nbd-kernel", "ublk"] as const;
export type FloorTransport = (typeof floorTransports)[number];

export const measuredOperations = ["read", "write", "flush", "trim"] as const;
export type MeasuredOperation = (typeof measuredOperations)[number];

const floorSchema = z.strictObject({
  schemaVersion: z.literal(1),
  kernel: z.string(),
  floorsNs: z.partialRecord(
    z.enum(floorTransports),
    z.strictObject({
      read: z.number().nonnegative(),
      write: z.number().nonnegative(),
      flush: z.number().nonnegative(),
      trim: z.number().nonnegative(),
    }),
  ),
});

/** What `calibrate-floor` writes. */
export type FloorFile = z.output<typeof floorSchema>;

export type Floor = Record<MeasuredOperation, number>;

/** @throws BlkError BLK_E_FLOOR when it is no such file, or has nothing of this transport */
export function parseFloor(text: string, path: string, transport: FloorTransport): Floor {
  const again = `Measure it: blkforge calibrate-floor --transport ${transport} > ${path}`;
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (error) {
    throw new BlkError("BLK_E_FLOOR", `"${path}" is no floor: ${(error as Error).message}`, again);
  }
  const { success, data: file, error } = floorSchema.safeParse(data);
  if (!success) {
    const [{ path: field, message }] = error.issues;
    throw new BlkError("BLK_E_FLOOR", `"${path}" is no floor: ${field.join(".")}: ${message}`, again);
  }
  const floor = file.floorsNs[transport];
  if (floor === undefined) {
    const has = Object.keys(file.floorsNs).join(" and ") || "nothing";
    throw new BlkError("BLK_E_FLOOR", `"${path}" has the floor of ${has}, not of ${transport}`, again);
  }
  return floor;
}

/** By operation code. What carries data counts as a write, the management of zones as a flush. */
export function floorsByOperation(floor: Floor): Float64Array {
  return Float64Array.from(operations, (name, op) => {
    if (op === Op.read || op === Op.flush || op === Op.trim) return floor[name as MeasuredOperation];
    return op === Op.write || op === Op.zeroes || op === Op.append ? floor.write : floor.flush;
  });
}

export function formatFloor(floor: Floor): string {
  return measuredOperations.map((name) => `${name} ${formatDuration(floor[name])}`).join(", ");
}
