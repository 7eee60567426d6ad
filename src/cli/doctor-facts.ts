/**
 * What `doctor` finds out about this machine: facts, no judgement. Nothing is changed, loaded or installed.
 */
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { BlkError } from "../base/errors.js";
import { loadNative } from "../base/native.js";
import { missingPackages } from "../lab/packages.js";
import { Feature, type FeatureName } from "../ublk/abi.js";
import { UblkControl } from "../ublk/control.js";

/** A module that is loaded or built in, one that could be loaded, or neither. */
export type ModuleState = "present" | "loadable" | "missing";

export interface MachineFacts {
  platform: string;
  architecture: string;
  nodeVersion: string;
  kernelRelease: string;
  /** `ID` and `ID_LIKE` of os-release, such as "ubuntu debian". */
  distribution: string;
  isRoot: boolean;
  /** CAP_SYS_ADMIN in the first user namespace: what the kernel's NBD driver asks for. */
  mayAdminister: boolean;
  /** CAP_SYS_RESOURCE: what marking a thread as an I/O flusher takes. */
  mayUseResources: boolean;
  /** Null when it loads; otherwise why it does not. */
  addonError: string | null;
  nbd: ModuleState;
  ublk: ModuleState;
  /** What the loaded driver can do, by name; null while it is not loaded, or may not be asked. */
  ublkFeatures: readonly string[] | null;
  /** CAP_IPC_LOCK: what locking more memory than the limit takes. */
  mayLockMemory: boolean;
  /** Whether new device nodes appear in /dev by themselves. */
  hasDeviceFileSystem: boolean;
  hasUdev: boolean;
  /** 0 and 1 allow more memory than there is to be promised, 2 forbids it; null when unknown. */
  overcommit: number | null;
  /** Infinity when unlimited. */
  lockedMemoryBytes: number;
  openFiles: number;
  /** Of the processors; "none" leaves nothing to limit, null says that there is no such thing. */
  idleDriver: string | null;
  /** Whether it may be told to do without slow idle states. */
  mayLimitIdleStates: boolean;
  kvm: "usable" | "forbidden" | "missing";
  /** 0 for everybody, 1 for a group, 2 for nobody; null on kernels without the setting. */
  ioUringDisabled: number | null;
  missingLabPackages: string[];
  missingClientPackages: string[];
}

/** Numbers of capabilities, from linux/capability.h. */
const capability = { ipcLock: 14n, sysAdmin: 21n, sysResource: 24n };

export async function gatherFacts(): Promise<MachineFacts> {
  const isInitialUserNamespace = /^\s*0\s+0\s+4294967295\s*$/m.test(read("/proc/self/uid_map"));
  return {
    platform: process.platform,
    architecture: process.arch,
    nodeVersion: process.versions.node,
    kernelRelease: release(),
    distribution: distribution(),
    isRoot: process.geteuid?.() === 0,
    mayAdminister: isInitialUserNamespace && hasCapability(capability.sysAdmin),
    mayUseResources: isInitialUserNamespace && hasCapability(capability.sysResource),
    addonError: addonError(),
    nbd: moduleState("nbd"),
    ublk: moduleState("ublk_drv"),
    ublkFeatures: await ublkFeatures(),
    mayLockMemory: isInitialUserNamespace && hasCapability(capability.ipcLock),
    hasDeviceFileSystem: / - devtmpfs /.test(mountLine("/dev")),
    hasUdev: existsSync("/run/udev/control"),
    overcommit: number("/proc/sys/vm/overcommit_memory"),
    lockedMemoryBytes: limit("Max locked memory"),
    openFiles: limit("Max open files"),
    idleDriver: read("/sys/devices/system/cpu/cpuidle/current_driver").trim() || null,
    mayLimitIdleStates: mayOpen("/dev/cpu_dma_latency"),
    kvm: !existsSync("/dev/kvm") ? "missing" : mayOpen("/dev/kvm") ? "usable" : "forbidden",
    ioUringDisabled: number("/proc/sys/kernel/io_uring_disabled"),
    missingLabPackages: missingPackages(["vm"]),
    missingClientPackages: missingPackages(["clients"]),
  };
}

function distribution(): string {
  const text = read("/etc/os-release");
  const field = (name: string): string => new RegExp(`^${name}="?([^"\\n]*)`, "m").exec(text)?.[1] ?? "";
  return `${field("ID")} ${field("ID_LIKE")}`.trim();
}

function hasCapability(bit: bigint): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(read("/proc/self/status"))?.[1];
  return effective !== undefined && ((BigInt(`0x${effective}`) >> bit) & 1n) === 1n;
}

function addonError(): string | null {
  try {
    loadNative();
    return null;
  } catch (error) {
    return error instanceof BlkError ? error.message : String(error);
  }
}

function moduleState(name: string): ModuleState {
  if (existsSync(`/sys/module/${name}`)) return "present";
  const folder = `/lib/modules/${release()}`;
  // A path on a line, or in a line before the colon; dashes and underscores are the same to the kernel.
  const file = new RegExp(`(^|/)${name.replaceAll("_", "[-_]")}\\.ko(\\.\\w+)?(:|$)`, "m");
  if (file.test(read(join(folder, "modules.builtin")))) return "present";
  return file.test(read(join(folder, "modules.dep"))) ? "loadable" : "missing";
}

/** The driver is asked only where it is there already: opening it would load its module. */
async function ublkFeatures(): Promise<string[] | null> {
  if (!existsSync("/dev/ublk-control")) return null;
  try {
    const control = await UblkControl.open();
    control.close();
    return Object.keys(Feature).filter((name) => control.has(name as FeatureName));
  } catch (error) {
    if (error instanceof BlkError) return null;
    throw error;
  }
}

function mountLine(place: string): string {
  const lines = read("/proc/self/mountinfo").split("\n");
  return lines.findLast((line) => line.split(" ")[4] === place) ?? "";
}

/** The soft limit of this name in /proc/self/limits; infinity where there is none. */
function limit(name: string): number {
  const value = new RegExp(`^${name}\\s+(\\S+)`, "m").exec(read("/proc/self/limits"))?.[1];
  return value === undefined || value === "unlimited" ? Number.POSITIVE_INFINITY : Number(value);
}

function number(path: string): number | null {
  const text = read(path).trim();
  return text === "" ? null : Number(text);
}

function mayOpen(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
