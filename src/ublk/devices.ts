/** The ublk devices of this machine, whoever serves them: listed, stopped from outside, cleared away. */
import { readdirSync } from "node:fs";
import { BlkError } from "../base/errors.js";
import { readAttribute, settleUdev, waitFor } from "../linux/block-device.js";
import { findHolders } from "../linux/holders.js";
import type { DeviceState } from "./abi.js";
import { busy, noDevice } from "./attachment.js";
import { isRefusal, slowDeadlineMs, type UblkControl } from "./control.js";
import { deviceName, devicePath } from "./names.js";
import { isAlive, loadState, rememberedIds, removeState, type UblkState } from "./state.js";

export interface ListedDevice {
  id: number;
  /** Such as "/dev/ublkb0". */
  path: string;
  state: DeviceState;
  queues: number;
  depth: number;
  sizeBytes: number | null;
  /** Of the server; null when it has died, or never was. */
  pid: number | null;
  /** Null for other software's devices. */
  name: string | null;
  /** Whether its server has died, and this software's it was. */
  isOrphan: boolean;
  isRecoverable: boolean;
}

/** How long a server may take to detach: its drain, the stop and the end of its threads. */
const detachDeadlineMs = 60_000;

/** Numbers from the character devices the driver has made. */
function deviceIds(): number[] {
  let names: string[] = [];
  try {
    names = readdirSync("/sys/class/ublk-char");
  } catch {
    // No driver, no devices.
  }
  return names.map((name) => Number(name.slice("ublkc".length))).sort((a, b) => a - b);
}

export async function listDevices(control: UblkControl): Promise<ListedDevice[]> {
  const listed: ListedDevice[] = [];
  for (const id of deviceIds()) {
    const info = await control.deviceInfo(id);
    if (info === null) continue;
    const state = loadState(id);
    const sectors = readAttribute(deviceName(id), "size");
    const isServed = state === null ? info.pid > 0 && info.state === "live" : isAlive(state.server);
    listed.push({
      id,
      path: devicePath(id),
      state: info.state,
      queues: info.queues,
      depth: info.depth,
      sizeBytes: sectors === null ? null : Number(sectors) * 512,
      pid: isServed ? (state?.server.pid ?? info.pid) : null,
      name: state?.name ?? null,
      isOrphan: state !== null && !isServed,
      isRecoverable:
        state?.isRecoverable === true && !isServed && info.state !== "live" && info.state !== "dead",
    });
  }
  return listed;
}

/**
 * Detaches a device that another process serves, or none. Resolves to who still holds it.
 *
 * @throws BlkError BLK_E_DEVICE_BUSY, BLK_E_UBLK, BLK_E_USAGE for a device that is not there
 */
export async function detachDevice(control: UblkControl, id: number, isForced: boolean): Promise<string[]> {
  if ((await control.deviceInfo(id)) === null) throw noDevice(id);
  await settleUdev();
  const holders = findHolders(deviceName(id));
  if (holders.length > 0 && !isForced) throw busy(id, holders);
  const state = loadState(id);
  if (state !== null && isAlive(state.server)) await askServer(control, state, isForced);
  else await deleteDevice(control, id);
  return holders;
}

/** Its server knows what its faults hold, and lets go of that first. */
async function askServer(control: UblkControl, { id, server }: UblkState, isForced: boolean): Promise<void> {
  process.kill(server.pid, isForced ? "SIGUSR2" : "SIGTERM");
  const isGone = async (): Promise<boolean> => !isAlive(server) || (await control.deviceInfo(id)) === null;
  if (!(await waitFor(isGone, detachDeadlineMs))) {
    throw new BlkError(
      "BLK_E_UBLK",
      `the server of ${devicePath(id)} (pid ${server.pid}) has not detached it within ${detachDeadlineMs / 1000} s`,
      "Something may have begun to use it; --force pulls it all the same",
    );
  }
  // It may have died over it.
  if ((await control.deviceInfo(id)) !== null) await deleteDevice(control, id);
  removeState(id);
}

/** Stops and deletes a device nobody serves. */
export async function deleteDevice(control: UblkControl, id: number): Promise<void> {
  for (const [command, stage] of [
    ["stopDevice", "stop the device"],
    // Who has it open still, a mount say, keeps its number; the kernel deletes it when they are gone.
    ["deleteDeviceLater", "delete the device"],
  ] as const) {
    try {
      await control.run(command, { stage, deviceId: id, deadlineMs: slowDeadlineMs });
    } catch (error) {
      if (!isRefusal(error, "ENODEV")) throw error;
    }
  }
  removeState(id);
}

/** Devices whose servers have died, and what is remembered of devices that are gone. Answers with what was cleared away. */
export async function cleanUp(control: UblkControl, withRecoverable: boolean): Promise<ListedDevice[]> {
  const devices = await listDevices(control);
  const orphans = devices.filter(
    ({ isOrphan, isRecoverable }) => isOrphan && (withRecoverable || !isRecoverable),
  );
  for (const { id } of orphans) await deleteDevice(control, id);
  const known = new Set(devices.map(({ id }) => id));
  for (const id of rememberedIds()) {
    const state = loadState(id);
    if (!known.has(id) && (state === null || !isAlive(state.server))) removeState(id);
  }
  return orphans;
}
