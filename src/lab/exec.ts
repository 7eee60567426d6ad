/**
 * `lab exec`: a command in front of a real Linux kernel, with an emulated device attached to it.
 *
 * The server runs inside the guest, in real and in virtual time alike. In virtual time it has to: only what lives in
 * the guest shares its clock. In real time it costs nothing, since under KVM it runs at full speed, and it saves a
 * network device, a socket of the host and the host's own scheduling in the path of every request. So there is one
 * image and one way for everything, and what is tested in one kind of time is what runs in the other.
 *
 * What it is not: no persistent machine. A guest lives for one command, and all it wrote goes with it.
 */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import type { Duplex, Readable, Writable } from "node:stream";
import { BlkError } from "../base/errors.js";
import { chooseAccelerator } from "./accelerator.js";
import { appEntries } from "./app.js";
import { Cache } from "./cache.js";
import type { CpioEntry } from "./cpio.js";
import { withDeadline } from "./deadline.js";
import {
  type GuestConfig,
  guestDevices,
  guestPaths,
  renderCommand,
  renderConfig,
  shellQuote,
  type Transport,
} from "./guest-init.js";
import { baseEntries, kernelEntries, segment, writeInitramfs } from "./image.js";
import { findKernel, type Kernel } from "./kernel.js";
import { type Accelerator, type GuestTime, type Machine, startMachine } from "./machine.js";
import { ensurePackages } from "./packages.js";
import { type GuestStage, PatchingPanic, runSession, type SessionResult } from "./session.js";
import { toolEntries } from "./tools.js";

export type LabStage = "packages" | "kernel" | "image" | "accelerator" | GuestStage;

export interface LabDevice {
  /** Name of a profile, or the path of a YAML file, which is taken into the guest. */
  profile: string;
  /** Further arguments of `blkforge serve`: ["--size", "1G", "--set", "rpm=5400", "--seed", "7", "--stats"]. */
  serveArguments?: readonly string[];
  /** "nbd" (default) or "ublk". */
  transport?: Transport;
  /** Connections of the kernel to the server, and so its hardware queues, up to the number of CPUs. Default 1. */
  connections?: number;
  /** The kernel's logical block size for the device: 512 (default), 1024, 2048 or 4096. */
  blockSizeBytes?: number;
}

export interface LabOptions {
  /** Without a device, the guest is a plain one. With it, `$DEV` names the attached device. */
  device?: LabDevice;
  /** Whether a guest without a device has `blkforge` all the same, to attach devices itself. */
  withBlkforge?: boolean;
  /** "real" (default), or "virtual": one nanosecond per instruction, independent of the host's load. */
  time?: GuestTime;
  accelerator?: Accelerator | "auto";
  /** A version such as "6.12" or the path of a kernel image. Default: the running kernel, else Debian's 6.12. */
  kernel?: string;
  /** CPUs of the guest. Default 2. */
  cpus?: number;
  /** Memory of the guest. Default 2 GiB. */
  memoryBytes?: number;
  /** Further programs of this machine for the guest, by name or path. */
  tools?: readonly string[];
  /** Further kernel modules for the guest's modprobe, by name. */
  modules?: readonly string[];
  /** Further files for the guest: path and content. */
  files?: Readonly<Record<string, string | Uint8Array>>;
  environment?: Readonly<Record<string, string>>;
  /** For the guest's own random numbers in virtual time. Default 1. */
  guestSeed?: number;
  /** Install missing packages without asking. */
  yes?: boolean;
  onProgress?: (progress: { stage: LabStage; text: string }) => void;
  signal?: AbortSignal;
  /** Milliseconds for stages whose deadline should differ from `defaultDeadlinesMs`. */
  deadlinesMs?: Partial<Record<LabStage, number>>;
}

export interface LabExecOptions extends LabOptions {
  /** One string is a line for the shell, several are a program and its arguments. */
  command: readonly string[];
  stdin?: Readable;
  stdout?: Writable;
  stderr?: Writable;
}

export interface LabResult extends SessionResult {
  accelerator: Accelerator;
  kernelRelease: string;
}

/** Long enough for an emulated CPU on a busy host: what misses these hangs. */
export const defaultDeadlinesMs: Readonly<Record<LabStage, number>> = {
  packages: 900_000,
  kernel: 900_000,
  image: 300_000,
  accelerator: 60_000,
  boot: 180_000,
  serve: 180_000,
  attach: 90_000,
  command: 1_800_000,
  detach: 180_000,
  "power off": 60_000,
};

const stageTexts: Record<GuestStage, string> = {
  boot: "Booting the guest",
  serve: "Starting the device",
  attach: "Attaching it to the guest's kernel",
  command: "Running the command",
  detach: "Detaching",
  "power off": "Switching off",
};

