/**
 * The device thread's ends of the connections to the kernel's NBD client.
 *
 * Each link is a socket pair. One end is served here as any client's; the other's descriptor goes to the main thread,
 * which hands it to the kernel and closes it. Descriptors belong to the whole process, so a number is all that crosses.
 * How links end is queued, since the main thread asks for one end after the other.
 */
import { closeSync } from "node:fs";
import { Socket } from "node:net";
import { getSystemErrorName } from "node:util";
import { BlkError } from "../base/errors.js";
import { loadNative } from "../base/native.js";
import { type NbdExport, transmissionFlagsOf } from "../nbd/export.js";
import type { LinkEnd, NewLinks } from "../nbd/kernel/attachment.js";
import type { NbdLogger } from "../nbd/logger.js";
import type { NbdServer } from "../nbd/server.js";

export class KernelLinks {
  private live = 0;
  private isMarked = false;
  private readonly ends: LinkEnd[] = [];
  private onEnd: (() => void) | null = null;

  constructor(
    private readonly server: NbdServer,
    private readonly exported: NbdExport,
    private readonly log: NbdLogger,
  ) {}

  /**
   * Makes as many links as are missing to `wanted` live ones.
   *
   * @throws BlkError BLK_E_ATTACH when there are no descriptors left
   */
  open(wanted: number): NewLinks {
    this.markThread();
    const sockets: number[] = [];
    try {
      while (this.live < wanted) sockets.push(this.openOne());
    } catch (error) {
      for (const fd of sockets) closeSync(fd);
      throw error;
    }
    const { sizeBytes } = this.exported.target;
    return { sockets, sizeBytes, transmissionFlags: transmissionFlagsOf(this.exported, "simple") };
  }

  /** How the next link ended. One caller at a time. */
  async nextEnd(): Promise<LinkEnd> {
    while (true) {
      const end = this.ends.shift();
      if (end !== undefined) return end;
      await new Promise<void>((resolve) => {
        this.onEnd = resolve;
      });
    }
  }

  private openOne(): number {
    const pair = new Int32Array(2);
    const errno = loadNative().socketPair?.(pair) ?? 0;
    if (errno !== 0) {
      throw new BlkError(
        "BLK_E_ATTACH",
        `no connected sockets could be made for the kernel: ${getSystemErrorName(-errno)}`,
        "Raise the limit of open files: ulimit -n 4096",
      );
    }
    const [ours, kernels] = pair;
    const socket = new Socket({ fd: ours, readable: true, writable: true, allowHalfOpen: true });
    this.live++;
    this.server.adopt(socket, this.exported, (hasDisconnected) => {
      this.live--;
      this.ends.push({ hasDisconnected });
      this.onEnd?.();
    });
    return kernels;
  }

  /** Once there is a kernel that could wait for this thread. */
  private markThread(): void {
    if (this.isMarked) return;
    this.isMarked = true;
    const errno = loadNative().markIoFlusher?.() ?? 0;
    if (errno === 0) return;
    const name = getSystemErrorName(-errno);
    this.log.warn(
      {},
      `the device thread cannot be marked as an I/O flusher (${name}): short memory may block it`,
    );
  }
}
