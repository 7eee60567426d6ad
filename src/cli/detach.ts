/** `blkforge detach`: take an NBD or ublk device away from this machine's kernel, whoever attached it. */
import { Command } from "commander";
import { BlkError } from "../base/errors.js";
import { devicePath, readDeviceIndex } from "../nbd/kernel/block-device.js";
import { detachDevice } from "../nbd/kernel/detach.js";
import { NbdDriver } from "../nbd/kernel/nbd-driver.js";
import { UblkControl } from "../ublk/control.js";
import { detachDevice as detachUblkDevice } from "../ublk/devices.js";
import { readDeviceId } from "../ublk/names.js";

export const command = new Command("detach")
  .description(
    "Detach an NBD or ublk device from this machine's kernel, whoever attached it; its server, if there is one, ends by itself.\n" +
      "Refuses while the device is mounted, used for swap, part of another device or open in a program, and says so.",
  )
  .argument("<device>", "such as /dev/nbd0 or /dev/ublkb0")
  .option("--force", "detach it all the same: I/O of those who hold it fails, as with a pulled cable")
  .addHelpText(
    "after",
    `
Examples:
  sudo blkforge detach /dev/nbd0
  sudo blkforge detach /dev/ublkb0
  sudo blkforge detach /dev/nbd0 --force     # after the death of its server, say`,
  )
  .action(detach);

async function detach(path: string, { force = false }: { force?: boolean }): Promise<void> {
  const id = readDeviceId(path);
  if (id === null) await detachNbd(path, force);
  else await detachUblk(path, id, force);
}

async function detachUblk(path: string, id: number, force: boolean): Promise<void> {
  const control = await UblkControl.open();
  try {
    sayWhoHolds(path, await detachUblkDevice(control, id, force));
  } finally {
    control.close();
  }
}

async function detachNbd(path: string, force: boolean): Promise<void> {
  const index = readDeviceIndex(path);
  const driver = await NbdDriver.open();
  try {
    if (!(await driver.isConnected(index))) {
      throw new BlkError(
        "BLK_E_USAGE",
        `${devicePath(index)} is not attached`,
        "lsblk shows which devices are",
      );
    }
    sayWhoHolds(devicePath(index), await detachDevice(driver, index, force));
  } finally {
    driver.close();
  }
}

function sayWhoHolds(path: string, holders: readonly string[]): void {
  if (holders.length === 0) return;
  process.stderr.write(`blkforge: ${path} is detached, and was still ${holders.join(", ")}\n`);
}
