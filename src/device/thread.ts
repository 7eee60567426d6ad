/**
 * The main thread's side of a device thread: starts it, speaks to it, ends it.
 *
 * Start and stop have deadlines; a thread that dies takes its open calls with it and says why. A thread may be started before it is
 * known what it shall serve: then it loads its code while the main thread still loads its own and reads profiles.
 */
import { Worker } from "node:worker_threads";
import { entryUrl } from "../base/entry.js";
import { BlkError } from "../base/errors.js";
import { RpcCaller, type RpcClient } from "./rpc.js";
import type { DeviceMethods } from "./served-device.js";
import type { DeviceDescription, ThreadSpec } from "./spec.js";
import type { ThreadMethods } from "./worker.js";

/** A start that takes longer has failed: nothing in it waits for anything but this machine. */
const startDeadlineMs = 30_000;
/** And this much longer for memory that is to be had at start: a system without huge pages finds some hundred MiB a second. */
const startMsPerPreallocatedByte = 10_000 / 2 ** 30;
/** Requests in flight get `drainDeadlineMs` in the worker; then the thread is ended. */
const closeDeadlineMs = 15_000;

const spares: DeviceThreadHandle[] = [];

/** Begins to start threads that will be wanted in a moment. Unless they are, they do not keep the process alive. */
export function prepareThreads(count: number): void {
  while (spares.length < count) spares.push(new DeviceThreadHandle());
}

/** So many threads, prepared ones first; those that are not wanted after all end. */
export function takeThreads(count: number): DeviceThreadHandle[] {
  const prepared = spares.splice(0);
  for (const unwanted of prepared.splice(count)) void unwanted.close();
  const missing = Array.from({ length: count - prepared.length }, () => new DeviceThreadHandle());
  return [...prepared, ...missing];
}

export class DeviceThreadHandle {
  /** Rejects when the thread dies by itself, resolves after `close` or `undo`. */
  readonly ended: Promise<void>;

  private readonly worker: Worker;
  private readonly caller: RpcCaller;
  private readonly call: RpcClient<ThreadMethods>;
  /** Its devices, as messages name them. */
  private devices = "a device";
  private isClosing = false;

  constructor() {
    this.worker = new Worker(entryUrl("device/worker"));
    this.caller = new RpcCaller(this.worker);
    // After its listener, which would hold the process again.
    this.worker.unref();
    this.call = this.caller.to("thread");
    this.ended = new Promise<void>((resolve, reject) => {
      let hasEnded = false;
      const end = (what: string) => {
        // A death is followed by the end of the thread, which tells less.
        if (hasEnded) return;
        hasEnded = true;
        const reason = new BlkError("BLK_E_INTERNAL", `the thread of ${this.devices} ${what}`);
        this.caller.fail(reason);
        if (this.isClosing) resolve();
        else reject(reason);
      };
      this.worker.once("error", (error) =>
        end(`died: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`),
      );
      this.worker.once("exit", (code) => end(`ended with status ${code}`));
    });
    // Whoever does not watch `ended` still gets rejected calls; it must not count as an unhandled rejection.
    this.ended.catch(() => {});
  }

  /** @throws BlkError what the devices could not do; nothing of them is left behind, and the thread is to be closed. */
  async start(spec: ThreadSpec): Promise<DeviceDescription[]> {
    this.worker.ref();
    const names = spec.devices.map((device) => `"${device.spec.name}"`);
    this.devices = `${names.length === 1 ? "device" : "devices"} ${names.join(", ")}`;
    const preallocatedBytes = spec.devices.reduce(
      (sum, { spec: { isPreallocated, profile } }) => sum + (isPreallocated === true ? profile.sizeBytes : 0),
      0,
    );
    const deadlineMs = startDeadlineMs + Math.ceil(preallocatedBytes * startMsPerPreallocatedByte);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const what = `waited ${deadlineMs / 1000} s for ${this.devices} to start, in vain`;
      timer = setTimeout(() => reject(new BlkError("BLK_E_INTERNAL", what)), deadlineMs);
    });
    try {
      return await Promise.race([this.call("start", spec), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Calls to the device at `index` of the thread's list. */
  callsTo(index: number): RpcClient<DeviceMethods> {
    return this.caller.to(index);
  }

  /** Finishes what is in flight, closes connections, removes sockets, ends the thread. Safe to call twice. */
  close(): Promise<void> {
    return this.end("close");
  }

  /** As `close`, and leaves nothing behind that `start` has made. */
  undo(): Promise<void> {
    return this.end("undo");
  }

  private async end(how: "close" | "undo"): Promise<void> {
    if (!this.isClosing) {
      this.isClosing = true;
      const deadline = setTimeout(() => void this.worker.terminate(), closeDeadlineMs);
      await this.call(how).catch(() => {});
      await this.worker.terminate();
      clearTimeout(deadline);
    }
    await this.ended.catch(() => {});
  }
}
