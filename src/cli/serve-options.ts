/**
 * What `serve`, `run` and `attach` share: the options that describe a device, and their reading into specs.
 */
import { availableParallelism, totalmem } from "node:os";
import { type Command, Option } from "commander";
import { BlkError } from "../base/errors.js";
import { parseSize } from "../base/units.js";
import { defaultTiming, type Timing, timings } from "../device/live-clock.js";
import { deviceSeed } from "../device/seed.js";
import type { DeviceSpec, ServerSpec } from "../device/spec.js";
import type { TlsFiles, TlsMode } from "../nbd/tls.js";
import { loadProfile } from "../profile/load.js";

export interface DeviceOptions {
  name?: string;
  size?: string;
  file?: string;
  memoryLimit?: string;
  readOnly?: boolean;
  strictBlocks?: boolean;
  tls?: TlsMode;
  tlsCert?: string;
  tlsKey?: string;
  tlsCa?: string;
  tlsPsk?: string;
  seed: number;
  set: string[];
  logLevel: string;
  api?: string;
  stats?: boolean;
  record?: string;
  timing: Timing | "auto";
}

/** A run repeats unless told otherwise: the same command line gives the same decisions. */
export const defaultSeed = 1;

export const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"];

export function addDeviceOptions(command: Command): Command {
  return command
    .option("--size <size>", "capacity: 512, 10M, 2G, 1T (default: the profile's, or the file's)")
    .option("--file <path>", "keep the bytes in this raw image, created sparse if missing (default: memory)")
    .option(
      "--memory-limit <size>",
      "memory the bytes may take; writes beyond fail with ENOSPC (default: 70 % of all)",
    )
    .option("--read-only", "refuse writes")
    .option("--strict-blocks", "refuse requests not aligned to the profile's logical block")
    .option("--seed <n>", "seed of every random decision", readSeed, defaultSeed)
    .option("--set <path=value>", "change a field of the profile, such as latency.read=100us", collect, [])
    .option("--name <name>", "what the device is called (default: the profile's name)")
    .option("--api <unix:path>", "serve the control API on this Unix socket")
    .option("--record <file>", "record arrivals and completions, for blkforge simulate --trace")
    .option("--stats", "print counters, latency and lateness at exit")
    .addOption(
      new Option("--timing <mode>", "how to wait until a reply is due; auto: hybrid, with a single CPU sleep")
        .choices(["auto", ...timings])
        .default("auto"),
    )
    .addOption(
      new Option("--log-level <level>", "how much to log to stderr").choices(logLevels).default("warn"),
    );
}

/** A device that is written full ends in an error its client sees, rather than in the hands of the kernel's OOM killer. */
function defaultMemoryLimitBytes(): number {
  // Zero where no control group limits us.
  const constrainedBytes = process.constrainedMemory() || Number.POSITIVE_INFINITY;
  return Math.floor(0.7 * Math.min(totalmem(), constrainedBytes));
}

/** Where TLS comes from; what is given for it without a mode is meant to be used. */
function readTlsFiles(options: DeviceOptions): TlsFiles {
  const { tlsCert = null, tlsKey = null, tlsCa = null, tlsPsk = null } = options;
  const isGiven = [tlsCert, tlsKey, tlsCa, tlsPsk].some((path) => path !== null);
  return {
    mode: options.tls ?? (isGiven ? "require" : "off"),
    certificate: tlsCert,
    key: tlsKey,
    authority: tlsCa,
    presharedKeys: tlsPsk,
  };
}

/** Collects a repeatable option. */
export function collect(value: string, earlier: string[]): string[] {
  return [...earlier, value];
}

export function readSeed(text: string): number {
  const seed = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(seed)) {
    throw new BlkError(
      "BLK_E_USAGE",
      `--seed ${text} is not a seed`,
      "Give a whole number from 0 to 2^53 - 1",
    );
  }
  return seed;
}

/** @throws BlkError for a profile, setting, size or name that is not right; nothing has been started then. */
export function readDeviceSpec(profileName: string, options: DeviceOptions, listen: string[]): DeviceSpec {
  const profile = loadProfile(profileName, {
    settings: options.set,
    ...(options.size === undefined ? {} : { size: options.size }),
  });
  const name = options.name ?? profile.name;
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(name)) {
    throw new BlkError(
      "BLK_E_USAGE",
      `"${name}" cannot name a device`,
      "Use up to 64 letters, digits, dots, dashes and underscores with --name",
    );
  }
  return {
    name,
    profile,
    isSizeGiven: options.size !== undefined,
    file: options.file ?? null,
    memoryLimitBytes:
      options.memoryLimit === undefined ? defaultMemoryLimitBytes() : parseSize(options.memoryLimit),
    isReadOnly: options.readOnly ?? false,
    isBlockSizeEnforced: options.strictBlocks ?? false,
    seed: deviceSeed(options.seed, name, profile.name),
    settings: options.set,
    record: options.record ?? null,
    faults: [],
    listen,
    timing: options.timing === "auto" ? defaultTiming(availableParallelism()) : options.timing,
  };
}

/** The server of these devices. */
export function readServerSpec(devices: readonly DeviceSpec[], options: DeviceOptions): ServerSpec {
  return {
    devices,
    tls: readTlsFiles(options),
    maximumThreads: availableParallelism(),
    logLevel: options.logLevel,
  };
}
