/**
 * The queue threads of a device, as the main thread has them: started on the processors the kernel serves them from, joined with
 * the device thread that decides, and ended within a deadline. The threads themselves are native/ublk/queue.cc.
 */
import { accessSync, constants, openSync } from "node:fs";
import { getSystemErrorName } from "node:util";
import { assert } from "../base/assert.js";
import { BlkError, isSystemError } from "../base/errors.js";
import { loadNative, type NativeUblkServer } from "../base/native.js";
import { waitFor } from "../linux/block-device.js";
import { type DeviceInfo, Feature } from "./abi.js";
import type { UblkControl } from "./control.js";
import { devicePath } from "./names.js";
import { layoutOf } from "./shared-memory.js";

/** What the device thread has to know to meet its queues. */
export interface ChannelSetup {
  serverId: number;
  shared: SharedArrayBuffer;
  queues: number;
  depth: number;
  largestRequestBytes: number;
}

/** The device that is attached, on its own thread. */
export interface AttachedDevice {
  /** Joins it with its queues. */
  openUblk(setup: ChannelSetup): Promise<void>;
  closeUblk(): Promise<void>;
  /** Lets go of every request a fault holds, for good. */
  releaseAll(): Promise<void>;
  /** Memory of the queues' counters, one part per queue. */
  queueCounters(queues: number): { buffer: SharedArrayBuffer; offsetBytes: number; strideBytes: number };
}

/** The character device's node appears a moment after the command; udev may have to give it rights. */
const nodeDeadlineMs = 10_000;
/** Threads end as soon as the kernel has taken back their tags. */
const threadsDeadlineMs = 10_000;
/** The queue threads, and when the last of them ends. */
export class Threads {
  readonly ended: Promise<void>;
  private readonly server: NativeUblkServer;

  constructor(settings: Float64Array, shared: SharedArrayBuffer, counters: SharedArrayBuffer) {
    const { UblkServer } = loadNative();
    assert(UblkServer !== undefined, "who has a control device has queues");
    let onEnded = (): void => {};
    this.ended = new Promise((resolve) => {
      onEnded = () => {
        if (this.server.hasEnded()) resolve();
      };
    });
    this.server = new UblkServer(settings, new Uint8Array(shared), new Uint8Array(counters), () => onEnded());
  }

  get id(): number {
    return this.server.id;
  }

  start(queue: number, cpus: Uint8Array): number {
    return this.server.start(queue, cpus);
  }

  fail(): void {
    this.server.fail();
  }

  leave(): void {
    this.server.leave();
  }

  failure(): number {
    return this.server.failure();
  }

  close(): void {
    this.server.close();
  }
}

/** Opens the character device, joins it with the device thread, and has every queue fetch its requests. */
export async function startThreads(
  control: UblkControl,
  device: AttachedDevice,
  info: DeviceInfo,
): Promise<Threads> {
  const { queues, depth, largestRequestBytes } = info;
  const charFd = await openNode(info.id);
  const layout = layoutOf({ queues, depth });
  const shared = new SharedArrayBuffer(layout.byteLength);
  const counters = device.queueCounters(queues);
  const has = (feature: keyof typeof Feature): number => ((info.flags & Feature[feature]) === 0 ? 0 : 1);
  const settings = Float64Array.of(
    charFd,
    queues,
    depth,
    largestRequestBytes,
    has("userCopy"),
    layout.queueOffsetBytes,
    layout.queueStrideBytes,
    counters.offsetBytes,
    counters.strideBytes,
    has("batchIo"),
    has("zoned"),
  );
  const threads = new Threads(settings, shared, counters.buffer);
  try {
    await device.openUblk({ serverId: threads.id, shared, queues, depth, largestRequestBytes });
    for (let queue = 0; queue < queues; queue++) {
      const cpus = await control.queueAffinity(info.id, queue);
      const error = threads.start(queue, cpus);
      if (error === 0) continue;
      throw new BlkError(
        "BLK_E_UBLK",
        `queue ${queue} of ${devicePath(info.id)} cannot be set up: ${getSystemErrorName(-error)}`,
        "It needs memory and descriptors: ulimit -l unlimited; ulimit -n 4096",
      );
    }
    return threads;
  } catch (error) {
    threads.close();
    await device.closeUblk().catch(() => {});
    throw error;
  }
}

function openNode(id: number): Promise<number> {
  return untilPossible(id, "opened", (path) => openSync(path, constants.O_RDWR));
}

/** The driver lets users who are not root do with a device what they may do with its node, which udev gives to them. */
export function waitUntilOwned(id: number): Promise<void> {
  return untilPossible(id, "used by this user", (path) => accessSync(path, constants.R_OK | constants.W_OK));
}

/** Tries with the device's character node until it succeeds. */
async function untilPossible<Result>(
  id: number,
  what: string,
  attempt: (path: string) => Result,
): Promise<Result> {
  const path = `/dev/ublkc${id}`;
  const results: Result[] = [];
  let reason: unknown = null;
  const isDone = (): boolean => {
    try {
      results.push(attempt(path));
      return true;
    } catch (error) {
      reason = error;
      return false;
    }
  };
  if (await waitFor(isDone, nodeDeadlineMs)) return results[0];
  const hint = isSystemError(reason, "ENOENT")
    ? "A container needs the host's /dev: docker run -v /dev:/dev --privileged ..."
    : 'Without root, rules of udev have to give it to its user: docs/ublk.md, "Without root"';
  throw new BlkError(
    "BLK_E_UBLK",
    `${path} could not be ${what} within ${nodeDeadlineMs / 1000} s: ${(reason as Error).message}`,
    hint,
  );
}

export async function endOfThreads(threads: Threads): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(() => {
      threads.leave();
      resolve();
    }, threadsDeadlineMs);
  });
  await Promise.race([threads.ended, late]);
  clearTimeout(timer);
}
