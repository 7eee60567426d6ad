/** `blkforge serve`: serve a device over NBD until interrupted. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command, Option } from "commander";
import { ExitCode } from "../base/errors.js";
import { inheritedAddresses } from "./activation.js";
import { formatCounters } from "./counters-table.js";
import {
  addDeviceOptions,
  collect,
  type DeviceOptions,
  readDeviceSpec,
  readServerSpec,
} from "./serve-options.js";
import { onStopSignal, startServing } from "./serving.js";

interface ServeOptions extends DeviceOptions {
  listen: string[];
  json?: boolean;
}

export const command = addDeviceOptions(
  new Command("serve")
    .description(
      "Serve a device over NBD until interrupted.\n\n" +
        "Prints each URI on a line of stdout, then `ready` when clients can connect. Logs go to stderr.\n" +
        "SIGINT or SIGTERM finishes what is in flight, closes and exits 0; a second one ends at once.",
    )
    .argument("<profile>", "name of a profile (see blkforge profiles), or a YAML file")
    .option(
      "--listen <uri>",
      "NBD URI to listen on, or fd:3/name for an inherited socket; repeat for several " +
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

Attach it to the kernel: nbd-client -u /tmp/disk.sock -N disk /dev/nbd0`,
  )
  .action(serve);

async function serve(profile: string, options: ServeOptions): Promise<void> {
  const addresses = options.listen.length > 0 ? options.listen : inheritedAddresses();
  const directory = addresses.length === 0 ? privateDirectory() : null;
  try {
    const listen = directory === null ? addresses : [`nbd+unix:///?socket=${join(directory, "nbd.sock")}`];
    const spec = readDeviceSpec(profile, options, listen);
    const stopped = new Promise<void>((resolve) => onStopSignal(() => resolve()));
    const serving = await startServing(readServerSpec([spec], options), options);
    const [device] = serving.devices;
    const { description } = device;
    if (options.json) {
      const { uris, ...rest } = description;
      const api = options.api === undefined ? {} : { api: options.api };
      process.stdout.write(
        `${JSON.stringify({ schemaVersion: 1, ready: true, uris, ...api, ...rest, pid: process.pid })}\n`,
      );
    } else {
      process.stdout.write(`${description.uris.join("\n")}\nready\n`);
    }
    try {
      await Promise.race([stopped, serving.ended]);
    } finally {
      await serving.close();
    }
    if (options.stats) process.stderr.write(formatCounters(device.counters(), device.description.seed));
    process.exitCode = ExitCode.ok;
  } finally {
    if (directory !== null) rmSync(directory, { recursive: true, force: true });
  }
}

/** A directory only this user can enter, for the socket nobody named. */
function privateDirectory(): string {
  return mkdtempSync(join(process.env.XDG_RUNTIME_DIR ?? tmpdir(), "blkforge-"));
}
