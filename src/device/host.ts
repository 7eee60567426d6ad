/**
 * The main thread's side of a server: starts its device threads, hands out its devices, ends it all.
 *
 * Devices live in worker threads, so garbage collections of the command line, the HTTP API or the log never reach their
 * requests. A thread that dies takes its own devices with it; the others go on.
 */
import { assert } from "../base/assert.js";
import type { BlkError } from "../base/errors.js";
import type { HealthLog } from "../base/health.js";
import type { FaultReport, FaultSpec } from "../fault/set.js";
import { ConnectionCount } from "../nbd/connection-count.js";
import type { KernelLinkSource } from "../nbd/kernel/attachment.js";
import { defaultLimits } from "../nbd/limits.js";
import type { AttachedDevice } from "../ublk/threads.js";
import { placeDevices } from "./placement.js";
import type { DeviceDescription, DeviceReport, ServerSpec } from "./spec.js";
import { type DeviceCounters, DeviceStats } from "./stats.js";
import { type DeviceThreadHandle, takeThreads } from "./thread.js";

export interface DeviceHandle {
  readonly description: DeviceDescription;
  counters(): DeviceCounters;
  report(): Promise<DeviceReport>;
  /** Rejects with BLK_E_HEALTH when the modelled device keeps no such log. */
  health(): Promise<HealthLog>;
  /** Grows the device; clients learn of it when they connect anew, the kernel when it is told. Answers with the size. */
  resize(sizeBytes: number): Promise<number>;
  /** Its connections to the kernel's NBD client. */
  readonly kernelLinks: KernelLinkSource;
  /** Its side of a ublk device. */
  readonly ublk: AttachedDevice;
  faults: {
    add(spec: FaultSpec): Promise<FaultReport>;
    list(): Promise<FaultReport[]>;
    get(name: string): Promise<FaultReport>;
    arm(name: string, isArmed: boolean): Promise<FaultReport>;
    remove(name: string): Promise<FaultReport>;
    release(name: string): Promise<FaultReport>;
    reset(): Promise<FaultReport[]>;
  };
  /** Rejects when its thread dies by itself, resolves when the server was closed. */
  readonly ended: Promise<void>;
}

export interface ServerHandle {
  /** In the order of the spec. */
  readonly devices: readonly DeviceHandle[];
  /** Finishes what is in flight, closes connections, removes sockets, ends the threads. Safe to call twice. */
  close(): Promise<void>;
  /** As `close`, for a start that failed elsewhere: images it has made are removed. */
  undo(): Promise<void>;
  /** Rejects when the last thread has died by itself, resolves after `close`. */
  readonly ended: Promise<void>;
}

/**
 * Starts the devices and resolves when clients can connect to all of them.
 *
 * @throws BlkError what some device could not do (file, port in use, addon); nothing is left behind.
 */
export async function startServer({
  devices,
  tls,
  maximumThreads,
  maximumConnections,
  logLevel,
}: ServerSpec): Promise<ServerHandle> {
  assert(
    new Set(devices.map(({ name }) => name)).size === devices.length,
    "devices of a server have different names",
  );
  const stats = devices.map(() => new DeviceStats());
  const placed = placeDevices(devices, maximumThreads);
  const threads = takeThreads(placed.length);
  const connectionCounts = new SharedArrayBuffer(4 * threads.length);
  const limits = {
    connections: maximumConnections,
    // The memory of one server, however many threads it has.
    payloadBytes: Math.floor(defaultLimits.payloadBytes / threads.length),
  };
  for (const [index, thread] of threads.entries()) {
    // Its clients went with it.
    thread.ended.catch(() => new ConnectionCount(connectionCounts, index).set(0));
  }
  const starts = await Promise.allSettled(
    placed.map((place, index) =>
      threads[index].start({
        devices: place.devices.map((device) => ({
          spec: devices[device],
          statsBuffer: stats[device].buffer,
        })),
        addresses: place.addresses,
        tls,
        limits,
        connectionCounts,
        index,
        logLevel,
      }),
    ),
  );
  const failure = starts.find((start) => start.status === "rejected");
  if (failure !== undefined) {
    await Promise.all(threads.map((thread) => thread.undo()));
    throw failure.reason;
  }

  const handles: DeviceHandle[] = new Array(devices.length);
  for (const [index, place] of placed.entries()) {
    const start = starts[index];
    assert(start.status === "fulfilled", "all threads have started");
    for (const [at, device] of place.devices.entries()) {
      handles[device] = makeHandle(threads[index], at, start.value[at], stats[device]);
    }
  }
  return {
    devices: handles,
    ended: lastEnd(threads),
    close: async () => {
      await Promise.all(threads.map((thread) => thread.close()));
    },
    undo: async () => {
      await Promise.all(threads.map((thread) => thread.undo()));
    },
  };
}

/** Settles with the last thread: whoever still serves keeps the server up. */
function lastEnd(threads: readonly DeviceThreadHandle[]): Promise<void> {
  const ended = Promise.allSettled(threads.map((thread) => thread.ended)).then((ends) => {
    const death = ends.find((end) => end.status === "rejected");
    if (death !== undefined) throw death.reason as BlkError;
  });
  ended.catch(() => {});
  return ended;
}

function makeHandle(
  thread: DeviceThreadHandle,
  at: number,
  started: DeviceDescription,
  stats: DeviceStats,
): DeviceHandle {
  const call = thread.callsTo(at);
  let description = started;
  /** Of hardware queues that count by themselves. */
  let queueStats: DeviceStats[] = [];
  const readCounters = (): DeviceCounters => {
    const sum = new DeviceStats();
    for (const part of [stats, ...queueStats]) sum.add(part);
    return sum.read();
  };
  thread.ended.catch(() => {
    description = { ...description, state: "lost" };
  });
  return {
    get description() {
      return description;
    },
    ended: thread.ended,
    counters: readCounters,
    report: async () => ({
      ...readCounters(),
      ...(await call("report")),
      ...(queueStats.length === 0 ? {} : { queues: queueStats.map((part) => part.read()) }),
    }),
    health: () => call("health"),
    ublk: {
      openUblk: (setup) => call("openUblk", setup),
      closeUblk: () => call("closeUblk"),
      releaseAll: async () => void (await call("resetFaults")),
      queueCounters(queues) {
        const buffer = new SharedArrayBuffer(queues * DeviceStats.byteLength);
        const strideBytes = DeviceStats.byteLength;
        queueStats = Array.from(
          { length: queues },
          (_, queue) => new DeviceStats(buffer, queue * strideBytes),
        );
        return { buffer, offsetBytes: 0, strideBytes };
      },
    },
    resize: async (wantedBytes) => {
      const sizeBytes = await call("resize", wantedBytes);
      description = { ...description, sizeBytes };
      return sizeBytes;
    },
    kernelLinks: {
      open: (wanted) => call("openKernelLinks", wanted),
      nextEnd: () => call("nextKernelLinkEnd"),
    },
    faults: {
      add: (fault) => call("addFault", fault),
      list: () => call("listFaults"),
      get: (name) => call("getFault", name),
      arm: (name, isArmed) => call("armFault", { name, isArmed }),
      remove: (name) => call("removeFault", name),
      release: (name) => call("releaseFault", name),
      reset: () => call("resetFaults"),
    },
  };
}
