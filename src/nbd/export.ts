/**
 * An export: a device under the name clients ask for, and what the handshake tells about it.
 */
import type { BlockTarget } from "../base/target.js";
import { TransmissionFlag } from "./constants.js";

export interface NbdExport {
  /** What stands behind the slash of the URI. The first export also answers to the empty name. */
  name: string;
  target: BlockTarget;
  /**
   * Refuse requests not aligned to the device's minimum block. Off by default, since nbd-client never asks for
   * block sizes and so cannot know them.
   */
  isBlockSizeEnforced?: boolean;
}

/** The export a client means; "" is the default export. */
export function findExport(exports: readonly NbdExport[], name: string): NbdExport | undefined {
  const exact = exports.find((candidate) => candidate.name === name);
  if (exact !== undefined || name !== "") return exact;
  return exports[0];
}

/** "Transmission flags" of an export, computed for each connection. */
export function transmissionFlagsOf({ target }: NbdExport): number {
  // All connections meet the same device: a flush on one covers what was acknowledged on any.
  let flags: number = TransmissionFlag.hasFlags | TransmissionFlag.canMultiConn;
  if (target.isRotational) flags |= TransmissionFlag.rotational;
  if (target.isReadOnly) return flags | TransmissionFlag.readOnly;
  flags |= TransmissionFlag.sendFlush | TransmissionFlag.sendFua | TransmissionFlag.sendWriteZeroes;
  if (target.canTrim) flags |= TransmissionFlag.sendTrim;
  return flags;
}
