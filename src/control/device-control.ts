/** The control interface of a device that this process serves. */
import type { DeviceHandle } from "../device/host.js";
import type { DeviceControl } from "./control.js";
import { schemaVersion } from "./stats-shape.js";

export function deviceControl(device: DeviceHandle): DeviceControl {
  const { name, seed } = device.description;
  return {
    name,
    describe: async () => device.description,
    stats: async () => ({ schemaVersion, device: name, seed, ...(await device.report()) }),
    faults: device.faults,
  };
}
