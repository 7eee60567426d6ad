/** `blkforge serve`: serve devices over NBD until interrupted. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command, Option } from "commander";
import { BlkError, ExitCode } from "../base/errors.js";
import type { DeviceHandle } from "../device/host.js";
import type { DeviceDescription, DeviceSpec } from "../device/spec.js";
import { defaultLimits } from "../nbd/limits.js";
import { parseNbdUri } from "../nbd/uri.js";
import { inheritedAddresses } from "./activation.js";
import { formatCounters } from "./counters-table.js";
import {
  addDeviceOptions,
  collect,
  type DeviceChoice,
  type DeviceOptions,
  deviceName,
  logLevels,
  readCount,
  readServerSpec,
  type WantedDevice,
} from "./serve-options.js";
import { onStopSignal, type Serving, startServing } from "./serving.js";
import { subtractFloor } from "./subtract-floor.js";

interface ServeOptions extends DeviceOptions {
  listen: string[];
  config?: string;
  json?: boolean;
}

export const command = addDeviceOptions(
  new Command("serve")
    .description(
      "Serve devices over NBD until interrupted.\n\n" +
        "Prints each URI on a line of stdout, then `ready` when clients can connect. Logs go to stderr.\n" +
        "SIGINT or SIGTERM finishes what is in flight, closes and exits 0; a second one ends at once.",
    )
    .argument(
      "[device...]",
      "a profile's name (see blkforge profiles) or YAML file; several as NAME=PROFILE, each an export of its name",
    )
    .option(
      "--config <file>",
      "serve the devices this YAML file lists; what is said here holds for all of them",
    )
    .option(
      "--listen <uri>",
      "NBD URI to listen on (nbd://, nbd+unix://, nbd+vsock://), or fd:3/name for an inherited socket; repeat for several " +
        "(default: what systemd's socket activation hands over, else a private Unix socket)",
      collect,
      [],
    ),
)
  .addOption(
    new Option(
      "--tls <mode>",
      "TLS: off, on demand, or a must (default: require with files for it, else off)",
    ).choices(["off", "allow", "require"]),
  )
  .option("--tls-cert <file>", "the server's certificate (PEM)")
  .option("--tls-key <file>", "the key of that certificate (PEM)")
  .option("--tls-ca <file>", "clients must show a certificate signed by this authority (PEM)")
  .option("--tls-psk <file>", "pre-shared keys: lines of name:key in hexadecimal, as psktool writes them")
  .option(
    "--max-connections <n>",
    `clients connected at once, over all devices (default: ${defaultLimits.connections})`,
    readCount("--max-connections", 65536),
  )
  .option(
    "--threads <n>",
    "device threads at most; devices at one address share one (default: the number of processors)",
    readCount("--threads", 256),
  )
  .option("--json", "print one JSON object instead of lines")
  .addHelpText(
    "after",
    `
Examples:
  blkforge serve hdd-7200
  blkforge serve hdd-7200 --size 10G --listen nbd://127.0.0.1:10809/disk
  blkforge serve fixed --set latency.read=100us --set latency.flush=5ms \\
      --listen nbd+unix:///disk?socket=/tmp/disk.sock --file disk.img
  blkforge serve hdd-7200 --listen nbd://0.0.0.0/disk --tls-cert cert.pem --tls-key key.pem
  blkforge serve hdd-7200 --api unix:/tmp/api.sock     # then: blkforge fault add ... --api unix:/tmp/api.sock
  blkforge serve a=hdd-7200 b=hdd-7200 log=instant --listen nbd://127.0.0.1     # nbd://127.0.0.1/a, .../b, .../log
  blkforge serve --config devices.yaml

A file of devices, each with a name, a profile and what else the options above say (docs/nbd.md):
  listen: nbd://127.0.0.1
  devices:
    - { name: log, profile: instant, size: 1G }
    - name: data
      profile: hdd-7200
      file: data.img
      set: { rpm: 5400 }
      faults: [{ kind: error, trigger: { ops: [flush], nth: 3 } }]

Attach it to the kernel: nbd-client -u /tmp/disk.sock -N disk /dev/nbd0`,
  )
  .action(serve);

async function serve(devices: string[], options: ServeOptions): Promise<void> {
  const { wanted, seed, listen } = await readWanted(devices, options);
  const spec = readServerSpec(wanted, { ...options, ...(seed === undefined ? {} : { seed }) });
  subtractFloor(spec, options.subtractFloor, "nbd-user");
  let directory: string | null = null;
  try {
    if (listen.length > 0) giveAddresses(spec.devices, listen);
    else if (spec.devices.some((device) => device.listen.length === 0)) {
      directory = mkdtempSync(join(process.env.XDG_RUNTIME_DIR ?? tmpdir(), "blkforge-"));
      givePrivateSockets(spec.devices, directory);
    }
    const stopped = new Promise<void>((resolve) => onStopSignal(() => resolve()));
    const serving = await startServing(spec, options);
    announce(serving, options);
    const deaths = watchDeaths(serving);
    try {
      await Promise.race([stopped, serving.ended]);
    } finally {
      await serving.close();
    }
    if (options.stats) process.stderr.write(serving.devices.map(finalStats).join("\n"));
    // Whoever has to know that a device was lost looks at the status.
    if (deaths.length > 0) throw deaths[0];
    process.exitCode = ExitCode.ok;
  } finally {
    if (directory !== null) rmSync(directory, { recursive: true, force: true });
  }
}

interface Wanted {
  wanted: WantedDevice[];
  seed: number | undefined;
  /** Addresses of the devices that have none of their own. */
  listen: string[];
}

