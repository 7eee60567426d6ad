/**
 * A block device of this machine, seen through sysfs and udev: when it is usable, and its queue's settings.
 *
 * Devices go by their kernel name, such as "nbd0".
 *
 * Source: Linux, Documentation/ABI/stable/sysfs-block.
 */
import { spawn } from "node:child_process";
import { accessSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { BlkError } from "../base/errors.js";

/** From the driver's answer to the node in /dev: milliseconds, unless the machine is far too busy. */
const usableDeadlineMs = 30_000;
/** Rules of udev that take longer do not concern whether the device can be used. */
const settleDeadlineSeconds = 10;
const pollMs = 10;

const bytesPerSector = 512;

/**
 * Resolves when the device has this size and its node is there, and udev has done its part.
 *
 * @throws BlkError BLK_E_ATTACH
 */
export async function waitUntilUsable(name: string, sizeBytes: number): Promise<void> {
  const isUsable = (): boolean => {
    const sectors = readAttribute(name, "size");
    return sectors !== null && Number(sectors) * bytesPerSector === sizeBytes && isBlockDevice(pathOf(name));
  };
  if (!(await waitFor(isUsable, usableDeadlineMs))) {
    throw new BlkError(
      "BLK_E_ATTACH",
      `${pathOf(name)} did not become usable within ${usableDeadlineMs / 1000} s: its size in /sys is ` +
        `${readAttribute(name, "size") ?? "not there"} sectors, its node is ${describeNode(pathOf(name))}`,
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
  name: string,
  { scheduler, readAheadBytes, isRotational }: QueueSettings,
): void {
  if (scheduler !== undefined && !writeAttribute(name, "queue/scheduler", scheduler)) {
    throw new BlkError(
      "BLK_E_USAGE",
      `this kernel has no I/O scheduler "${scheduler}" for ${pathOf(name)}`,
      `It has: ${readAttribute(name, "queue/scheduler")?.replaceAll(/[[\]]/g, "") ?? "none"}; others are modules (modprobe bfq)`,
    );
  }
  if (readAheadBytes !== undefined) {
    writeAttribute(name, "queue/read_ahead_kb", String(Math.ceil(readAheadBytes / 1024)));
  }
  // Kernels before 6.12 ignore the flag that says so.
  const rotational = isRotational ? "1" : "0";
  if (readAttribute(name, "queue/rotational") !== rotational) {
    writeAttribute(name, "queue/rotational", rotational);
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

/** Null when the device, or the attribute, is not there. */
export function readAttribute(name: string, attribute: string): string | null {
  try {
    return readFileSync(`/sys/block/${name}/${attribute}`, "utf8").trim();
  } catch {
    return null;
  }
}

/** False when the kernel refuses the value. */
export function writeAttribute(name: string, attribute: string, value: string): boolean {
  try {
    writeFileSync(`/sys/block/${name}/${attribute}`, value);
    return true;
  } catch {
    return false;
  }
}

function pathOf(name: string): string {
  return `/dev/${name}`;
}

/** A program that opens the path for writing while there is no device leaves a file there, which keeps the node from coming. */
function describeNode(path: string): string {
  if (isBlockDevice(path)) return "there";
  return statSync(path, { throwIfNoEntry: false }) === undefined
    ? "missing"
    : "no block device but a file: remove it";
}

function isBlockDevice(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isBlockDevice() ?? false;
}
