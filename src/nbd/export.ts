/**
 * An export: a device under the name clients ask for, and what the handshake tells about it.
 */
import type { BlockTarget } from "../base/target.js";
import { TransmissionFlag } from "./constants.js";
import type { ReplyMode } from "./replies.js";

export interface NbdExport {
  /** What stands behind the slash of the URI. The first export also answers to the empty name. */
  name: string;
  target: BlockTarget;
  /**
   * Advertise the device's minimum block, and refuse requests not aligned to it. Off by default, when any alignment
   * is accepted and 1 advertised, since nbd-client never asks for block sizes and so cannot know them.
   */
  isBlockSizeEnforced?: boolean;
  /** Only for clients that have switched to TLS, where the server offers it. Others are not told of the export. */
  isTlsRequired?: boolean;
}

/** The export a client means; "" is the default export. */
export function findExport(exports: readonly NbdExport[], name: string): NbdExport | undefined {
  const exact = exports.find((candidate) => candidate.name === name);
  if (exact !== undefined || name !== "") return exact;
  return exports[0];
}

/** The alignment clients must keep to. */
export function minimumBlockBytesOf({ target, isBlockSizeEnforced }: NbdExport): number {
  return isBlockSizeEnforced === true ? target.minimumBlockBytes : 1;
}

/** "Transmission flags" of an export, computed for each connection. */
export function transmissionFlagsOf({ target }: NbdExport, replyMode: ReplyMode): number {
  // All connections meet the same device: a flush on one covers what was acknowledged on any.
  let flags: number = TransmissionFlag.hasFlags | TransmissionFlag.canMultiConn | TransmissionFlag.sendCache;
  if (replyMode !== "simple") flags |= TransmissionFlag.sendDf;
  if (target.isRotational) flags |= TransmissionFlag.rotational;
  if (target.isReadOnly) return flags | TransmissionFlag.readOnly;
  flags |= TransmissionFlag.sendFlush | TransmissionFlag.sendFua;
  // A zeroing that would be no faster is refused at once, which is what the flag promises.
  flags |= TransmissionFlag.sendWriteZeroes | TransmissionFlag.sendFastZero;
  if (target.canTrim) flags |= TransmissionFlag.sendTrim;
  return flags;
}