/** The devices of the file, then those of the command line. */
async function readWanted(devices: readonly string[], options: ServeOptions): Promise<Wanted> {
  const config =
    options.config === undefined
      ? { devices: [], listen: [], seed: undefined }
      : (await import("./serve-config.js")).readServeConfig(options.config);
  const given = config.devices.length + devices.length;
  if (given === 0) {
    throw new BlkError(
      "BLK_E_USAGE",
      "no device is given",
      "Name a profile, such as hdd-7200, or give --config FILE",
    );
  }
  for (const field of ["name", "file", "record"] as const) {
    if (given > 1 && options[field] !== undefined) {
      throw new BlkError(
        "BLK_E_USAGE",
        `--${field} ${options[field]} cannot be that of ${given} devices`,
        field === "name" ? "Write NAME=PROFILE" : "Say it of each device in a file, and give --config FILE",
      );
    }
  }
  const wanted = [
    ...config.devices.map((device) => ({ ...device, choice: overridden(device.choice, options) })),
    ...devices.map((text): WantedDevice => {
      const [, name, profile] = /^([^=/]+)=(.+)$/.exec(text) ?? [];
      const isNamed = name !== undefined && deviceName.test(name);
      return isNamed
        ? { profile, choice: { ...overridden({}, options), name }, listen: [] }
        : { profile: text, choice: overridden({}, options), listen: [] };
    }),
  ];
  const listen = options.listen.length > 0 ? options.listen : config.listen;
  return {
    wanted,
    seed: options.seed ?? config.seed,
    listen: listen.length > 0 ? listen : inheritedAddresses(),
  };
}

/** What the command line says goes before what the file says. */
function overridden(choice: DeviceChoice, options: ServeOptions): DeviceChoice {
  const fields = [
    "name",
    "size",
    "file",
    "memoryLimit",
    "preallocate",
    "readOnly",
    "strictBlocks",
    "record",
    "timing",
  ] as const;
  const said = fields.filter((field) => options[field] !== undefined).map((field) => [field, options[field]]);
  // Said on the command line, it holds for all; unsaid, it is the file's to say.
  const awake = options.awake === false ? { awake: false } : {};
  return { ...choice, ...Object.fromEntries(said), ...awake, set: [...(choice.set ?? []), ...options.set] };
}

