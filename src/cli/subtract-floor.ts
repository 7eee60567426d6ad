/** The option `--subtract-floor` of whatever serves a device. */
import { readFileSync } from "node:fs";
import { BlkError } from "../base/errors.js";
import { type FloorTransport, floorTransports, formatFloor, parseFloor } from "../device/floor.js";
import type { ServerSpec } from "../device/spec.js";

/**
 * Has the floor taken off the latencies of every device of the server, and says so.
 *
 * @param given what came after `--subtract-floor`, if it was there: a file, or `transport:file` when another program attaches
 * the device to the kernel
 * @throws BlkError BLK_E_FLOOR
 */
export function subtractFloor(server: ServerSpec, given: string | undefined, usual: FloorTransport): void {
  if (given === undefined) return;
  const named = floorTransports.find((name) => given.startsWith(`${name}:`));
  const path = named === undefined ? given : given.slice(named.length + 1);
  const transport = named ?? usual;
  const floor = parseFloor(readFloor(path), path, transport);
  for (const device of server.devices) device.floor = floor;
  process.stderr.write(`blkforge: floor of ${transport} taken off the model: ${formatFloor(floor)}\n`);
}

/** The file's text. @throws BlkError BLK_E_FLOOR */
export function readFloor(path: string): string {
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
