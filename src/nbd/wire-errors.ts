/**
 * How each status of a device is said on the NBD wire, which knows eight error numbers only ("Error values" in
 * proto.md). The Linux client turns every one of them into EIO; other clients show them as they are.
 */
import { type StatusName, statusNames } from "../base/status.js";
import { WireError } from "./constants.js";

const errorOfStatus: Record<StatusName, number> = {
  ok: WireError.none,
  io: WireError.EIO,
  medium: WireError.EIO,
  nospc: WireError.ENOSPC,
  timeout: WireError.EIO,
  transport: WireError.EIO,
  target: WireError.EIO,
  protection: WireError.EIO,
  // ENOTSUP is reserved for a failing FAST_ZERO; an operation the device does not know is an invalid one.
  notsupp: WireError.EINVAL,
  // "Try again later" has no number of its own; lack of memory is the one that passes by itself.
  resource: WireError.ENOMEM,
  again: WireError.ENOMEM,
  // Not ESHUTDOWN: that would tell the client to disconnect from a server that is well.
  offline: WireError.EIO,
  perm: WireError.EPERM,
  inval: WireError.EINVAL,
  shutdown: WireError.ESHUTDOWN,
  // Of zoned devices, which NBD cannot serve; a fault may inject them into any.
  openzones: WireError.EIO,
  activezones: WireError.EIO,
};

/** NBD error number by `Status`. */
export const wireErrorOfStatus = Uint8Array.from(statusNames, (name) => errorOfStatus[name]);
