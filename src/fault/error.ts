/**
 * error: a request completes with an error, after the time the model gives it.
 *
 * Host sees    always EIO through the kernel's NBD client; the wire's error in user space (host-view.ts).
 * Data         a failed read returns none; a failed write, trim or write-zeroes leaves the old bytes; a failed
 *              flush makes nothing durable. A real drive may have done part of the work, which this kind does not model.
 * Peers        nbdkit's error filter (which has no flush), dm-flakey's error_reads and error_writes, QEMU blkdebug.
 */
import { operations } from "../base/request.js";
import { failureNames, Status } from "../base/status.js";
import { defineFault } from "./define.js";
import { type FailureName, hostViewOfStatus } from "./host-view.js";
import { oneOf, strictFields } from "./schema.js";

export const error = defineFault({
  name: "error",
  summary: "completes requests with an error",
  ops: operations,
  options: strictFields({
    status: oneOf(failureNames as [FailureName, ...FailureName[]])
      .default("io")
      .describe("how the request ends"),
  }),
  prepare: ({ status }) => Status[status],
  onHit(verdict, status) {
    verdict.status = status;
  },
  hostView: ({ status }) => hostViewOfStatus(status),
  hostViewInGeneral: {
    "nbd-kernel": "EIO, whatever the status",
    "nbd-user":
      "ENOSPC for nospc, EPERM for perm, EINVAL for inval and notsupp, ENOMEM for resource and again; EIO for the rest",
    ublk: "the errno of the status, such as ENODATA for medium; EIO for io, perm and inval",
  },
});
