/**
 * One QEMU: its command line, its channels, its end.
 *
 * The kernel's log goes to a file over the first serial port. The guest's conversation goes over virtio serial ports
 * joined to socket pairs of this process, so bytes pass unaltered, a slow reader slows the writer down, and no file
 * or address is left behind.
 *
 * QEMU never outlives this process: it asks the kernel for SIGKILL when its parent dies (`setpriv --pdeathsig`), and is
 * killed at exit. It has a session of its own, so that a Ctrl-C reaches us alone and the end is an orderly one.
 *
 * Flags that are not self-evident:
 *   -cpu max,-cx16       QEMU 7.2's emulated cmpxchg16b leaves garbage in the guest's flags, which shows as random
 *                        oopses; without the instruction the kernel does not use it.
 *   -icount shift=0,sleep=off with thread=single: one virtual nanosecond per instruction, and idle time skipped: the
 *                        guest's clocks no longer depend on the host's load.
 *   -seed, -rtc, nokaslr, norandmaps: what else would differ from run to run in virtual time.
 *   random.trust_cpu=on  no waiting for entropy, of which a VM without devices has none.
 *   panic=-1 -no-reboot  a panic ends QEMU, and the end without a word from the guest tells the panic.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import type { Duplex, Readable } from "node:stream";
import { BlkError } from "../base/errors.js";
import { type GuestPort, guestPorts } from "./guest-init.js";
import type { Kernel } from "./kernel.js";
import { findProgram } from "./packages.js";

export type Accelerator = "kvm" | "tcg";
export type GuestTime = "real" | "virtual";

export interface MachineOptions {
  kernel: Kernel;
  initramfsPath: string;
  /** A folder of this run's own, for the kernel's log. */
  folder: string;
  accelerator: Accelerator;
  time: GuestTime;
  cpus: number;
  memoryBytes: number;
  /** Joined to the guest's /dev/hvc0, a terminal. */
  hasConsole: boolean;
  /** For the guest's own random numbers in virtual time. */
  seed: number;
}

export interface MachineExit {
  status: number | null;
  signal: NodeJS.Signals | null;
  /** What QEMU itself said; empty when all is well. */
  message: string;
}

/** What a conversation with a guest needs of its machine. */
export interface Machine {
  ports: Record<GuestPort, Duplex>;
  console?: Duplex;
  exited: Promise<MachineExit>;
  kernelLog(): string;
  kill(): void;
}

/** QEMU's arguments. Channel n of `guestPorts`, and then the console, is file descriptor 3 + n. */
export function machineArguments(options: MachineOptions): string[] {
  const isVirtual = options.time === "virtual";
  const append = [
    "console=ttyS0",
    "loglevel=7",
    "panic=-1",
    "random.trust_cpu=on",
    ...(isVirtual ? ["nokaslr", "norandmaps"] : []),
  ];
  return [
    ...["-M", "q35", "-nodefaults", "-display", "none", "-no-reboot"],
    ...["-m", `${Math.ceil(options.memoryBytes / 2 ** 20)}M`, "-smp", String(options.cpus)],
    ...accelerationArguments(options.accelerator, isVirtual),
    ...(isVirtual ? ["-rtc", "base=2026-01-01T00:00:00,clock=vm", "-seed", String(options.seed)] : []),
    ...["-kernel", options.kernel.imagePath, "-initrd", options.initramfsPath, "-append", append.join(" ")],
    ...[
      "-chardev",
      `file,id=serial,path=${escapeOption(kernelLogPath(options.folder))}`,
      "-serial",
      "chardev:serial",
    ],
    ...["-device", `virtio-serial-pci,max_ports=${guestPorts.length + 2}`],
    ...guestPorts.flatMap((name, index) => [
      ...["-chardev", `socket,id=${name},fd=${3 + index}`],
      // Port 0 is reserved for a console.
      ...["-device", `virtserialport,chardev=${name},name=${name},nr=${index + 1}`],
    ]),
    ...(options.hasConsole
      ? [
          ...["-chardev", `socket,id=console,fd=${3 + guestPorts.length}`],
          ...["-device", "virtconsole,chardev=console,nr=0"],
        ]
      : []),
  ];
}

