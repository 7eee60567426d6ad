/**
 * Taking a device away from the kernel: not while something holds it, and not without knowing that it is done.
 *
 * What programs wrote through the page cache is on the device by the time the last of them has closed it, so a device
 * nobody holds has nothing left to write. A forced detach is what pulling a cable is: requests in flight fail, and so
 * does every later one of those who still hold it, until they let go.
 */
import { BlkError } from "../../base/errors.js";
import { settleUdev, waitFor } from "../../linux/block-device.js";
import { findHolders } from "../../linux/holders.js";
import { deviceName, devicePath } from "./block-device.js";
import type { NbdDriver } from "./nbd-driver.js";

/** The driver fails what is in flight and waits for its own workers; nothing in it waits for the server. */
const disconnectDeadlineMs = 15_000;
/** Then the last reference has to go: udev looks at every change of a device. */
const releaseDeadlineMs = 15_000;

/**
 * Detaches the device. Resolves to who still holds it, which only a forced detach leaves behind.
 *
 * @throws BlkError BLK_E_DEVICE_BUSY when something holds it and force is not used; BLK_E_ATTACH when it does not end
 */
export async function detachDevice(driver: NbdDriver, index: number, isForced: boolean): Promise<string[]> {
  // What udev opens to have a look at it is closed again soon.
  await settleUdev();
  const holders = findHolders(deviceName(index));
  if (holders.length > 0 && !isForced) {
    throw new BlkError(
      "BLK_E_DEVICE_BUSY",
      `${devicePath(index)} is still ${holders.join(", ")}`,
      "Give it up there first, or use --force, which fails their I/O as a pulled cable does",
    );
  }
  const hasEnded = await Promise.race([
    driver.disconnect(index).then(() => true),
    after(disconnectDeadlineMs),
  ]);
  if (!hasEnded) throw stuck(index, `was not disconnected within ${disconnectDeadlineMs / 1000} s`);
  if (
    holders.length === 0 &&
    !(await waitFor(async () => !(await driver.isConnected(index)), releaseDeadlineMs))
  ) {
    throw stuck(
      index,
      `is disconnected, but the kernel has not let go of it within ${releaseDeadlineMs / 1000} s`,
    );
  }
  return holders;
}

function stuck(index: number, what: string): BlkError {
  return new BlkError(
    "BLK_E_ATTACH",
    `${devicePath(index)} ${what}`,
    "The kernel's log may say more: dmesg | tail",
  );
}

function after(deadlineMs: number): Promise<false> {
  return new Promise((resolve) => {
    setTimeout(() => resolve(false), deadlineMs).unref();
  });
}
