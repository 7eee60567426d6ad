/** `blkforge lab`: a VM with a real Linux kernel, an emulated device attached to it, for a command or a shell. */
import { Command, InvalidArgumentError, Option } from "commander";
import { formatDuration, formatSize, parseDuration, parseSize } from "../base/units.js";
import { Cache } from "../lab/cache.js";
import { type LabDevice, type LabOptions, type LabStage, labExec } from "../lab/exec.js";
import { labShell } from "../lab/shell.js";
import { loadProfile } from "../profile/load.js";
import { collect, readSeed } from "./serve-options.js";
import { onStopSignal } from "./serving.js";
import { readFloor } from "./subtract-floor.js";

/** Where the floor lies in the guest. */
const guestFloor = "/lab/floor.json";

interface GuestOptions {
  device?: string;
  size?: string;
  ublk?: boolean;
  connections: number;
  blockSize?: number;
  set: string[];
  seed?: number;
  stats?: boolean;
  subtractFloor?: string;
  time: "real" | "virtual";
  accel: "auto" | "kvm" | "tcg";
  kernel?: string;
  smp: number;
  memory: string;
  tool: string[];
  module: string[];
  yes?: boolean;
  quiet?: boolean;
}

interface ExecOptions extends GuestOptions {
  timeout: string;
}

function addGuestOptions(command: Command): Command {
  return command
    .option("--device <profile>", "serve this profile (a name or a YAML file) and attach it as $DEV")
    .option("--size <size>", "capacity of the device: 512M, 10G (default: the profile's)")
    .option("--ublk", "attach it over ublk instead of NBD")
    .option("--connections <n>", "connections to the server, or ublk's queues, up to --smp", readCount, 1)
    .option("--block-size <bytes>", "the kernel's logical block size (default: the profile's)", readCount)
    .option("--set <path=value>", "change a field of the profile, such as latency.read=100us", collect, [])
    .option("--seed <n>", "seed of the device's random decisions", readSeed)
    .option("--stats", "print the device's counters and lateness at the end, on stderr")
    .option(
      "--subtract-floor <file>",
      "take what the transport takes by itself off the model's latencies, as calibrate-floor measured it in such a guest",
    )
    .addOption(
      new Option("--time <kind>", "real, or virtual: 1 ns per instruction, whatever the host's load")
        .choices(["real", "virtual"])
        .default("real"),
    )
    .addOption(
      new Option("--accel <kind>", "how the guest's CPU runs; auto takes kvm where it works")
        .choices(["auto", "kvm", "tcg"])
        .default("auto"),
    )
    .option(
      "--kernel <version|path>",
      "such as 6.12, 7.2 (any Debian has, backports too) or ./vmlinuz (default: the running kernel, else Debian's 6.12)",
    )
    .option("--smp <n>", "CPUs of the guest", readCount, 2)
    .option("--memory <size>", "memory of the guest", "2G")
    .option("--tool <program>", "take another of this machine's programs into the guest", collect, [])
    .option("--module <name>", "take another kernel module into the guest, for its modprobe", collect, [])
    .option("--yes", "install missing Debian packages without asking")
    .option("--quiet", "show no progress");
}

const exec = addGuestOptions(
  new Command("exec")
    .description(
      "Boot a VM, attach the device to its kernel, run a command, and pass on its output and exit status.\n\n" +
        "One argument is a line for the guest's shell; several are a program and its arguments, with $DEV replaced.\n" +
        "The guest has this machine's node, fio, nbd-client, mkfs.ext4 and the like, and busybox for the rest.",
    )
    .argument("<command...>", "what to run in the guest"),
)
  .option("--timeout <duration>", "how long the command may take, in the host's time", "30m")
  .addHelpText(
    "after",
    `
Examples:
  blkforge lab exec --device hdd-7200 --time virtual -- \\
      fio --name=t --filename='$DEV' --direct=1 --rw=randread --runtime=5 --time_based
  blkforge lab exec --device hdd-7200 --size 4G --connections 4 --smp 4 -- \\
      'mkfs.ext4 -q $DEV && mount $DEV /mnt && df -h /mnt'
  blkforge lab exec --kernel 6.1 -- uname -r

The device is served inside the guest; all that is written to it ends with the guest.`,
  )
  .action(runExec);

const shell = addGuestOptions(
  new Command("shell").description(
    "Boot a VM with the device attached and give its terminal to you.\n\n" +
      "exit or Ctrl-D detaches and switches off; Ctrl-] throws the guest away at once.",
  ),
).action(runShell);

const clean = new Command("clean")
  .description("Remove what the lab has cached: kernels, image parts, the answer whether KVM works.")
  .action(() => {
    const cache = new Cache();
    process.stdout.write(`Freed ${formatSize(cache.clean())} bytes in ${cache.folder}\n`);
  });

export const command = new Command("lab")
  .description("Run a command, or a shell, in a VM with an emulated device attached to a real Linux kernel.")
  .addCommand(exec)
  .addCommand(shell)
  .addCommand(clean);

