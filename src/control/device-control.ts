/** The control interface of a device that this process serves. */
import type { DeviceHandle } from "../device/host.js";
import type { DeviceControl } from "./control.js";
import { schemaVersion } from "./stats-shape.js";

/** Who else has to know of a new size, a kernel for example. */
export interface ResizeListener {
  /** Asked before anything has changed. @throws BlkError why the size has to stay */
  refuseResize(): void;
  onResized(sizeBytes: number): Promise<void>;
}

export function deviceControl(device: DeviceHandle, listener: ResizeListener | null = null): DeviceControl {
  const { name, seed, floorNs } = device.description;
  return {
    name,
    describe: async () => device.description,
    stats: async () => ({ schemaVersion, device: name, seed, floorNs, ...(await device.report()) }),
    health: () => device.health(),
    resize: async (sizeBytes) => {
      listener?.refuseResize();
      const grownBytes = await device.resize(sizeBytes);
      await listener?.onResized(grownBytes);
      return device.description;
    },
    faults: device.faults,
  };
}
