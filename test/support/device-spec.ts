/** A device as the command line would describe it to a device thread, for tests that start one without it. */
import type { DeviceSpec } from "../../src/device/spec.js";

/** In memory that holds all of it, with no faults and no recording; what a test is about it gives itself. */
export function deviceSpec({
  profile,
  ...changes
}: Partial<DeviceSpec> & Pick<DeviceSpec, "profile">): DeviceSpec {
  return {
    name: profile.name,
    profile,
    isSizeGiven: true,
    file: null,
    memoryLimitBytes: profile.sizeBytes,
    isReadOnly: false,
    isBlockSizeEnforced: false,
    seed: 1,
    settings: [],
    record: null,
    faults: [],
    listen: ["nbd://127.0.0.1:0"],
    timing: "sleep",
    timingReason: "a test",
    ...changes,
  };
}
