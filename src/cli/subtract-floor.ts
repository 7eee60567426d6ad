/** The option `--subtract-floor` of whatever serves a device. */
import { readFileSync } from "node:fs";
import { BlkError } from "../base/errors.js";
import { type FloorTransport, formatFloor, parseFloor } from "../device/floor.js";
import type { ServerSpec } from "../device/spec.js";

/**
 * Has the floor taken off the latencies of every device of the server, and says so.
 *
 * @param path what was given to `--subtract-floor`, if it was
 * @throws BlkError BLK_E_FLOOR
 */
export function subtractFloor(server: ServerSpec, path: string | undefined, transport: FloorTransport): void {
  if (path === undefined) return;
  const floor = parseFloor(readFloor(path), path, transport);
  for (const device of server.devices) device.floor = floor;
  process.stderr.write(`blkforge: floor of ${transport} taken off the model: ${formatFloor(floor)}\n`);
}

function readFloor(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new BlkError(
      "BLK_E_FLOOR",
      `the floor "${path}" cannot be read: ${(error as Error).message}`,
      "Check its path, or measure one: blkforge calibrate-floor > floor.json",
    );
  }
}
