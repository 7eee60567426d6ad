/** `blkforge attach`: serve a device and attach it to this machine's kernel, until interrupted. */
import { rmSync } from "node:fs";
import { Command, InvalidArgumentError, Option } from "commander";
import { pino } from "pino";
import { BlkError, ExitCode } from "../base/errors.js";
import { parseSize } from "../base/units.js";
import type { DeviceHandle } from "../device/host.js";
import { KernelAttachment } from "../nbd/kernel/attachment.js";
import { readDeviceIndex } from "../nbd/kernel/block-device.js";
import {
  attachUblk,
  ownImageFor,
  readUblkOptions,
  requestCapacityFor,
  type UblkCommandOptions,
} from "./attach-ublk.js";
import { type Attached, announce, Signals, serveUntilDetached } from "./attached.js";
import { formatCounters } from "./counters-table.js";
import { addDeviceOptions, collect, type DeviceOptions, readServerSpec } from "./serve-options.js";
import { startServing } from "./serving.js";
import { subtractFloor } from "./subtract-floor.js";

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
    .addOption(
      new Option(
        "--cache <kind>",
        "ublk: whether flushes are sent; auto: as the profile has it, and with a file",
      )
        .choices(["auto", "write-back", "write-through"])
        .default("auto"),
    )
    .addOption(
      new Option(
        "--recovery <way>",
        "ublk: when the server dies, keep the device for blkforge recover, and meanwhile its requests (reissue) or errors (fail-io, Linux 6.13)",
      )
        .choices(["none", "reissue", "fail-io"])
        .default("none"),
    )
    .addOption(
      new Option(
        "--batch <when>",
        "ublk: one command for many requests (Linux 7.0), for load at depth; auto: where the driver has it",
      )
        .choices(["on", "off", "auto"])
        .default("off"),
    )
    .option("--own-mounts", "ublk: serve from a mount namespace of its own")
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
  subtractFloor(server, options.subtractFloor, options.ublk === undefined ? "nbd-kernel" : "ublk");
  const [spec] = server.devices;
  const overUblk = options.ublk === undefined ? null : readUblkOptions(options.ublk, options, spec);
  const overNbd = readAttachOptions(options, spec.profile);
  let ownImage: string | null = null;
  if (overUblk !== null) {
    spec.requestCapacity = requestCapacityFor(overUblk);
    ownImage = ownImageFor(overUblk, spec);
    spec.file ??= ownImage;
  }
  const signals = new Signals();
  let attachment: Attached | null = null;
  try {
    const serving = await startServing(server, {
      api: options.api,
      resizeListener: {
        refuseResize: () => attachment?.refuseResize(),
        onResized: async (sizeBytes) => attachment?.resize(sizeBytes),
      },
    });
    const [device] = serving.devices;
    try {
      attachment =
        overUblk === null
          ? await attachNbd(device, overNbd, options.logLevel)
          : await attachUblk(device, overUblk, spec, { profile, options }, ownImage);
      const { connections, queues, depth } = options;
      announce(attachment, device, options, overUblk === null ? { connections } : { queues, depth });
      await serveUntilDetached(attachment, serving, signals, options.force ?? false);
    } finally {
      signals.close();
      await serving.close();
    }
    if (options.stats) process.stderr.write(formatCounters(device.counters(), device.description));
  } finally {
    if (ownImage !== null) rmSync(ownImage, { force: true });
  }
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

function readCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("Give a whole number.");
  return Number(text);
}