async function runExec(words: string[], options: ExecOptions): Promise<void> {
  const timeoutMs = parseDuration(options.timeout) / 1e6;
  await withInterrupt(async (signal) => {
    const progress = new ProgressLine(options.quiet ?? false);
    // A terminal stays with the caller: there is `lab shell` for talking to a guest.
    const stdin = process.stdin.isTTY ? undefined : process.stdin;
    try {
      const result = await labExec({
        ...labOptions(options, progress, signal),
        command: words,
        deadlinesMs: { command: timeoutMs },
        stdout: process.stdout,
        stderr: process.stderr,
        ...(stdin === undefined ? {} : { stdin }),
      });
      progress.end();
      if (options.stats) process.stderr.write(result.serverLog);
      process.exitCode = result.status;
    } finally {
      progress.end();
      stdin?.destroy();
    }
  });
}

async function runShell(options: GuestOptions): Promise<void> {
  await withInterrupt(async (signal) => {
    const progress = new ProgressLine(options.quiet ?? false);
    try {
      const status = await labShell({
        ...labOptions(options, progress, signal),
        input: process.stdin,
        output: process.stdout,
      });
      process.exitCode = status ?? 0;
    } finally {
      progress.end();
    }
  });
}

function labOptions(options: GuestOptions, progress: ProgressLine, signal: AbortSignal): LabOptions {
  return {
    time: options.time,
    accelerator: options.accel,
    cpus: options.smp,
    memoryBytes: parseSize(options.memory),
    tools: options.tool,
    modules: options.module,
    yes: options.yes ?? false,
    signal,
    onProgress: ({ stage, text }) => progress.show(stage, text),
    ...(options.kernel === undefined ? {} : { kernel: options.kernel }),
    ...(options.subtractFloor === undefined
      ? {}
      : { files: { [guestFloor]: readFloor(options.subtractFloor) } }),
    ...(options.device === undefined ? {} : { device: labDevice(options.device, options) }),
  };
}

function labDevice(profileName: string, options: GuestOptions): LabDevice {
  // The guest's server would refuse a bad profile, size or setting too, but only after the guest has booted.
  const profile = loadProfile(profileName, {
    settings: options.set,
    ...(options.size === undefined ? {} : { size: options.size }),
  });
  return {
    profile: profileName,
    transport: options.ublk ? "ublk" : "nbd",
    connections: options.connections,
    // The kernel's client does not ask the server for it.
    blockSizeBytes: options.blockSize ?? profile.logicalBlockBytes,
    serveArguments: serveArguments(options),
  };
}

function serveArguments(options: GuestOptions): string[] {
  return [
    ...(options.size === undefined ? [] : ["--size", formatSize(parseSize(options.size))]),
    ...(options.seed === undefined ? [] : ["--seed", String(options.seed)]),
    ...(options.stats ? ["--stats"] : []),
    ...(options.subtractFloor === undefined
      ? []
      : ["--subtract-floor", `${options.ublk ? "ublk" : "nbd-kernel"}:${guestFloor}`]),
    ...options.set.flatMap((setting) => ["--set", setting]),
  ];
}

/** SIGINT or SIGTERM ends the guest and passes on the status shells give to a signal. */
async function withInterrupt(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const interrupted = new AbortController();
  let status = 0;
  const stopListening = onStopSignal((signal) => {
    status = signal === "SIGINT" ? 130 : 143;
    interrupted.abort(new Error("interrupted"));
  });
  // The reader of our output has gone (`| head`): nobody is left to run the command for.
  const onBrokenPipe = (): void => {
    status = 141;
    interrupted.abort(new Error("interrupted"));
  };
  process.stdout.on("error", onBrokenPipe);
  try {
    await work(interrupted.signal);
  } catch (error) {
    if (!interrupted.signal.aborted) throw error;
    process.exitCode = status;
  } finally {
    stopListening();
    process.stdout.off("error", onBrokenPipe);
  }
}

/** What is going on, on one line of stderr that makes room for the command's own output. */
class ProgressLine {
  readonly #isQuiet: boolean;
  readonly #begunMs = performance.now();
  #isShown = false;

  constructor(isQuiet: boolean) {
    this.#isQuiet = isQuiet;
  }

  show(stage: LabStage, text: string): void {
    if (this.#isQuiet) return;
    if (!process.stderr.isTTY) {
      process.stderr.write(`lab: ${text}\n`);
      return;
    }
    this.end();
    if (stage === "command") return;
    const elapsed = formatDuration((performance.now() - this.#begunMs) * 1e6);
    process.stderr.write(`${text} ... (${elapsed})`);
    this.#isShown = true;
  }

  end(): void {
    // Back to the line's begin, and erase it.
    if (this.#isShown) process.stderr.write("\r\u001b[K");
    this.#isShown = false;
  }
}

function readCount(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError("Give a whole number.");
  return Number(text);
}
