/**
 * A process beside the server that outlives it, and takes the device away from the kernel when the server has died.
 *
 * When its connections die the driver leaves requests in flight as they are, for their timeout to send them again. With
 * a long timeout, or none, whoever waits for them waits in vain, and cannot even be killed (state D). Only DISCONNECT
 * fails them. A server that is killed can no longer say it; the watchdog notices by the end of its input.
 *
 * It is a Node of its own, 40 MB, in a session of its own, so that a Ctrl-C reaches the server alone.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { entryUrl } from "../../base/entry.js";
import { BlkError } from "../../base/errors.js";

export class Watchdog {
  private constructor(private readonly child: ChildProcess) {}

  /** Resolves when it watches. @throws BlkError BLK_E_ATTACH */
  static async start(index: number): Promise<Watchdog> {
    const entry = fileURLToPath(entryUrl("nbd/kernel/watchdog-main"));
    const child = spawn(process.execPath, [...process.execArgv, entry, String(index)], {
      stdio: ["pipe", "pipe", "inherit"],
      detached: true,
    });
    const watches = once(child.stdout!, "data").then(() => true);
    const hasEnded = once(child, "exit").then(() => false);
    if (!(await Promise.race([watches, hasEnded]).catch(() => false))) {
      throw new BlkError("BLK_E_ATTACH", "the process that watches over the server cannot be started");
    }
    // It may be killed before it is dismissed: then there is nobody to tell.
    child.stdin!.on("error", () => {});
    child.stdout!.destroy();
    return new Watchdog(child);
  }

  /** The device is detached, or somebody else's now: the end of this process means nothing to it any more. */
  async dismiss(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, "exit");
    this.child.stdin!.end("dismissed\n");
    await ended;
  }
}
