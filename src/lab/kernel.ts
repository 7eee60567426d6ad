/**
 * Which kernel the guest boots, and where it comes from.
 *
 * In this order, unless one is asked for: the running kernel, where its image and its nbd module can be read (the one
 * a user means, and nothing to download); else Debian's 6.12 for cloud machines, from the main suite or, on Debian 12,
 * from backports (small, with nbd and ublk, no drivers for hardware a VM lacks); else the newest that Debian has. A version
 * that is asked for may also come from the backports of a newer Debian.
 * Packages are unpacked into the cache and never installed.
 */
import { accessSync, closeSync, constants, existsSync, openSync, readdirSync, readSync } from "node:fs";
import { release } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { BlkError } from "../base/errors.js";
import { type DebianArchive, openDebianArchive, openStableBackports } from "./apt.js";
import type { Cache } from "./cache.js";
import { hasModule } from "./modules.js";

export interface Kernel {
  /** As `uname -r` says it. */
  release: string;
  imagePath: string;
  modulesFolder: string;
  /** Where it came from, in words for people. */
  origin: string;
}

export interface FindKernelOptions {
  onProgress?: (text: string) => void;
  signal?: AbortSignal;
}

/** The newest series with everything the lab uses that Debian 12 (backports) and 13 both have. */
const preferredSeries = "6.12";

/**
 * @param wanted a version such as "6.12", or "7" for the newest of all 7.x, the path of a kernel image, or undefined for the default.
 * @throws BlkError BLK_E_KERNEL, or BLK_E_USAGE for what is neither version nor path.
 */
export async function findKernel(
  cache: Cache,
  wanted?: string,
  options: FindKernelOptions = {},
): Promise<Kernel> {
  if (wanted === undefined) return runningKernel() ?? (await defaultKernel(cache, options));
  if (wanted.includes("/")) return kernelFromFile(wanted);
  if (!/^\d+(\.\d+){0,2}$/.test(wanted)) {
    throw new BlkError(
      "BLK_E_USAGE",
      `"${wanted}" is neither a kernel version nor the path of a kernel image`,
      "Write a version such as 6.12 or 7, or a path such as ./vmlinuz",
    );
  }
  return kernelFromPackage(cache, wanted, options);
}

function runningKernel(): Kernel | undefined {
  const running = release();
  const imagePath = `/boot/vmlinuz-${running}`;
  const modulesFolder = `/lib/modules/${running}`;
  if (!isReadable(imagePath) || !existsSync(modulesFolder) || !hasModule(modulesFolder, "nbd"))
    return undefined;
  return { release: running, imagePath, modulesFolder, origin: "the running kernel" };
}

function kernelFromFile(path: string): Kernel {
  const imagePath = resolve(path);
  if (!isReadable(imagePath)) {
    throw new BlkError(
      "BLK_E_KERNEL",
      `the kernel image ${path} cannot be read`,
      "Check the path and its permissions",
    );
  }
  const found = imageRelease(imagePath);
  if (found === undefined) {
    throw new BlkError(
      "BLK_E_KERNEL",
      `${path} is not a kernel image (bzImage) for x86-64`,
      "Give a vmlinuz or bzImage",
    );
  }
  // Where the image is, or beside it as in an unpacked package (boot/vmlinuz, lib/modules), or installed on this machine.
  const root = resolve(dirname(imagePath), "..");
  const candidates = [
    ...(basename(dirname(imagePath)) === found ? [dirname(imagePath)] : []),
    join(root, "lib/modules", found),
    join(root, "usr/lib/modules", found),
    `/lib/modules/${found}`,
  ];
  const modulesFolder = candidates.find((folder) => existsSync(folder));
  if (modulesFolder === undefined) {
    throw new BlkError(
      "BLK_E_KERNEL",
      `the modules of ${path} (${found}) are in none of ${candidates.join(", ")}`,
      "Put them there, or ask for a version instead: --kernel 6.12",
    );
  }
  return { release: found, imagePath, modulesFolder, origin: imagePath };
}

/**
 * The release a bzImage carries: an offset at 0x20e of its header leads to the string.
 * Source: Documentation/arch/x86/boot.rst, "kernel_version".
 */
export function imageRelease(path: string): string | undefined {
  const head = Buffer.alloc(64 * 1024);
  const file = openSync(path, "r");
  try {
    readSync(file, head, 0, head.length, 0);
  } finally {
    closeSync(file);
  }
  if (head.toString("latin1", 0x202, 0x206) !== "HdrS") return undefined;
  const at = head.readUInt16LE(0x20e) + 0x200;
  return /^[\w.+~-]+/.exec(head.toString("latin1", at, at + 128))?.[0];
}

