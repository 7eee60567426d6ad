/**
 * What `serve` and `run` do alike around a device: the control API beside it, counters at the end, signals.
 */
import { operations } from "../base/request.js";
import { formatTable } from "../base/table.js";
import { formatDuration, formatSize } from "../base/units.js";
import { type DeviceHandle, type DeviceSpec, startDevice } from "../device/host.js";
import type { DeviceOptions } from "./serve-options.js";

export interface Serving {
  device: DeviceHandle;
  close(): Promise<void>;
}

/** Starts the device and, when asked for, its API. Half a start is undone. */
export async function startServing(spec: DeviceSpec, options: DeviceOptions): Promise<Serving> {
  const device = await startDevice(spec);
  if (options.api === undefined) return { device, close: () => device.close() };
  try {
    const { listenApi } = await import("../control/listen.js");
    const { deviceControl } = await import("../control/device-control.js");
    const api = await listenApi(options.api, [deviceControl(device)]);
    return {
      device,
      close: async () => {
        await api.close();
        await device.close();
      },
    };
  } catch (error) {
    await device.close();
    throw error;
  }
}

/** One table for people: what was done, how long it took, and how late the emulator itself was. */
export function formatCounters(device: DeviceHandle): string {
  const { operations: byOperation, lateness } = device.counters();
  const rows = [["", "requests", "bytes", "errors", "mean", "p50", "p99", "max"]];
  for (const name of operations) {
    const { count, bytes, errors, latency } = byOperation[name];
    if (count === 0) continue;
    rows.push([
      name,
      String(count),
      formatSize(bytes),
      String(errors),
      ...[latency.meanNs, latency.p50Ns, latency.p99Ns, latency.maxNs].map(formatDuration),
    ]);
  }
  const late = [lateness.meanNs, lateness.p50Ns, lateness.p99Ns, lateness.maxNs];
  rows.push([
    "lateness",
    String(lateness.count),
    "",
    "",
    ...late.map((ns) => (lateness.count === 0 ? "-" : formatDuration(ns))),
  ]);
  return `${formatTable(rows)}\nlateness = reply minus due time: the emulator's own error (seed ${device.description.seed})\n`;
}

/**
 * Calls `onFirst` at the first SIGINT or SIGTERM; a second one ends the process at once, with the status shells give
 * to a signal. The returned function stops listening.
 */
export function onStopSignal(onFirst: (signal: NodeJS.Signals) => void): () => void {
  let hasCome = false;
  const listener = (signal: NodeJS.Signals) => {
    if (hasCome) process.exit(signal === "SIGINT" ? 130 : 143);
    hasCome = true;
    onFirst(signal);
  };
  process.on("SIGINT", listener);
  process.on("SIGTERM", listener);
  return () => {
    process.off("SIGINT", listener);
    process.off("SIGTERM", listener);
  };
}
