/**
 * Kernel modules for the guest: found in a kernel's module folder, with everything they depend on.
 *
 * A kernel package that was unpacked but not installed has no `modules.dep`, and `depmod` may be missing. Each module
 * says itself what it needs, in its `.modinfo` section (`depends=`, `softdep=`, `alias=`), so that is what is read;
 * the small `modules.dep` and `modules.alias` the guest's modprobe wants are written from it.
 *
 * Source: kernel/module/, scripts/mod/modpost.c (the section), man modules.dep(5).
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { BlkError } from "../base/errors.js";
import type { CpioEntry } from "./cpio.js";
import { runTool } from "./subprocess.js";

/**
 * What tests of block devices want to load: the transports, devices to compare with, I/O schedulers, file systems,
 * mapping targets. A name the kernel has built in, or was built without, is left out.
 */
export const guestModules: readonly string[] = [
  "virtio_pci",
  "virtio_console",
  "nbd",
  "ublk_drv",
  "null_blk",
  "brd",
  "loop",
  "scsi_debug",
  "mq_deadline",
  "kyber_iosched",
  "bfq",
  "ext4",
  "xfs",
  "crc32c_intel",
  "crc32c_generic",
  "libcrc32c",
  "dm_mod",
  "dm_delay",
  "dm_flakey",
  "dm_log_writes",
];

export interface KernelModule {
  /** With underscores, as the kernel itself says it. */
  name: string;
  /** The plain object, unpacked. */
  content: Uint8Array;
  /** Names of modules that must be loaded before. */
  depends: string[];
  aliases: string[];
}

/** The modules with these names and all they need, each after its dependencies. */
export async function loadModules(
  modulesFolder: string,
  names: readonly string[],
  signal?: AbortSignal,
): Promise<KernelModule[]> {
  const files = indexModules(modulesFolder);
  const unpacked = new Map<string, Promise<KernelModule>>();
  const read = (name: string): Promise<KernelModule> => {
    const known = unpacked.get(name);
    if (known !== undefined) return known;
    const reading = readModule(name, files.get(name)!, signal);
    unpacked.set(name, reading);
    return reading;
  };
  return closure(
    names.filter((name) => files.has(name)),
    async (name) => (files.has(name) ? await read(name) : undefined),
  );
}

/**
 * The named modules and what they depend on, dependencies first. `find` gives undefined for what the kernel has
 * built in.
 */
export async function closure<M extends { name: string; depends: string[] }>(
  names: readonly string[],
  find: (name: string) => Promise<M | undefined>,
): Promise<M[]> {
  const ordered = new Map<string, M>();
  const entered = new Set<string>();
  const visit = async (name: string): Promise<void> => {
    if (entered.has(name)) return;
    entered.add(name);
    const found = await find(name);
    if (found === undefined) return;
    for (const needed of found.depends) await visit(needed);
    ordered.set(name, found);
  };
  for (const name of names) await visit(name);
  return [...ordered.values()];
}

/** The archive entries for these modules, with the indexes modprobe needs. */
export function moduleEntries(release: string, modules: readonly KernelModule[]): CpioEntry[] {
  const folder = `usr/lib/modules/${release}`;
  const byName = new Map(modules.map((module) => [module.name, module]));
  const dependencyLines = modules.map((module) => {
    const needed = allDependencies(module, byName).map((name) => `${name}.ko`);
    return `${module.name}.ko:${needed.map((file) => ` ${file}`).join("")}\n`;
  });
  const aliasLines = modules.flatMap((module) =>
    module.aliases.map((alias) => `alias ${alias} ${module.name}\n`),
  );
  return [
    ...modules.map(
      (module): CpioEntry => ({
        kind: "file",
        path: `${folder}/${module.name}.ko`,
        content: module.content,
        isExecutable: false,
      }),
    ),
    { kind: "file", path: `${folder}/modules.dep`, content: text(dependencyLines), isExecutable: false },
    { kind: "file", path: `${folder}/modules.alias`, content: text(aliasLines), isExecutable: false },
  ];
}

/** Whether a kernel's module folder holds a module of this name. */
export function hasModule(modulesFolder: string, name: string): boolean {
  return indexModules(modulesFolder).has(name);
}

function text(lines: readonly string[]): Uint8Array {
  return Buffer.from(lines.join(""));
}

