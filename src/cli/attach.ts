/** `blkforge attach`: serve a device and attach it to this machine's kernel, until interrupted. */
import { Command, InvalidArgumentError, Option } from "commander";
import { pino } from "pino";
import { BlkError, ExitCode } from "../base/errors.js";
import { parseSize } from "../base/units.js";
import type { DeviceHandle } from "../device/host.js";
import { KernelAttachment } from "../nbd/kernel/attachment.js";
import { readDeviceIndex } from "../nbd/kernel/block-device.js";
import { attachUblk, readUblkOptions, type UblkCommandOptions } from "./attach-ublk.js";
import { formatCounters } from "./counters-table.js";
import { addDeviceOptions, collect, type DeviceOptions, readServerSpec } from "./serve-options.js";
import { type Serving, startServing } from "./serving.js";

interface CommandOptions extends DeviceOptions, UblkCommandOptions {
  ublk?: string | boolean;
  listen: string[];
  nbd: string;
  connections: number;
  blockSize?: number;
  scheduler?: string;
  readAhead?: string;
  timeout: number;
  deadTimeout: number;
  force?: boolean;
  json?: boolean;
}

/** A device of this machine's kernel, whichever driver carries it. */
export interface Attached {
  /** Such as "/dev/nbd0". */
  readonly path: string;
  /** Resolves when somebody else has detached it; rejects when it can be served no longer. */
  readonly ended: Promise<void>;
  resize(sizeBytes: number): Promise<void>;
  /** Resolves to who still holds it. @throws BlkError BLK_E_DEVICE_BUSY: it stays attached */
  detach(isForced: boolean): Promise<string[]>;
  /** Lets go of a device that somebody else has detached. */
  close(): Promise<void>;
}

/** Block sizes the driver accepts where a page has 4 KiB. */
const kernelBlockSizes = [512, 1024, 2048, 4096];
/** Each connection is a hardware queue of 128 requests; the kernel uses no more of them than there are CPUs. */
const maximumConnections = 16;
/** The kernel counts timeouts in 32-bit ticks. */
const maximumSeconds = 1_000_000;

export const command = addDeviceOptions(
  new Command("attach")
    .description(
      "Serve a device and attach it to this machine's kernel: as /dev/nbdN, or with --ublk as /dev/ublkbN. Needs root,\n" +
        "and the kernel module nbd or ublk_drv.\n\n" +
        "Prints the device's path, then `ready` when it can be used. SIGINT or SIGTERM detaches it and exits 0, unless\n" +
        "something still holds it: then it says what, and goes on serving; a second one detaches it all the same.",
    )
    .argument("<profile>", "name of a profile (see blkforge profiles), or a YAML file")
    .option("--ublk [device]", "attach through ublk: /dev/ublkbN, or any free one")
    .option(
      "--queues <n>",
      "ublk: hardware queues, each with a thread; up to the number of CPUs",
      readCount,
      1,
    )
    .option("--depth <n>", "ublk: requests in flight per queue, up to 4096", readCount, 128)
    .option("--max-io <size>", "ublk: largest request, 4K to 32M", "512K")
    .addOption(
      new Option("--copy <way>", "ublk: who moves the bytes; user: once, by this process; kernel: twice")
        .choices(["user", "kernel"])
        .default("user"),
    )
    .option("--no-partition-scan", "ublk: do not look for partitions (Linux 7.0)")
    .option("--listen <uri>", "serve the same device over NBD too; repeat for several", collect, [])
    .option("--nbd <device>", "/dev/nbdN, or auto for any free one", "auto")
    .option(
      "--connections <n>",
      "connections to the kernel: hardware queues, up to the number of CPUs",
      readCount,
      1,
    )
    .option("--block-size <bytes>", "logical block size (default: the profile's)", readCount)
    .option(
      "--scheduler <name>",
      "I/O scheduler: none, mq-deadline, bfq, kyber (default: the kernel's choice)",
    )
    .option("--read-ahead <size>", "read-ahead of the kernel, such as 128K (default: the kernel's choice)")
    .option(
      "--timeout <seconds>",
      "give a connection up that does not answer for so long, and send its requests again; 0: never",
      readCount,
      0,
    )
    .option(
      "--dead-timeout <seconds>",
      "how long requests wait for a lost connection to come back",
      readCount,
      10,
    )
    .option("--force", "detach without asking who holds the device"),
)
  .option("--json", "print one JSON object instead of lines")
  .addHelpText(
    "after",
    `
Examples:
  sudo blkforge attach hdd-7200 --size 10G
  sudo blkforge attach fixed --set latency=1ms --nbd /dev/nbd3 --connections 4 --scheduler none
  sudo blkforge attach hdd-7200 --ublk --queues 4
  sudo blkforge attach instant --size 1G --api unix:/run/blkforge.api   # then: blkforge resize 2G --api ...

docs/attach.md tells what timeouts do to writes. No root, or no nbd module? blkforge lab exec needs neither.`,
  )
  .action(attach);