function accelerationArguments(accelerator: Accelerator, isVirtual: boolean): string[] {
  if (accelerator === "kvm") return ["-accel", "kvm", "-cpu", "host"];
  const cpu = ["-cpu", "max,-cx16"];
  if (!isVirtual) return ["-accel", "tcg", ...cpu];
  return ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", ...cpu];
}

/** Starts QEMU. */
export function startMachine(options: MachineOptions): Machine {
  const qemu = findProgram("qemu-system-x86_64");
  if (qemu === undefined) {
    throw new BlkError(
      "BLK_E_PACKAGES",
      "qemu-system-x86_64 is missing",
      "Run: apt-get install qemu-system-x86",
    );
  }
  const setpriv = findProgram("setpriv");
  const bound = setpriv === undefined ? [qemu] : [setpriv, "--pdeathsig", "KILL", qemu];
  const argv = [...bound, ...machineArguments(options)];
  const channelCount = guestPorts.length + (options.hasConsole ? 1 : 0);
  const child = spawn(argv[0], argv.slice(1), {
    stdio: ["ignore", "ignore", "pipe", ...Array<"pipe">(channelCount).fill("pipe")],
    detached: true,
  });

  const channel = (index: number): Duplex => {
    const stream = child.stdio[3 + index] as Duplex;
    // A channel breaks when QEMU ends; that is told by `exited`, in better words.
    stream.on("error", () => {});
    return stream;
  };
  const ports = Object.fromEntries(guestPorts.map((name, index) => [name, channel(index)]));
  return {
    ports: ports as Record<GuestPort, Duplex>,
    ...(options.hasConsole ? { console: channel(guestPorts.length) } : {}),
    exited: watchExit(child),
    kernelLog: () => readTail(kernelLogPath(options.folder), keptLogBytes),
    kill: () => void child.kill("SIGKILL"),
  };
}

function watchExit(child: ChildProcess): Promise<MachineExit> {
  const killAtExit = (): void => void child.kill("SIGKILL");
  process.once("exit", killAtExit);
  let message = "";
  (child.stderr as Readable).on("data", (chunk: Buffer) => {
    message = (message + chunk.toString()).slice(-keptMessageBytes);
  });
  return new Promise((resolve) => {
    const finish = (status: number | null, signal: NodeJS.Signals | null): void => {
      process.removeListener("exit", killAtExit);
      resolve({ status, signal, message: message.trim() });
    };
    child.on("error", (error) => {
      message += error.message;
      finish(null, null);
    });
    // "close" rather than "exit": all that the guest wrote has arrived by then.
    child.on("close", finish);
  });
}

const keptMessageBytes = 16 * 1024;
const keptLogBytes = 1024 * 1024;

function kernelLogPath(folder: string): string {
  return join(folder, "kernel.log");
}

/** In QEMU's options, a comma in a value is written twice. */
function escapeOption(value: string): string {
  return value.replaceAll(",", ",,");
}

function readTail(path: string, limitBytes: number): string {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch {
    // QEMU ended before it opened its log.
    return "";
  }
  try {
    const sizeBytes = fstatSync(file).size;
    const tail = Buffer.alloc(Math.min(sizeBytes, limitBytes));
    readSync(file, tail, 0, tail.length, sizeBytes - tail.length);
    return tail.toString("utf8").replaceAll("\r", "");
  } finally {
    closeSync(file);
  }
}

/** The last lines of a kernel log, without the firmware's terminal codes. */
export function lastLines(log: string, count: number): string[] {
  const plain = log.replaceAll(terminalCode, "");
  return plain
    .split("\n")
    .map((line) => line.trimEnd())
    .filter((line) => line !== "")
    .slice(-count);
}

const escapeCharacter = String.fromCharCode(27);
const terminalCode = new RegExp(`${escapeCharacter}(?:\\[[0-9;?=]*[A-Za-z]|c)`, "g");
