/**
 * Programs of this machine for the guest, each with the shared libraries it needs (as `ldd` finds them).
 *
 * The guest's programs are this machine's own, so what runs in front of the kernel is what the user has installed:
 * the same node, the same fio, the same nbd-client.
 */
import { existsSync, realpathSync } from "node:fs";
import { basename, dirname } from "node:path";
import { BlkError } from "../base/errors.js";
import { type CpioEntry, fileEntry } from "./cpio.js";
import { findProgram } from "./packages.js";
import { runTool } from "./subprocess.js";

/** Without these no run is possible. */
const requiredTools = ["fio", "nbd-client", "mkfs.ext4", "fsck.ext4", "blkdiscard"];

/** Taken along where the machine has them: useful at the guest's prompt and in tests. busybox has simpler ones. */
const optionalTools = [
  "bash",
  "dd",
  "lsblk",
  "blkid",
  "blockdev",
  "findmnt",
  "fallocate",
  "timeout",
  "tune2fs",
  "dumpe2fs",
  "debugfs",
  "resize2fs",
  "mkfs.xfs",
  "xfs_repair",
  "xfs_io",
  "dmsetup",
];

/** Configuration without which a program behaves differently: mkfs.ext4 takes the file system's features from here. */
const configurationFiles = ["/etc/mke2fs.conf", "/etc/ld.so.cache"];

/** The archive entries for the standard programs, `node` and `extra` ones (names or paths). */
export async function toolEntries(extra: readonly string[] = [], signal?: AbortSignal): Promise<CpioEntry[]> {
  const programs = new Map<string, string>([["node", process.execPath]]);
  for (const name of [...requiredTools, ...extra]) {
    const path = name.includes("/") ? name : findProgram(name);
    if (path === undefined || !existsSync(path)) {
      throw new BlkError(
        "BLK_E_VM",
        `the guest needs the program "${name}", which this machine has not`,
        "Install it",
      );
    }
    programs.set(basename(name), path);
  }
  for (const name of optionalTools) {
    const path = findProgram(name);
    if (path !== undefined) programs.set(name, path);
  }

  const entries = new Map<string, CpioEntry>();
  const add = (entry: CpioEntry): void => {
    if (!entries.has(entry.path)) entries.set(entry.path, entry);
  };
  for (const [name, path] of programs) {
    const real = realpathSync(path);
    const realName = name === "node" ? name : basename(real);
    add(fileEntry(`usr/bin/${realName}`, real, true));
    // One program under several names (mke2fs as mkfs.ext4) looks at its name to know what to do.
    if (realName !== name) add({ kind: "link", path: `usr/bin/${name}`, target: realName });
  }
  for (const library of await libraries([...programs.values()], signal)) {
    add(fileEntry(guestPath(library), realpathSync(library), true));
  }
  for (const file of configurationFiles) {
    if (existsSync(file)) add(fileEntry(file.slice(1), realpathSync(file), false));
  }
  return [...entries.values()];
}

/** Shared libraries of programs, the loader among them. Static programs and scripts have none. */
async function libraries(programs: readonly string[], signal?: AbortSignal): Promise<string[]> {
  const listed = await runTool(["ldd", ...programs], signal === undefined ? {} : { signal });
  return parseLdd(listed.stdout.toString());
}

/** The paths in ldd's answer: `libm.so.6 => /lib/.../libm.so.6 (0x...)` or `/lib64/ld-linux-x86-64.so.2 (0x...)`. */
export function parseLdd(output: string): string[] {
  const paths = output
    .split("\n")
    .map((line) => /^\s+(?:\S+ => )?(\/\S+) \(0x/.exec(line)?.[1])
    .filter((path) => path !== undefined);
  return [...new Set(paths)].sort();
}

/** In the guest, /lib and /lib64 are links into /usr, as on every current Debian. */
function guestPath(path: string): string {
  const real = `${realpathSync(dirname(path))}/${basename(path)}`;
  return real.replace(/^\/(lib\w*)\//, "/usr/$1/").slice(1);
}
