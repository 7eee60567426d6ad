/**
 * What `serve`, `run` and `attach` share: the options that describe a device, and their reading into specs.
 */
import { availableParallelism, totalmem } from "node:os";
import { type Command, Option } from "commander";
import { BlkError } from "../base/errors.js";
import { parseSize } from "../base/units.js";
import { bestIdleLimitUs } from "../device/idle-states.js";
import { defaultTiming, type Timing, timings } from "../device/live-clock.js";
import { deviceSeed } from "../device/seed.js";
import type { DeviceSpec, ServerSpec } from "../device/spec.js";
import type { FaultSpec } from "../fault/set.js";
import { defaultLimits } from "../nbd/limits.js";
import type { TlsFiles, TlsMode } from "../nbd/tls.js";
import { loadProfile, type Profile } from "../profile/load.js";

/** What may be said of one device, on the command line or in a file of devices. What is missing has its default. */
export interface DeviceChoice {
  name?: string;
  size?: string;
  file?: string;
  memoryLimit?: string;
  preallocate?: boolean;
  readOnly?: boolean;
  strictBlocks?: boolean;
  /** `path=value` */
  set?: string[];
  record?: string;
  timing?: Timing | "auto";
  awake?: boolean;
}

export interface DeviceOptions extends DeviceChoice {
  seed?: number;
  set: string[];
  logLevel: string;
  api?: string;
  stats?: boolean;
  subtractFloor?: string;
  maxConnections?: number;
  threads?: number;
  tls?: TlsMode;
  tlsCert?: string;
  tlsKey?: string;
  tlsCa?: string;
  tlsPsk?: string;
}

/** One device of a server to be. */
export interface WantedDevice {
  /** Name or path of its profile. */
  profile: string;
  choice: DeviceChoice;
  /** A seed of its own; otherwise it is made from the server's. */
  seed?: number | undefined;
  faults?: FaultSpec[];
  /** NBD URIs to listen on. */
  listen: string[];
}

/** A run repeats unless told otherwise: the same command line gives the same decisions. */
export const defaultSeed = 1;

/** What a device may be called: it stands in URIs and in the paths of the API. */
export const deviceName = /^[A-Za-z0-9._-]{1,64}$/;

export const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"];