/**
 * Gives the server's addresses to the devices that have none of their own: all of them, or the one that an address names. A lone
 * device takes any name.
 */
function giveAddresses(devices: readonly DeviceSpec[], listen: readonly string[]): void {
  const without = devices.filter((device) => device.listen.length === 0);
  const names = without.map(({ name }) => name).join(", ");
  for (const text of listen) {
    const { exportName } = parseNbdUri(text);
    const isForAll = exportName === "" || devices.length === 1;
    const meant = isForAll ? without : without.filter(({ name }) => name === exportName);
    if (meant.length === 0) {
      throw new BlkError(
        "BLK_E_NBD_URI",
        `"${text}" is for no device: each has an address of its own, or another name`,
        without.length === 0
          ? "Leave it out"
          : `Leave the name out to export all, or give one of these: ${names}`,
      );
    }
    for (const device of meant) device.listen.push(text);
  }
  const lost = without.find((device) => device.listen.length === 0);
  if (lost !== undefined) {
    throw new BlkError(
      "BLK_E_USAGE",
      `device "${lost.name}" has no address`,
      "Give a --listen with its name, or one without a name for all",
    );
  }
}

/** A socket for each, so that they need not share a thread. */
function givePrivateSockets(devices: readonly DeviceSpec[], directory: string): void {
  for (const [index, device] of devices.entries()) {
    if (device.listen.length > 0) continue;
    const socket = devices.length === 1 ? "nbd.sock" : `nbd-${index}.sock`;
    device.listen.push(`nbd+unix:///?socket=${join(directory, socket)}`);
  }
}

function announce({ devices }: Serving, options: ServeOptions): void {
  const descriptions = devices.map((device) => device.description);
  if (!options.json) {
    if (isHeard("warn", options.logLevel)) process.stderr.write(timingText(descriptions));
    process.stdout.write(`${descriptions.flatMap(({ uris }) => uris).join("\n")}\nready\n`);
    return;
  }
  const api = options.api === undefined ? {} : { api: options.api };
  const first = descriptions.length === 1 ? descriptions[0] : {};
  process.stdout.write(
    `${JSON.stringify({ schemaVersion: 1, ready: true, ...first, ...api, devices: descriptions, pid: process.pid })}\n`,
  );
}

/** How replies are waited for, and why so: what figures of this server are worth depends on it. */
function timingText(descriptions: readonly DeviceDescription[]): string {
  const modes = new Map<string, string[]>();
  for (const { name, timing, timingReason, idleLimitUs } of descriptions) {
    const idle =
      idleLimitUs === null ? "" : ", processors without slow idle states while requests are under way";
    const mode = `timing ${timing} (${timingReason})${idle}`;
    modes.set(mode, [...(modes.get(mode) ?? []), name]);
  }
  return [...modes]
    .map(([mode, names]) => `blkforge: ${mode}${modes.size === 1 ? "" : `: ${names.join(", ")}`}\n`)
    .join("");
}

/** Whether a message of this level is logged at the level chosen. */
function isHeard(level: string, chosen: string): boolean {
  return logLevels.indexOf(level) >= logLevels.indexOf(chosen);
}

/** Says when a thread has died while others go on; the list grows with each. */
function watchDeaths({ devices }: Serving): BlkError[] {
  const deaths: BlkError[] = [];
  for (const ended of new Set(devices.map((device) => device.ended))) {
    ended.catch((death: BlkError) => {
      deaths.push(death);
      const left = devices.filter(({ description }) => description.state === "serving").length;
      if (left > 0)
        process.stderr.write(`blkforge: ${death.toLine()}; ${left} of ${devices.length} devices go on\n`);
    });
  }
  return deaths;
}

function finalStats(device: DeviceHandle, _: number, all: readonly DeviceHandle[]): string {
  const { description } = device;
  return `${all.length === 1 ? "" : `${description.name}:\n`}${formatCounters(device.counters(), description)}`;
}