async function defaultKernel(cache: Cache, options: FindKernelOptions): Promise<Kernel> {
  const cached = cachedKernel(cache, preferredSeries);
  if (cached !== undefined) return cached;

  const archive = await openDebianArchive(cache, options);
  const names = await archive.kernelPackages();
  const preferred = newestOf(names, preferredSeries) ?? newestOf(names);
  if (preferred === undefined) throw noPackage("for cloud machines", archive.suites);
  if (compareReleases(packageRelease(preferred), preferredSeries) < 0) {
    options.onProgress?.(
      `No kernel ${preferredSeries} in ${archive.suites.join(", ")}: taking ${preferred}, which has no ublk`,
    );
  }
  return fetchKernel(cache, archive, preferred, options);
}

async function kernelFromPackage(cache: Cache, series: string, options: FindKernelOptions): Promise<Kernel> {
  const cached = cachedKernel(cache, series);
  if (cached !== undefined) return cached;
  const searched: string[] = [];
  for (const open of [openDebianArchive, openStableBackports]) {
    const archive = await open(cache, options);
    if (archive === null) continue;
    const name = newestOf(await archive.kernelPackages(), series);
    if (name !== undefined) return fetchKernel(cache, archive, name, options);
    searched.push(...archive.suites);
  }
  throw noPackage(series, searched);
}

function noPackage(what: string, suites: readonly string[]): BlkError {
  return new BlkError(
    "BLK_E_KERNEL",
    `Debian's ${suites.join(" and ")} have no kernel ${what}`,
    "Choose another version, or give the path of a kernel image: --kernel PATH",
  );
}

async function fetchKernel(
  cache: Cache,
  archive: DebianArchive,
  name: string,
  options: FindKernelOptions,
): Promise<Kernel> {
  const folder = await cache.entry("kernels", name, async (path) => {
    options.onProgress?.(`Downloading ${name}`);
    await archive.unpack(name, path);
  });
  return kernelFromFolder(folder);
}

function cachedKernel(cache: Cache, series: string): Kernel | undefined {
  const names = readdirSync(cache.path("kernels")).filter((name) => !name.endsWith(".tmp"));
  const name = newestOf(names, series);
  return name === undefined ? undefined : kernelFromFolder(cache.path("kernels", name));
}

function kernelFromFolder(folder: string): Kernel {
  const image = unpackedImage(folder);
  if (image === undefined) {
    throw new BlkError("BLK_E_KERNEL", `${folder} holds no kernel image`, "Remove it: blkforge lab clean");
  }
  return { ...kernelFromFile(image), origin: `Debian's package ${basename(folder)}` };
}

/** In /boot, or since Debian's 7.0 as "vmlinuz" beside its modules. */
export function unpackedImage(folder: string): string | undefined {
  const boot = join(folder, "boot");
  const modules = join(folder, "usr/lib/modules");
  const candidates = [
    ...(existsSync(boot) ? readdirSync(boot).map((name) => join(boot, name)) : []),
    ...(existsSync(modules) ? readdirSync(modules).map((name) => join(modules, name, "vmlinuz")) : []),
  ];
  return candidates.find((path) => basename(path).startsWith("vmlinuz") && existsSync(path));
}

/** The newest package of a series ("6.12" takes 6.12.95, not 6.1), or of all. */
export function newestOf(names: readonly string[], series = ""): string | undefined {
  const wanted = numbers(series);
  return names
    .filter((name) => wanted.every((number, index) => numbers(packageRelease(name))[index] === number))
    .sort((a, b) => compareReleases(packageRelease(a), packageRelease(b)))
    .at(-1);
}

function packageRelease(name: string): string {
  return name.replace(/^linux-image-/, "").replace(/-cloud-amd64$/, "");
}

/** Kernel releases compare by their numbers: 6.12.9 before 6.12.74, 6.12.90+deb12 before 6.12.90+deb12.1. */
export function compareReleases(a: string, b: string): number {
  const left = numbers(a);
  const right = numbers(b);
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const difference = (left[index] ?? -1) - (right[index] ?? -1);
    if (difference !== 0) return difference;
  }
  return 0;
}

function numbers(release: string): number[] {
  return (release.match(/\d+/g) ?? []).map(Number);
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
