/**
 * How each status of a device reaches a host over ublk: the errno the server commits, and the one programs then see.
 *
 * The driver takes any negative errno as the request's result and turns it into a block layer status (`errno_to_blk_status`,
 * called by `__ublk_complete_rq` in `drivers/block/ublk_drv.c`); `blk_status_to_errno` turns that back for whoever waits. Both
 * use one table, `blk_errors[]` in `block/blk-core.c`, so an errno of the table arrives as it was sent, and every other becomes
 * EIO: EPERM has no place in it, nor had EINVAL before Linux 6.11. Two lead to more than an error: a discard or write-zeroes that ends in EOPNOTSUPP
 * is done otherwise by the kernel from then on, and EAGAIN may make a submitter of io_uring try again by itself.
 */
import { type StatusName, statusNames } from "../base/status.js";

/** Numbers of `include/uapi/asm-generic/errno-base.h` and `errno.h`, the same on x86-64 and arm64. */
export const linuxErrors = {
  EPERM: 1,
  EIO: 5,
  EAGAIN: 11,
  ENOMEM: 12,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  ENODATA: 61,
  ENOLINK: 67,
  EOVERFLOW: 75,
  EILSEQ: 84,
  EOPNOTSUPP: 95,
  ETOOMANYREFS: 109,
  ETIMEDOUT: 110,
  EREMOTEIO: 121,
} as const;

export type LinuxError = keyof typeof linuxErrors;

/** What is committed. */
export const ublkErrors: Readonly<Record<StatusName, LinuxError | null>> = {
  ok: null,
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
  perm: "EPERM",
  inval: "EINVAL",
  shutdown: "ENODEV",
  openzones: "ETOOMANYREFS",
  activezones: "EOVERFLOW",
};

/** The result to commit, by `Status`: 0, or a negative errno. */
export const ublkResultOfStatus = Int32Array.from(statusNames, (name) => {
  const error = ublkErrors[name];
  return error === null ? 0 : -linuxErrors[error];
});

/** What programs on the block device see. */
export function hostErrorOfStatus(name: StatusName): LinuxError | null {
  const error = ublkErrors[name];
  return error === "EPERM" ? "EIO" : error;
}
