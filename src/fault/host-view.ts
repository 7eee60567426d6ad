/**
 * What the host is given for each status: the transport decides which error survives.
 *
 * The kernel's NBD client sets BLK_STS_IOERR for whatever error a server sends (`nbd_handle_reply` in
 * `drivers/block/nbd.c`), so programs above it see EIO and nothing else. Clients in user space (libnbd, QEMU, fio)
 * see the error of the wire, which knows EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP and ESHUTDOWN
 * (NetworkBlockDevice/nbd, `doc/proto.md`, "Error values"). Over ublk the errno is the block layer's own (`blk_errors[]` in
 * `block/blk-core.c`); docs/errno.md has the whole table.
 */
import type { failureNames } from "../base/status.js";

export type FailureName = (typeof failureNames)[number];

/** What arrives, by the way a host is connected. */
export interface HostView {
  "nbd-kernel": string;
  "nbd-user": string;
  ublk: string;
}

/** Error on the NBD wire. As the NBD server says it; a test keeps the two together. */
const nbdErrors: Record<FailureName, string> = {
  io: "EIO",
  medium: "EIO",
  nospc: "ENOSPC",
  timeout: "EIO",
  transport: "EIO",
  target: "EIO",
  protection: "EIO",
  // The protocol keeps ENOTSUP for a fast write-zeroes that would not be fast.
  notsupp: "EINVAL",
  resource: "ENOMEM",
  again: "ENOMEM",
  offline: "EIO",
  perm: "EPERM",
  inval: "EINVAL",
  openzones: "EIO",
  activezones: "EIO",
};

/** What programs on a ublk device see. As the ublk server has it; a test keeps the two together. */
const ublkErrors: Record<FailureName, string> = {
  io: "EIO",
  medium: "ENODATA",
  nospc: "ENOSPC",
  timeout: "ETIMEDOUT",
  transport: "ENOLINK",
  target: "EREMOTEIO",
  protection: "EILSEQ",
  notsupp: "EOPNOTSUPP",
  resource: "ENOMEM",
  again: "EAGAIN",
  offline: "ENODEV",
  // The block layer has no status for it.
  perm: "EIO",
  inval: "EINVAL",
  openzones: "ETOOMANYREFS",
  activezones: "EOVERFLOW",
};

export function hostViewOfStatus(status: FailureName): HostView {
  return { "nbd-kernel": "EIO", "nbd-user": nbdErrors[status], ublk: ublkErrors[status] };
}
