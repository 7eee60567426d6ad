/**
 * The main thread's side of a device: starts its thread, speaks to it, ends it.
 *
 * A device lives in a worker thread of its own, so garbage collections of the command line, the HTTP API or the log
 * never reach its requests. Start and stop have deadlines; a thread that dies takes its open calls with it and says why.
 */
import { Worker } from "node:worker_threads";
import { BlkError } from "../base/errors.js";
import type { HealthLog } from "../base/health.js";
import type { FaultReport, FaultSpec } from "../fault/set.js";
import type { ModelReport } from "../model/model.js";
import type { KernelLinkSource } from "../nbd/kernel/attachment.js";
import type { TlsFiles } from "../nbd/tls.js";
import type { Profile } from "../profile/load.js";
import type { Timing } from "./live-clock.js";
import { makeCalls } from "./rpc.js";
import { type DeviceCounters, DeviceStats } from "./stats.js";
import type { DeviceMethods } from "./worker.js";

/** Everything a device thread needs to know; crosses to the worker by structured clone. */
export interface DeviceSpec {
  /** What people call it: `GET /devices/NAME`. */
  name: string;
  profile: Profile;
  /** Whether the capacity was asked for; if not, an existing file keeps its own. */
  isSizeGiven: boolean;
  /** Raw image that holds the bytes; memory when null. */
  file: string | null;
  /** Memory the bytes may take when there is no file; a write beyond it ends in `nospc`. */
  memoryLimitBytes: number;
  isReadOnly: boolean;
  /** Whether NBD clients must keep to the profile's logical block. */
  isBlockSizeEnforced: boolean;
  seed: number;
  /** `path=value` as given, for the recording's header. */
  settings: string[];
  /** File to record arrivals and completions in; none when null. */
  record: string | null;
  tls: TlsFiles;
  /** NBD URIs to listen on. */
  listen: string[];
  /** How the device waits for the moment a reply is due. */
  timing: Timing;
  logLevel: string;
}

export interface DeviceDescription {
  name: string;
  profile: string;
  description: string;
  sizeBytes: number;
  seed: number;
  isReadOnly: boolean;
  timing: Timing;
  uris: string[];
}

export interface DeviceReport extends DeviceCounters {
  uptimeNs: number;
  store: { allocatedBytes: number };
  faults: FaultReport[];
  /** What the model tells of its state, such as the credits of a cloud volume; empty for most. */
  model: ModelReport;
}

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
  faults: {
    add(spec: FaultSpec): Promise<FaultReport>;
    list(): Promise<FaultReport[]>;
    get(name: string): Promise<FaultReport>;
    arm(name: string, isArmed: boolean): Promise<FaultReport>;
    remove(name: string): Promise<FaultReport>;
    release(name: string): Promise<FaultReport>;
    reset(): Promise<FaultReport[]>;
  };
  /** Finishes what is in flight, closes connections, removes sockets, ends the thread. Safe to call twice. */
  close(): Promise<void>;
  /** Rejects when the thread dies by itself, never resolves before `close`. */
  readonly ended: Promise<void>;
}

/** A start that takes longer has failed: nothing in it waits for anything but this machine. */
const startDeadlineMs = 30_000;
/** Requests in flight get `drainDeadlineMs` in the worker; then the thread is ended. */
const closeDeadlineMs = 15_000;

/**
 * Starts a device and resolves when clients can connect.
 *
 * @throws BlkError what the device could not do (file, port in use, addon); nothing is left behind.
 */
export async function startDevice(spec: DeviceSpec): Promise<DeviceHandle> {
  const stats = new DeviceStats();
  // Beside this file: worker.js in dist, worker.ts when a loader such as tsx runs the sources.
  const entry = new URL(import.meta.url.endsWith(".ts") ? "./worker.ts" : "./worker.js", import.meta.url);
  const worker = new Worker(entry, { workerData: { spec, statsBuffer: stats.buffer } });
  const { call, fail } = makeCalls<DeviceMethods>(worker as never);

  let isClosing = false;
  const ended = new Promise<void>((resolve, reject) => {
    const end = (reason: BlkError) => {
      fail(reason);
      if (isClosing) resolve();
      else reject(reason);
    };
    worker.once("error", (error) =>
      end(
        new BlkError(
          "BLK_E_INTERNAL",
          `the thread of device "${spec.name}" died: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
        ),
      ),
    );
    worker.once("exit", (code) =>
      end(new BlkError("BLK_E_INTERNAL", `the thread of device "${spec.name}" ended with status ${code}`)),
    );
  });
  // Whoever does not watch `ended` still gets rejected calls; it must not count as an unhandled rejection.
  ended.catch(() => {});

  const close = async () => {
    if (!isClosing) {
      isClosing = true;
      const deadline = setTimeout(() => void worker.terminate(), closeDeadlineMs);
      await call("close").catch(() => {});
      await worker.terminate();
      clearTimeout(deadline);
    }
    await ended;
  };

  let description: DeviceDescription;
  try {
    description = await withDeadline(call("start"), startDeadlineMs, `device "${spec.name}" to start`);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    get description() {
      return description;
    },
    ended,
    counters: () => stats.read(),
    report: async () => ({ ...stats.read(), ...(await call("report")) }),
    health: () => call("health"),
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
    close,
  };
}

async function withDeadline<T>(work: Promise<T>, deadlineMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new BlkError("BLK_E_INTERNAL", `waited ${deadlineMs / 1000} s for ${what}, in vain`)),
      deadlineMs,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