/** modules.dep lists everything a module needs, the nearest first, since it is loaded from the end. */
function allDependencies(module: KernelModule, byName: ReadonlyMap<string, KernelModule>): string[] {
  const all = new Set<string>();
  const visit = (name: string): void => {
    for (const needed of byName.get(name)?.depends ?? []) {
      if (!byName.has(needed)) continue;
      // Seen before, it moves to the end: it has to be loaded before this user of it as well.
      all.delete(needed);
      all.add(needed);
      visit(needed);
    }
  };
  visit(module.name);
  return [...all];
}

const moduleFile = /^(.+)\.ko(\.xz|\.zst|\.gz)?$/;

function indexModules(modulesFolder: string): Map<string, string> {
  const files = new Map<string, string>();
  const walk = (folder: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) walk(path);
      const match = moduleFile.exec(entry.name);
      if (match !== null) files.set(match[1].replaceAll("-", "_"), path);
    }
  };
  const tree = join(modulesFolder, "kernel");
  if (existsSync(tree)) walk(tree);
  return files;
}

async function readModule(name: string, path: string, signal?: AbortSignal): Promise<KernelModule> {
  const content = await unpack(path, signal);
  const info = readModuleInfo(content);
  const hard = info.get("depends") ?? [];
  const soft = (info.get("softdep") ?? []).flatMap(softDependencies);
  return {
    name,
    content,
    depends: [...hard.flatMap((line) => line.split(",")), ...soft]
      .filter((needed) => needed !== "")
      .map((needed) => needed.replaceAll("-", "_")),
    aliases: info.get("alias") ?? [],
  };
}

/** `pre: a b post: c`: only the first kind must be there before. A name may also be an alias, which is skipped. */
function softDependencies(line: string): string[] {
  const match = /pre:\s*(.*?)\s*(?:post:|$)/.exec(line);
  return match === null ? [] : match[1].split(/\s+/);
}

async function unpack(path: string, signal?: AbortSignal): Promise<Uint8Array> {
  if (path.endsWith(".ko")) return readFileSync(path);
  if (path.endsWith(".gz")) return gunzipSync(readFileSync(path));
  const program = path.endsWith(".xz") ? "xz" : "zstd";
  const result = await runTool([program, "-dc", path], signal === undefined ? {} : { signal });
  if (result.status !== 0) {
    throw new BlkError("BLK_E_KERNEL", `${program} cannot unpack ${path}: ${result.stderr.trim()}`);
  }
  return result.stdout;
}

/** The `key=value` strings of a module's `.modinfo` section: a 64-bit little-endian ELF object. */
export function readModuleInfo(object: Uint8Array): Map<string, string[]> {
  const section = findSection(Buffer.from(object.buffer, object.byteOffset, object.length), ".modinfo");
  const info = new Map<string, string[]>();
  for (const entry of section.toString("latin1").split("\0")) {
    const equals = entry.indexOf("=");
    if (equals < 0) continue;
    const key = entry.slice(0, equals);
    info.set(key, [...(info.get(key) ?? []), entry.slice(equals + 1)]);
  }
  return info;
}

/** Offsets are those of Elf64_Ehdr and Elf64_Shdr in elf.h. */
function findSection(elf: Buffer, wanted: string): Buffer {
  if (elf.length < 64 || elf.readUInt32BE(0) !== 0x7f454c46) return Buffer.alloc(0);
  const headersOffset = Number(elf.readBigUInt64LE(0x28));
  const headerBytes = elf.readUInt16LE(0x3a);
  const headerCount = elf.readUInt16LE(0x3c);
  const section = (index: number): { name: number; content: Buffer } => {
    const at = headersOffset + index * headerBytes;
    const offset = Number(elf.readBigUInt64LE(at + 0x18));
    const length = Number(elf.readBigUInt64LE(at + 0x20));
    return { name: elf.readUInt32LE(at), content: elf.subarray(offset, offset + length) };
  };
  const names = section(elf.readUInt16LE(0x3e)).content;
  for (let index = 0; index < headerCount; index++) {
    const { name, content } = section(index);
    if (names.toString("latin1", name, names.indexOf(0, name)) === wanted) return content;
  }
  return Buffer.alloc(0);
}