export function addDeviceOptions(command: Command): Command {
  return command
    .option("--size <size>", "capacity: 512, 10M, 2G, 1T (default: the profile's, or the file's)")
    .option("--file <path>", "keep the bytes in this raw image, created sparse if missing (default: memory)")
    .option(
      "--memory-limit <size>",
      "memory the bytes may take; writes beyond fail with ENOSPC (default: 70 % of all, in equal shares)",
    )
    .option(
      "--preallocate",
      "take all of its memory at start, so that no write waits for the system to find a page (8 us each on a VM, say)",
    )
    .option("--read-only", "refuse writes")
    .option("--strict-blocks", "refuse requests not aligned to the profile's logical block")
    .option("--seed <n>", `seed of every random decision (default: ${defaultSeed})`, readSeed)
    .option("--set <path=value>", "change a field of the profile, such as latency.read=100us", collect, [])
    .option(
      "--subtract-floor <file>",
      "take what the transport takes by itself off the model's latencies, as calibrate-floor measured it",
    )
    .option("--name <name>", "what the device is called (default: the profile's name)")
    .option("--api <unix:path>", "serve the control API on this Unix socket")
    .option("--record <file>", "record arrivals and completions, for blkforge simulate --trace")
    .option("--stats", "print counters, latency and lateness at exit")
    .addOption(
      new Option(
        "--timing <mode>",
        "how to wait until a reply is due (default: auto, which is hybrid, with a single CPU sleep)",
      ).choices(["auto", ...timings]),
    )
    .option(
      "--no-awake",
      "leave the idle states of the processors alone (default: without slow ones while requests are under way, where that can be had)",
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

/** A positive number of things, of option `flag`. */
export function readCount(flag: string, maximum: number): (text: string) => number {
  return (text) => {
    const count = Number(text);
    if (/^\d+$/.test(text) && count >= 1 && count <= maximum) return count;
    throw new BlkError("BLK_E_USAGE", `${flag} ${text} is not possible`, `Give 1 to ${maximum}`);
  };
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
export function readServerSpec(wanted: readonly WantedDevice[], options: DeviceOptions): ServerSpec {
  const inMemory = wanted.filter(({ choice }) => choice.file === undefined).length;
  const load = profileLoader();
  const devices = wanted.map((device) =>
    readDevice(device, load, {
      seed: options.seed ?? defaultSeed,
      memoryLimitBytes: Math.floor(defaultMemoryLimitBytes() / Math.max(1, inMemory)),
    }),
  );
  for (const [index, { name }] of devices.entries()) {
    if (devices.findIndex((device) => device.name === name) === index) continue;
    throw new BlkError(
      "BLK_E_USAGE",
      `two devices are called "${name}"`,
      `Give each a name of its own: ${name}-1=${wanted[index].profile} ${name}-2=${wanted[index].profile}`,
    );
  }
  return {
    devices,
    tls: readTlsFiles(options),
    maximumThreads: options.threads ?? availableParallelism(),
    maximumConnections: options.maxConnections ?? defaultLimits.connections,
    logLevel: options.logLevel,
  };
}

/** Loads each profile once, however many devices of one server share it. */
function profileLoader(): typeof loadProfile {
  const loaded = new Map<string, Profile>();
  return (nameOrPath, choice = {}) => {
    const key = JSON.stringify([nameOrPath, choice.settings, choice.size]);
    const profile = loaded.get(key) ?? loadProfile(nameOrPath, choice);
    loaded.set(key, profile);
    return profile;
  };
}

function readDevice(
  { profile: nameOrPath, choice, seed, faults = [], listen }: WantedDevice,
  load: typeof loadProfile,
  server: { seed: number; memoryLimitBytes: number },
): DeviceSpec {
  const settings = choice.set ?? [];
  const profile = load(nameOrPath, { settings, size: choice.size });
  const name = choice.name ?? profile.name;
  if (!deviceName.test(name)) {
    throw new BlkError(
      "BLK_E_USAGE",
      `"${name}" cannot name a device`,
      "Use up to 64 letters, digits, dots, dashes and underscores for a name",
    );
  }
  if (choice.preallocate === true && choice.file !== undefined) {
    throw new BlkError(
      "BLK_E_USAGE",
      `device "${name}" is to be preallocated, but keeps its bytes in ${choice.file}`,
      "Leave out one of preallocate and file; fallocate -l SIZE FILE takes the space of a file",
    );
  }
  const { memoryLimit, timing: asked = "auto", awake = true } = choice;
  const processors = availableParallelism();
  const timing = asked === "auto" ? defaultTiming(processors) : asked;
  // Who sleeps until a reply is due has chosen thrift. Without a delay nobody sleeps while one passes.
  const staysAwake = timing !== "sleep" && awake;
  return {
    name,
    profile,
    isSizeGiven: choice.size !== undefined,
    file: choice.file ?? null,
    memoryLimitBytes: memoryLimit === undefined ? server.memoryLimitBytes : parseSize(memoryLimit),
    isPreallocated: choice.preallocate ?? false,
    isReadOnly: choice.readOnly ?? false,
    isBlockSizeEnforced: choice.strictBlocks ?? false,
    seed: seed ?? deviceSeed(server.seed, name, profile.name),
    settings,
    record: choice.record ?? null,
    faults,
    listen,
    timing,
    idleLimitUs: staysAwake ? bestIdleLimitUs() : null,
    timingReason:
      asked === "auto" ? `${processors} ${processors === 1 ? "processor" : "processors"}` : "asked for",
  };
}
