/**
 * The guest's root file system: an initramfs of five archives, one after the other.
 *
 * Base (busybox and the first script), kernel modules, programs, blkforge, and the files of one run. Each but the last
 * is cached under a hash of its contents, so a new build of blkforge rewrites its own archive only, and a changed
 * library of the machine only that of the programs. About 190 MB in all, most of it node and what fio is linked with.
 *
 * The archives are not compressed. Measured from QEMU's start to the first process, on an emulated CPU: 2.6 s plain,
 * 2.4 s lz4, 3.1 s zstd, 3.4 s gzip; in virtual time plain is the fastest. lz4's small gain is not worth another
 * program, nor the kernel's trouble with several lz4 archives in a row.
 */

import { BlkError } from "../base/errors.js";
import type { Cache } from "./cache.js";
import { type CpioEntry, concatenate, fileEntry, hashEntries, writeCpioFile } from "./cpio.js";
import { guestInit } from "./guest-init.js";
import type { Kernel } from "./kernel.js";
import { guestModules, loadModules, moduleEntries } from "./modules.js";
import { findProgram } from "./packages.js";

/** The smallest bootable part: enough to run a command of busybox's. */
export function baseEntries(): CpioEntry[] {
  const busybox = findProgram("busybox");
  if (busybox === undefined) {
    throw new BlkError("BLK_E_PACKAGES", "busybox is missing", "Run: apt-get install busybox-static");
  }
  const etc: Record<string, string> = {
    passwd: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    group: "root:x:0:\nnogroup:x:65534:\n",
    hosts: "127.0.0.1 localhost blkforge-lab\n::1 localhost\n",
  };
  return [
    { kind: "link", path: "bin", target: "usr/bin" },
    { kind: "link", path: "sbin", target: "usr/bin" },
    { kind: "link", path: "lib", target: "usr/lib" },
    { kind: "link", path: "lib64", target: "usr/lib64" },
    { kind: "link", path: "usr/sbin", target: "bin" },
    fileEntry("usr/bin/busybox", busybox, true),
    { kind: "file", path: "init", content: Buffer.from(guestInit), isExecutable: true },
    ...Object.entries(etc).map(
      ([name, content]): CpioEntry => ({
        kind: "file",
        path: `etc/${name}`,
        content: Buffer.from(content),
        isExecutable: false,
      }),
    ),
  ];
}

/** The modules of a kernel, the standard ones and those asked for. */
export async function kernelEntries(
  kernel: Kernel,
  extraModules: readonly string[] = [],
  signal?: AbortSignal,
): Promise<CpioEntry[]> {
  const modules = await loadModules(kernel.modulesFolder, [...guestModules, ...extraModules], signal);
  return moduleEntries(kernel.release, modules);
}

/** The cached archive of these entries, written if it is not there yet. */
export function segment(cache: Cache, name: string, entries: readonly CpioEntry[]): Promise<string> {
  return cache.entry("segments", `${name}-${hashEntries(entries)}.cpio`, (path) =>
    writeCpioFile(path, entries),
  );
}

/** Writes the initramfs of one run: cached parts, then the entries of the run itself. */
export async function writeInitramfs(
  target: string,
  segments: readonly string[],
  runEntries: readonly CpioEntry[],
): Promise<void> {
  const runSegment = `${target}.run`;
  await writeCpioFile(runSegment, runEntries);
  await concatenate(target, [...segments, runSegment]);
}
