/**
 * What `serve` and `run` do alike around a device: the control API beside it, signals.
 */
import { type DeviceHandle, type DeviceSpec, startDevice } from "../device/host.js";
import type { DeviceOptions } from "./serve-options.js";

export interface Serving {
  device: DeviceHandle;
  close(): Promise<void>;
}

/**
 * Starts the device and, when asked for, its API. Half a start is undone.
 *
 * @param onResized called when the API has made the device larger
 */
export async function startServing(
  spec: DeviceSpec,
  options: DeviceOptions,
  onResized?: (sizeBytes: number) => Promise<void>,
): Promise<Serving> {
  const device = await startDevice(spec);
  if (options.api === undefined) return { device, close: () => device.close() };
  try {
    const { listenApi } = await import("../control/listen.js");
    const { deviceControl } = await import("../control/device-control.js");
    const api = await listenApi(options.api, [deviceControl(device, onResized)]);
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
