/** The control interface of a device that this process serves. */
import type { DeviceHandle } from "../device/host.js";
import type { DeviceControl } from "./control.js";
import { schemaVersion } from "./stats-shape.js";

/** @param onResized tells who else has to know the new size, a kernel for example */
export function deviceControl(
  device: DeviceHandle,
  onResized: (sizeBytes: number) => Promise<void> = async () => {},
): DeviceControl {
  const { name, seed, floorNs } = device.description;
  return {
    name,
    describe: async () => device.description,
    stats: async () => ({ schemaVersion, device: name, seed, floorNs, ...(await device.report()) }),
    health: () => device.health(),
    resize: async (sizeBytes) => {
      await onResized(await device.resize(sizeBytes));
      return device.description;
    },
    faults: device.faults,
  };
}
