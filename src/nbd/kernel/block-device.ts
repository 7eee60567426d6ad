/**
 * A block device of this machine, seen through sysfs and udev: when it is usable, and its queue's settings.
 *
 * Source: Linux, Documentation/ABI/stable/sysfs-block.
 */
import { spawn } from "node:child_process";
import { accessSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { BlkError } from "../../base/errors.js";

/** From the driver's answer to the node in /dev: milliseconds, unless the machine is far too busy. */
const usableDeadlineMs = 30_000;
/** Rules of udev that take longer do not concern whether the device can be used. */
const settleDeadlineSeconds = 10;
const pollMs = 10;

const bytesPerSector = 512;

export function devicePath(index: number): string {
  return `/dev/nbd${index}`;
}

/** The n of "/dev/nbdn". @throws BlkError BLK_E_USAGE */
export function readDeviceIndex(path: string): number {
  const match = /^(?:\/dev\/)?nbd(\d{1,6})$/.exec(path);
  if (match !== null) return Number(match[1]);
  throw new BlkError(
    "BLK_E_USAGE",
    `"${path}" is no NBD device of the kernel`,
    "Give /dev/nbd0, for example",
  );
}

/**
 * Resolves when the device has this size and its node is there, and udev has done its part.
 *
 * @throws BlkError BLK_E_ATTACH
 */
export async function waitUntilUsable(index: number, sizeBytes: number): Promise<void> {
  const isUsable = (): boolean => {
    const sectors = readAttribute(index, "size");
    return (
      sectors !== null && Number(sectors) * bytesPerSector === sizeBytes && isBlockDevice(devicePath(index))
    );
  };
  if (!(await waitFor(isUsable, usableDeadlineMs))) {
    throw new BlkError(
      "BLK_E_ATTACH",
      `${devicePath(index)} did not become usable within ${usableDeadlineMs / 1000} s: its size in /sys is ` +
        `${readAttribute(index, "size") ?? "not there"} sectors, its node is ${isBlockDevice(devicePath(index)) ? "there" : "missing"}`,
      "A container needs the host's /dev and /sys; the kernel's log may say more: dmesg | tail",
    );
  }
  await settleUdev();
}

export interface QueueSettings {
  /** "none", "mq-deadline", "bfq", "kyber". */
  scheduler?: string;
  readAheadBytes?: number;
  isRotational: boolean;
}

/** @throws BlkError BLK_E_USAGE when the kernel does not have the scheduler */
export function applySettings(
  index: number,
  { scheduler, readAheadBytes, isRotational }: QueueSettings,
): void {
  if (scheduler !== undefined && !writeAttribute(index, "queue/scheduler", scheduler)) {
    throw new BlkError(
      "BLK_E_USAGE",
      `this kernel has no I/O scheduler "${scheduler}" for ${devicePath(index)}`,
      `It has: ${readAttribute(index, "queue/scheduler")?.replaceAll(/[[\]]/g, "") ?? "none"}; others are modules (modprobe bfq)`,
    );
  }
  if (readAheadBytes !== undefined) {
    writeAttribute(index, "queue/read_ahead_kb", String(Math.ceil(readAheadBytes / 1024)));
  }
  // Kernels before 6.12 ignore the flag that says so.
  const rotational = isRotational ? "1" : "0";
  if (readAttribute(index, "queue/rotational") !== rotational) {
    writeAttribute(index, "queue/rotational", rotational);
  }
}

/** Waits until udev has handled what it was told, so that it holds nothing open; at once where there is no udev. */
export async function settleUdev(): Promise<void> {
  try {
    accessSync("/run/udev/control");
  } catch {
    return;
  }
  await new Promise<void>((resolve) => {
    const child = spawn("udevadm", ["settle", `--timeout=${settleDeadlineSeconds}`], { stdio: "ignore" });
    child.once("error", () => resolve());
    child.once("close", () => resolve());
  });
}

/** Polls until the condition holds; false when it does not by the deadline. */
export async function waitFor(
  condition: () => boolean | Promise<boolean>,
  deadlineMs: number,
): Promise<boolean> {
  const endMs = performance.now() + deadlineMs;
  while (!(await condition())) {
    if (performance.now() >= endMs) return false;
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
  return true;
}

function readAttribute(index: number, name: string): string | null {
  try {
    return readFileSync(`/sys/block/nbd${index}/${name}`, "utf8").trim();
  } catch {
    return null;
  }
}

/** False when the kernel refuses the value. */
function writeAttribute(index: number, name: string, value: string): boolean {
  try {
    writeFileSync(`/sys/block/nbd${index}/${name}`, value);
    return true;
  } catch {
    return false;
  }
}

function isBlockDevice(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isBlockDevice() ?? false;
}
