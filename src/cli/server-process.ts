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

/** Set for the second time round, to the pid that set it: a child's environment has it too, and means nothing there. */
const againVariable = "BLKFORGE_DISK_SERVER";

/**
 * Makes this process one that serves disks. Returns only when it is one: the first time, the command starts again. Called
 * before the command is loaded, so that this costs no more than a bare start of Node.
 *
 * @param args the command line, of which `--own-mounts` and sockets handed over by number (`fd:3`) are looked at
 * @throws BlkError BLK_E_PRIVILEGE when mounts of its own are wanted and refused
 */
export function becomeDiskServer(args: readonly string[]): void {
  const hasOwnMounts = args.includes("--own-mounts");
  const { markIoFlusher, isIoFlusher, leaveMountNamespace, reexecute } = loadNative();
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
    Int32Array.of(0, 1, 2, ...inheritedDescriptors(args)),
  );
  // Still here: it could not. Marked threads are better than none.
  delete process.env[againVariable];
}

/** Sockets handed over by number, as in fd:3. */
function inheritedDescriptors(args: readonly string[]): number[] {
  return args.map((arg) => Number(/(?:^|=)fd:(\d+)/.exec(arg)?.[1])).filter(Number.isInteger);
}
