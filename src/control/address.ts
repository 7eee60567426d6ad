/** Where a control API listens: `unix:PATH`. */
import { BlkError } from "../base/errors.js";

/**
 * The socket's path in an API address.
 *
 * @throws BlkError BLK_E_USAGE
 */
export function parseApiAddress(address: string): string {
  const match = /^unix:(.+)$/.exec(address);
  if (match === null) {
    throw new BlkError(
      "BLK_E_USAGE",
      `"${address}" is not the address of an API`,
      "Write unix: and the path of a socket, such as unix:/tmp/blkforge.api",
    );
  }
  return match[1];
}