async function attach(profile: string, options: CommandOptions): Promise<void> {
  const server = readServerSpec([{ profile, choice: options, listen: options.listen }], options);
  const [spec] = server.devices;
  const overUblk = options.ublk === undefined ? null : readUblkOptions(options.ublk, options, spec);
  const overNbd = readAttachOptions(options, spec.profile);
  if (overUblk !== null) spec.requestCapacity = 2 * overUblk.queues * overUblk.depth;
  const signals = new Signals();
  let attachment: Attached | null = null;
  const serving = await startServing(server, {
    api: options.api,
    onResized: async (sizeBytes) => attachment?.resize(sizeBytes),
  });
  const [device] = serving.devices;
  try {
    attachment =
      overUblk === null
        ? await attachNbd(device, overNbd, options.logLevel)
        : await attachUblk(device, overUblk);
    announce(attachment, device, options);
    await serveUntilDetached(attachment, serving, signals, options.force ?? false);
  } finally {
    signals.close();
    await serving.close();
  }
  if (options.stats) process.stderr.write(formatCounters(device.counters(), device.description.seed));
  process.exitCode = ExitCode.ok;
}

async function attachNbd(
  device: DeviceHandle,
  options: ReturnType<typeof readAttachOptions>,
  level: string,
): Promise<Attached> {
  const { name } = device.description;
  const log = pino({ level, base: { device: name } }, pino.destination({ dest: 2, sync: true }));
  return KernelAttachment.create(device.kernelLinks, options, log);
}

function announce({ path }: Attached, device: DeviceHandle, options: CommandOptions): void {
  const { uris, ...description } = device.description;
  if (options.json) {
    const { connections, queues, depth, api } = options;
    const more = {
      ...(options.ublk === undefined ? { connections } : { queues, depth }),
      ...(uris.length === 0 ? {} : { uris }),
      ...(api === undefined ? {} : { api }),
      pid: process.pid,
    };
    process.stdout.write(
      `${JSON.stringify({ schemaVersion: 1, ready: true, path, ...description, ...more })}\n`,
    );
  } else {
    process.stdout.write(`${[path, ...uris, "ready"].join("\n")}\n`);
  }
}

async function serveUntilDetached(
  attachment: Attached,
  { ended }: Serving,
  signals: Signals,
  isForced: boolean,
): Promise<void> {
  try {
    for (let asked = 0; ; asked++) {
      const event = await Promise.race([
        signals.next().then(() => "signal" as const),
        attachment.ended.then(() => "detached" as const),
        ended.then(() => "detached" as const),
      ]);
      if (event === "detached") {
        await attachment.close();
        return;
      }
      try {
        const holders = await attachment.detach(isForced || asked > 0);
        if (holders.length > 0) say(`${attachment.path} is detached, and was still ${holders.join(", ")}`);
        return;
      } catch (error) {
        if (!(error instanceof BlkError && error.code === "BLK_E_DEVICE_BUSY")) throw error;
        say(
          `${error.message}; it stays attached. Give it up and interrupt again, or interrupt again to pull it`,
        );
      }
    }
  } catch (error) {
    // Whatever went wrong: a device nobody serves must not stay, or its users would wait for it.
    await attachment.detach(true).catch(() => {});
    throw error;
  }
}

function say(text: string): void {
  process.stderr.write(`blkforge: ${text}\n`);
}

function readAttachOptions(
  options: CommandOptions,
  profile: { logicalBlockBytes: number; isRotational: boolean },
) {
  const refuse = (message: string, hint: string): never => {
    throw new BlkError("BLK_E_USAGE", message, hint);
  };
  const { connections, timeout, deadTimeout } = options;
  const blockSizeBytes = options.blockSize ?? profile.logicalBlockBytes;
  if (connections < 1 || connections > maximumConnections) {
    refuse(`--connections ${connections} is not possible`, `Give 1 to ${maximumConnections}`);
  }
  if (!kernelBlockSizes.includes(blockSizeBytes)) {
    refuse(
      `the kernel's NBD client has no blocks of ${blockSizeBytes} bytes`,
      "Give 512, 1024, 2048 or 4096",
    );
  }
  if (timeout > maximumSeconds || deadTimeout > maximumSeconds) {
    refuse(
      `a timeout of ${Math.max(timeout, deadTimeout)} seconds is too long`,
      `Give at most ${maximumSeconds}`,
    );
  }
  return {
    index: options.nbd === "auto" ? null : readDeviceIndex(options.nbd),
    connections,
    blockSizeBytes,
    timeoutSeconds: timeout,
    deadConnectionSeconds: deadTimeout,
    isRotational: profile.isRotational,
    ...(options.scheduler === undefined ? {} : { scheduler: options.scheduler }),
    ...(options.readAhead === undefined ? {} : { readAheadBytes: parseSize(options.readAhead) }),
  };
}

/** SIGINT and SIGTERM, one after the other. */
class Signals {
  private resolve: (() => void) | null = null;
  private hasCome = false;

  constructor() {
    process.on("SIGINT", this.onSignal);
    process.on("SIGTERM", this.onSignal);
  }

  next(): Promise<void> {
    if (this.hasCome) {
      this.hasCome = false;
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      this.resolve = resolve;
    });
  }

  close(): void {
    process.off("SIGINT", this.onSignal);
    process.off("SIGTERM", this.onSignal);
  }

  private readonly onSignal = (signal: NodeJS.Signals): void => {
    if (this.resolve === null) {
      // During the start, or while it is detached: the first is kept, a second is impatience.
      if (this.hasCome) process.exit(signal === "SIGINT" ? 130 : 143);
      this.hasCome = true;
      return;
    }
    this.resolve();
    this.resolve = null;
  };
}

function readCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("Give a whole number.");
  return Number(text);
}
