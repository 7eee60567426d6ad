/**
 * What `serve`, `run` and `attach` do alike around a server: the control API beside it, signals.
 */
import { formatSize } from "../base/units.js";
import type { ResizeListener } from "../control/device-control.js";
import { type DeviceHandle, startServer } from "../device/host.js";
import type { ServerSpec } from "../device/spec.js";

export interface Serving {
  /** As many as the spec has, in its order. */
  devices: readonly DeviceHandle[];
  /** Rejects when no device is left, resolves when it was closed. */
  ended: Promise<void>;
  /** Safe to call twice. */
  close(): Promise<void>;
}

export interface ServingOptions {
  /** Address of the control API. */
  api?: string | undefined;
  /** Told when the API makes a device larger. */
  resizeListener?: ResizeListener;
}

/** Starts the devices and, when asked for, their API. Half a start is undone. */
export async function startServing(
  spec: ServerSpec,
  { api: address, resizeListener }: ServingOptions,
): Promise<Serving> {
  tellOfPreallocation(spec);
  const server = await startServer(spec);
  const { devices, ended } = server;
  if (address === undefined) return { devices, ended, close: () => server.close() };
  try {
    const { listenApi } = await import("../control/listen.js");
    const { deviceControl } = await import("../control/device-control.js");
    const api = await listenApi(
      address,
      devices.map((device) => deviceControl(device, resizeListener)),
    );
    return {
      devices,
      ended,
      close: async () => {
        await api.close();
        await server.close();
      },
    };
  } catch (error) {
    await server.undo();
    throw error;
  }
}

/** It may take seconds for each GiB. */
function tellOfPreallocation({ devices }: ServerSpec): void {
  for (const { name, isPreallocated, profile } of devices) {
    if (isPreallocated !== true) continue;
    process.stderr.write(`blkforge: taking ${formatSize(profile.sizeBytes)} of memory for ${name} ...\n`);
  }
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
