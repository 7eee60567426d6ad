/**
 * What becomes of a process that serves a disk of its own machine: it must never wait for that disk itself.
 *
 * Its threads are marked as I/O flushers, so that getting memory never means writing to the disk they serve; what Node's own
 * threads take too, they can only inherit, so the process marks itself and begins anew. The mark asks for
 * CAP_SYS_RESOURCE: without it the process goes on as it is, and `blkforge doctor` says so.
 */

import { getSystemErrorName } from "node:util";
import { BlkError } from "../base/errors.js";
import { loadNative } from "../base/native.js";

/**
 * Makes this process one that serves disks. Returns only when it is one: the first time, the command starts again.
 *
 * @param hasOwnMounts whether it shall live in a mount namespace of its own
 * @param inherited descriptors beside the standard streams that must stay open
 * @throws BlkError BLK_E_PRIVILEGE when mounts of its own are wanted and refused
 */
export function becomeDiskServer({ hasOwnMounts = false, inherited = [] as readonly number[] } = {}): void {
  const native = loadNative();
  const { markIoFlusher, isIoFlusher, leaveMountNamespace, reexecute } = native;
  if (markIoFlusher === undefined || isIoFlusher === undefined || reexecute === undefined) return;
  // The second time round: the environment carries what cannot be asked.
  const isAgain = process.env[againVariable] === String(process.pid);
  if (isAgain) {
    delete process.env[againVariable];
    return;
  }
  const isMarked = !isIoFlusher() && markIoFlusher() === 0;
  if (hasOwnMounts) {
    const error = leaveMountNamespace?.() ?? 0;
    if (error !== 0) {
      throw new BlkError(
        "BLK_E_PRIVILEGE",
        `this process cannot have mounts of its own: ${getSystemErrorName(-error)}`,
        "Run it with sudo, or leave out --own-mounts",
      );
    }
  }
  if (!isMarked && !hasOwnMounts) return;
  process.env[againVariable] = String(process.pid);
  reexecute(
    process.execPath,
    [process.execPath, ...process.execArgv, ...process.argv.slice(1)],
    Int32Array.of(0, 1, 2, ...inherited),
  );
  // Still here: it could not. Marked threads are better than none.
  delete process.env[againVariable];
}

const againVariable = "BLKFORGE_DISK_SERVER";
