/**
 * What the host is given for each status: the transport decides which error survives.
 *
 * The kernel's NBD client sets BLK_STS_IOERR for whatever error a server sends (`nbd_handle_reply` in
 * `drivers/block/nbd.c`), so programs above it see EIO and nothing else. Clients in user space (libnbd, QEMU, fio)
 * see the error of the wire, which knows EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP and ESHUTDOWN
 * (NetworkBlockDevice/nbd, `doc/proto.md`, "Error values").
 */
import type { failureNames } from "../base/status.js";

export type FailureName = (typeof failureNames)[number];

/** What arrives, by the way a host is connected. */
export interface HostView {
  "nbd-kernel": string;
  "nbd-user": string;
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
};

export function hostViewOfStatus(status: FailureName): HostView {
  return { "nbd-kernel": "EIO", "nbd-user": nbdErrors[status] };
}
