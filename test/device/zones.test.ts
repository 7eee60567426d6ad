/** What a zoned device cannot do is refused before anything is made. */
import { expect, test } from "vitest";
import type { DeviceSpec } from "../../src/device/spec.js";
import { refuseZonesInFile } from "../../src/device/zones.js";
import { loadProfile } from "../../src/profile/load.js";

test("a zoned device keeps no bytes in a file, and so cannot be recovered: its write pointers would be lost", () => {
  const zoned = loadProfile("instant", { settings: ["zoned.zoneSize=64K"], size: "512K" });
  const plain = loadProfile("instant", { settings: [], size: "512K" });
  const refuse = (profile: DeviceSpec["profile"], file: string | null) => () =>
    refuseZonesInFile({ profile, file } as DeviceSpec);
  // What --recovery makes of a device without --file.
  expect(refuse(zoned, "/dev/shm/blkforge-x.img")).toThrow(/write pointers.*\/dev\/shm\/blkforge-x\.img/);
  expect(refuse(zoned, null)).not.toThrow();
  expect(refuse(plain, "/dev/shm/blkforge-x.img")).not.toThrow();
});