const defaultMemoryBytes = 2 * 2 ** 30;
/** The image is unpacked into memory beside its packed form; less than this ends in the kernel's out-of-memory. */
const smallestMemoryBytes = 640 * 2 ** 20;

/**
 * Runs a command in a guest.
 *
 * @throws BlkError BLK_E_VM_DEADLINE, BLK_E_VM, BLK_E_KERNEL, BLK_E_PACKAGES, BLK_E_USAGE. A command that fails is no
 * error: its status is in the result.
 *
 * @example
 * const { status } = await labExec({
 *   device: { profile: "hdd-7200", serveArguments: ["--size", "1G"] },
 *   command: ["fio --name=t --filename=$DEV --rw=randread --runtime=5"],
 *   stdout: process.stdout,
 * });
 */
export async function labExec(options: LabExecOptions): Promise<LabResult> {
  if (options.command.length === 0) {
    throw new BlkError("BLK_E_USAGE", "there is no command to run in the guest", "Write it after --");
  }
  return runGuest(options, {
    command: options.command,
    config: { input: options.stdin === undefined ? "none" : "port", rows: 25, columns: 80 },
    ...(options.stdout === undefined ? {} : { stdout: options.stdout }),
    ...(options.stderr === undefined ? {} : { stderr: options.stderr }),
    connect(machine) {
      if (options.stdin !== undefined) {
        options.stdin.pipe(machine.ports.input);
        return () => options.stdin?.unpipe(machine.ports.input);
      }
      return () => {};
    },
  });
}

/** What a guest is used for: a command with streams, or a shell at a terminal. */
export interface GuestUse {
  command: readonly string[];
  config: Pick<GuestConfig, "input" | "rows" | "columns">;
  stdout?: Writable;
  stderr?: Writable;
  onStage?: (stage: GuestStage) => void;
  /** Joins the caller's streams to the machine's; the returned function parts them. */
  connect(machine: Machine & { console?: Duplex }): () => void;
}

/** Prepares a guest, runs it to its end, and cleans up. */
export async function runGuest(options: LabOptions, use: GuestUse): Promise<LabResult> {
  checkOptions(options);
  const limits = { ...defaultDeadlinesMs, ...options.deadlinesMs };
  const prepare = <T>(
    stage: LabStage,
    text: string,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> => {
    options.onProgress?.({ stage, text });
    return withDeadline(stage, limits[stage], options.signal, work);
  };
  const tell =
    (stage: LabStage) =>
    (text: string): void =>
      options.onProgress?.({ stage, text });

  await prepare("packages", "Looking for the programs needed", (signal) =>
    ensurePackages(["vm"], { yes: options.yes ?? false, onProgress: tell("packages"), signal }),
  );
  const cache = new Cache();
  const kernel = await prepare("kernel", "Looking for a kernel", (signal) =>
    findKernel(cache, options.kernel, { onProgress: tell("kernel"), signal }),
  );
  const folder = cache.runFolder();
  const removeFolder = (): void => rmSync(folder, { recursive: true, force: true });
  process.once("exit", removeFolder);
  try {
    const initramfsPath = join(folder, "initramfs");
    await prepare("image", "Building the guest's image", async (signal) => {
      const segments = await imageSegments(cache, kernel, options, signal);
      await writeInitramfs(initramfsPath, segments, runEntries(options, use));
      cache.prune();
    });
    const wanted = options.time === "virtual" ? "tcg" : (options.accelerator ?? "auto");
    const accelerator = await prepare("accelerator", "Choosing how to run the guest", (signal) =>
      chooseAccelerator(cache, kernel, wanted, { onProgress: tell("accelerator"), signal }),
    );
    options.signal?.throwIfAborted();
    const boot = async (): Promise<LabResult> => {
      const machine = startMachine({
        kernel,
        initramfsPath,
        folder,
        accelerator,
        time: options.time ?? "real",
        cpus: options.cpus ?? 2,
        memoryBytes: options.memoryBytes ?? defaultMemoryBytes,
        hasConsole: use.config.input === "console",
        seed: options.guestSeed ?? 1,
      });
      const disconnect = use.connect(machine);
      try {
        const result = await runSession(machine, {
          hasDevice: options.device !== undefined,
          deadlinesMs: limits,
          onStage(stage) {
            options.onProgress?.({ stage, text: stageTexts[stage] });
            use.onStage?.(stage);
          },
          ...(use.stdout === undefined ? {} : { stdout: use.stdout }),
          ...(use.stderr === undefined ? {} : { stderr: use.stderr }),
          ...(options.signal === undefined ? {} : { signal: options.signal }),
        });
        return { ...result, accelerator, kernelRelease: kernel.release };
      } finally {
        disconnect();
      }
    };
    return await boot().catch((error: unknown) => {
      if (accelerator !== "tcg" || !(error instanceof PatchingPanic)) throw error;
      options.onProgress?.({
        stage: "boot",
        text: "The emulated kernel met its own half-written code; booting once more",
      });
      return boot();
    });
  } finally {
    process.removeListener("exit", removeFolder);
    removeFolder();
  }
}

function checkOptions(options: LabOptions): void {
  const refuse = (message: string, hint: string): never => {
    throw new BlkError("BLK_E_USAGE", message, hint);
  };
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new BlkError(
      "BLK_E_VM",
      `the lab needs Linux on x86-64, and this is ${process.platform} on ${process.arch}`,
      "Use blkforge run, which needs no VM",
    );
  }
  if (options.time === "virtual" && options.accelerator === "kvm") {
    refuse(
      "virtual time counts the instructions of an emulated CPU, and KVM's is a real one",
      "Leave out one of --time virtual and --accel kvm",
    );
  }
  const { cpus = 2, memoryBytes = defaultMemoryBytes, device } = options;
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > 64)
    refuse(`a guest cannot have ${cpus} CPUs`, "Give 1 to 64");
  if (memoryBytes < smallestMemoryBytes) {
    refuse(`${memoryBytes} bytes of memory are too few for the guest's image`, "Give 640M or more");
  }
  const { connections = 1, blockSizeBytes = 512 } = device ?? {};
  if (!Number.isInteger(connections) || connections < 1 || connections > 16) {
    refuse(`a device cannot have ${connections} connections`, "Give 1 to 16");
  }
  if (![512, 1024, 2048, 4096].includes(blockSizeBytes)) {
    refuse(`the kernel has no blocks of ${blockSizeBytes} bytes`, "Give 512, 1024, 2048 or 4096");
  }
}

