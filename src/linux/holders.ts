/**
 * What holds a block device: mounts (in any mount namespace), swap, devices built on it, loop devices, programs that
 * have it open. Each in a phrase for people.
 *
 * A look at the moment; who opens the device a moment later is not seen. Last of all the kernel itself is asked, by
 * opening the device exclusively: that finds who holds it by a way not known here.
 *
 * Source: Linux, Documentation/filesystems/proc.rst (mountinfo), sysfs-block.
 */
import { closeSync, constants, openSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { isSystemError } from "../base/errors.js";

/** Where the machine's own trees are; a test has its own. */
export interface Roots {
  proc: string;
  sys: string;
}

/** A device and its partitions, by path and by number. */
interface Target {
  name: string;
  paths: Set<string>;
  /** "43:0", as in mountinfo. */
  numbers: Set<string>;
}

/** Phrases such as "mounted on /mnt"; none when the device is free. */
export function findHolders(name: string, roots: Roots = { proc: "/proc", sys: "/sys" }): string[] {
  const target = describe(name, roots);
  const holders = [
    ...mounts(target, roots),
    ...swaps(target, roots),
    ...stackedDevices(target, roots),
    ...loopDevices(target, roots),
    ...programs(target, roots),
  ];
  if (holders.length === 0 && isClaimed(`/dev/${name}`)) holders.push("claimed by something in the kernel");
  return [...new Set(holders)];
}

function describe(name: string, { sys }: Roots): Target {
  const folder = join(sys, "block", name);
  const parts = list(folder).filter((entry) => new RegExp(`^${name}p\\d+$`).test(entry));
  const numberOf = (path: string): string[] => {
    const number = read(join(path, "dev")).trim();
    return number === "" ? [] : [number];
  };
  return {
    name,
    paths: new Set([name, ...parts].map((entry) => `/dev/${entry}`)),
    numbers: new Set([folder, ...parts.map((part) => join(folder, part))].flatMap(numberOf)),
  };
}

function mounts(target: Target, { proc }: Roots): string[] {
  const found: string[] = [];
  const seenNamespaces = new Set<string>();
  for (const pid of processes(proc)) {
    const namespace = link(join(proc, pid, "ns", "mnt"));
    if (namespace === null || seenNamespaces.has(namespace)) continue;
    seenNamespaces.add(namespace);
    found.push(...mountsIn(read(join(proc, pid, "mountinfo")), target));
  }
  return found.map((place) => `mounted on ${place}`);
}

/** Mount points of the device in a mountinfo table. Some file systems (btrfs) give a number of their own: then the source tells. */
export function mountsIn(mountinfo: string, { paths, numbers }: Pick<Target, "paths" | "numbers">): string[] {
  const places: string[] = [];
  for (const line of mountinfo.split("\n")) {
    const [fields = "", rest = ""] = line.split(" - ");
    const [, , number = "", , place = ""] = fields.split(" ");
    const source = unescapePath(rest.split(" ")[1] ?? "");
    if (numbers.has(number) || paths.has(source)) places.push(unescapePath(place));
  }
  return places;
}

function swaps({ paths }: Target, { proc }: Roots): string[] {
  const lines = read(join(proc, "swaps")).split("\n").slice(1);
  const used = lines.map((line) => unescapePath(line.split(/\s/)[0] ?? "")).filter((path) => paths.has(path));
  return used.map((path) => `used for swap as ${path}`);
}

function stackedDevices({ name, paths }: Target, { sys }: Roots): string[] {
  const found: string[] = [];
  for (const path of paths) {
    const part = path.slice("/dev/".length);
    const folder = part === name ? join(sys, "block", name) : join(sys, "block", name, part);
    for (const holder of list(join(folder, "holders"))) found.push(`part of /dev/${holder}`);
  }
  return found;
}

function loopDevices({ paths }: Target, { sys }: Roots): string[] {
  const loops = list(join(sys, "block")).filter((entry) => entry.startsWith("loop"));
  return loops
    .filter((loop) => paths.has(read(join(sys, "block", loop, "loop", "backing_file")).trim()))
    .map((loop) => `behind /dev/${loop}`);
}

function programs(target: Target, { proc }: Roots): string[] {
  const found: string[] = [];
  for (const pid of processes(proc)) {
    const folder = join(proc, pid, "fd");
    if (!list(folder).some((fd) => isOpen(join(folder, fd), target))) continue;
    found.push(`open in ${read(join(proc, pid, "comm")).trim()} (pid ${pid})`);
  }
  return found;
}

/** Only what lies in /dev is looked at more closely: other files may be on a network that does not answer. */
function isOpen(descriptor: string, { paths, numbers }: Target): boolean {
  const path = link(descriptor);
  if (path === null || !path.startsWith("/dev/")) return false;
  if (paths.has(path)) return true;
  try {
    const stat = statSync(descriptor);
    return stat.isBlockDevice() && numbers.has(`${major(stat.rdev)}:${minor(stat.rdev)}`);
  } catch {
    return false;
  }
}

/** Exclusive opening, without creating: it fails when a file system or a device holds the device. */
function isClaimed(path: string): boolean {
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_EXCL | constants.O_NONBLOCK));
    return false;
  } catch (error) {
    return isSystemError(error, "EBUSY");
  }
}

/** `gnu_dev_major` and `gnu_dev_minor`, for numbers below 2^32. */
function major(device: number): number {
  return (device >>> 8) & 0xfff;
}

function minor(device: number): number {
  return (device & 0xff) | ((device >>> 12) & 0xfff00);
}

/** Spaces and the like stand as octal numbers in the kernel's tables. */
function unescapePath(path: string): string {
  return path.replaceAll(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

function processes(proc: string): string[] {
  return list(proc).filter((entry) => /^\d+$/.test(entry));
}

// Processes and devices come and go while they are looked at: what is gone holds nothing.

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function link(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}