async function imageSegments(
  cache: Cache,
  kernel: Kernel,
  options: LabOptions,
  signal: AbortSignal,
): Promise<string[]> {
  // The largest comes first: appending the others to it is then cheap.
  const segments = [
    await segment(cache, "tools", await toolEntries(options.tools, signal)),
    await segment(cache, "base", baseEntries()),
    await segment(cache, "modules", await kernelEntries(kernel, options.modules, signal)),
  ];
  if (options.device !== undefined || options.withBlkforge === true)
    segments.push(await segment(cache, "app", appEntries()));
  return segments;
}

/** The files of this run: its settings, its command, its server, and what the caller brings along. */
function runEntries(options: LabOptions, use: GuestUse): CpioEntry[] {
  const { device } = options;
  const config: GuestConfig = {
    ...use.config,
    hasDevice: device !== undefined,
    transport: device?.transport ?? "nbd",
    connections: device?.connections ?? 1,
    blockSizeBytes: device?.blockSizeBytes ?? 512,
  };
  const file = (path: string, content: string | Uint8Array): CpioEntry => ({
    kind: "file",
    path: path.replace(/^\/+/, ""),
    content: typeof content === "string" ? Buffer.from(content) : content,
    isExecutable: typeof content === "string" && content.startsWith("#!"),
  });
  const entries = [
    file("/lab/config", renderConfig(config)),
    file("/lab/command.sh", renderCommand(use.command, options.environment, config.transport)),
    ...Object.entries(options.files ?? {}).map(([path, content]) => file(path, content)),
  ];
  if (device !== undefined) {
    const isFile = /[/]|\.ya?ml$/.test(device.profile);
    const profile = isFile ? `/lab/profile/${basename(device.profile)}` : device.profile;
    if (isFile) entries.push(file(profile, readProfile(device.profile)));
    entries.push(file("/lab/serve.sh", renderServe(profile, options.time ?? "real", device)));
  }
  return entries;
}

function readProfile(path: string): Uint8Array {
  if (!existsSync(path)) {
    throw new BlkError("BLK_E_PROFILE_UNREADABLE", `there is no profile file ${path}`, "Check the path");
  }
  return readFileSync(path);
}

function renderServe(profile: string, time: GuestTime, device: LabDevice): string {
  const { transport = "nbd", connections = 1, blockSizeBytes, serveArguments = [] } = device;
  const attachArguments = [
    ...["--ublk", guestDevices.ublk, "--queues", String(connections)],
    ...(blockSizeBytes === undefined ? [] : ["--block-size", String(blockSizeBytes)]),
  ];
  const argv = [
    "blkforge",
    ...(transport === "ublk" ? ["attach", profile, ...attachArguments] : ["serve", profile]),
    ...["--listen", guestPaths.uri],
    ...["--api", `unix:${guestPaths.apiSocket}`],
    // In virtual time all CPUs take turns on one clock: a server that waits awake takes the time from everybody else.
    ...(time === "virtual" ? ["--timing", "sleep"] : []),
    ...serveArguments,
  ];
  return `exec ${argv.map(shellQuote).join(" ")}\n`;
}
