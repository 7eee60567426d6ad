/**
 * The kernel's ublk driver, commanded: every command has a deadline of its own, and a stage to name when it fails.
 *
 * A command runs on a worker thread of the kernel. One that misses its deadline stays there, the kernel offers no way to
 * take it back; who asked goes on without it.
 *
 * Source: Linux, Documentation/block/ublk.rst.
 */
import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import { constants } from "node:os";
import { getSystemErrorName } from "node:util";
import { BlkError, isSystemError } from "../base/errors.js";
import { loadNative, type NativeUblkControl } from "../base/native.js";
import {
  anyDevice,
  Command,
  type CommandName,
  type DeviceInfo,
  type DeviceParameters,
  decodeDeviceInfo,
  encodeDeviceInfo,
  encodeParameters,
  Feature,
  type FeatureName,
  noQueue,
} from "./abi.js";

const controlPath = "/dev/ublk-control";
/** A module that takes longer to load will not come. */
const modprobeDeadlineMs = 20_000;
/** What only changes the driver's own books. */
const quickDeadlineMs = 10_000;
/** What waits for requests, for udev, or for the end of threads. */
export const slowDeadlineMs = 30_000;

const { errno } = constants;

/** The kernel's refusal of a command. */
export class UblkRefusal extends BlkError {
  constructor(
    readonly errno: number,
    stage: string,
    device: string,
    hint = "The kernel's log may say more: dmesg | tail",
  ) {
    super("BLK_E_UBLK", `${device}: the kernel refused to ${stage}: ${getSystemErrorName(-errno)}`, hint);
  }
}

interface Call {
  resolve(answer: { result: number; buffer: Uint8Array }): void;
}

interface CommandOptions {
  /** What it is for, to follow "to": "start the device". */
  stage: string;
  deviceId?: number;
  queue?: number;
  data?: number;
  buffer?: Uint8Array;
  deadlineMs?: number;
}

export class UblkControl {
  /** The driver's feature word, bits of `Feature`. */
  features = 0;

  /** Who is not root has devices of his own, and shows with each command that he may use their nodes. */
  readonly isPrivileged = process.geteuid?.() === 0;

  private readonly native: NativeUblkControl;
  private readonly calls = new Map<number, Call>();
  private nextId = 0;

  private constructor(
    NativeControl: new (
      onDone: (id: number, result: number, buffer: Uint8Array) => void,
    ) => NativeUblkControl,
    private readonly fd: number,
  ) {
    this.native = new NativeControl((id, result, buffer) => {
      const call = this.calls.get(id);
      this.calls.delete(id);
      call?.resolve({ result, buffer });
    });
  }

  /**
   * Opens the driver, loading its module if need be, and asks for its features.
   *
   * @throws BlkError BLK_E_UBLK_MODULE, BLK_E_PRIVILEGE, BLK_E_UBLK
   */
  static async open(): Promise<UblkControl> {
    const { UblkControl: NativeControl } = loadNative();
    if (NativeControl === undefined) {
      throw new BlkError(
        "BLK_E_UBLK_MODULE",
        `ublk is a driver of the Linux kernel, and this is ${process.platform}`,
        "Serve the device over NBD: blkforge serve",
      );
    }
    if (!existsSync(controlPath)) await loadModule();
    const control = new UblkControl(NativeControl, openControl());
    try {
      control.openRing();
      await control.readFeatures();
      return control;
    } catch (error) {
      control.close();
      throw error;
    }
  }

  has(feature: FeatureName): boolean {
    return (this.features & Feature[feature]) !== 0;
  }

  /** ADD_DEV. Answers with what was granted: number, queues, depth, flags. */
  async addDevice(
    wanted: Pick<DeviceInfo, "queues" | "depth" | "largestRequestBytes" | "flags"> & { id: number | null },
  ): Promise<DeviceInfo> {
    const id = wanted.id ?? anyDevice;
    const buffer = encodeDeviceInfo({ ...wanted, id });
    const options = { stage: "add the device", deviceId: id, buffer, deadlineMs: slowDeadlineMs };
    const answer = await this.run("addDevice", options);
    return decodeDeviceInfo(answer.buffer);
  }

  async setParameters(deviceId: number, parameters: DeviceParameters): Promise<void> {
    const buffer = encodeParameters(parameters);
    await this.run("setParameters", { stage: "set the device's parameters", deviceId, buffer });
  }

  /** Bits of the processors the kernel will use this queue from. */
  async queueAffinity(deviceId: number, queue: number): Promise<Uint8Array> {
    // As long as the largest kernels' masks, 8192 processors; shorter than the kernel's own is refused.
    const buffer = new Uint8Array(1024);
    const options = { stage: "tell the processors of a queue", deviceId, data: queue, buffer };
    return (await this.run("getQueueAffinity", options)).buffer;
  }

  /** Null when there is no such device. */
  async deviceInfo(deviceId: number): Promise<DeviceInfo | null> {
    try {
      const options = { stage: "tell about the device", deviceId, buffer: new Uint8Array(64) };
      return decodeDeviceInfo((await this.run("getDeviceInfo", options)).buffer);
    } catch (error) {
      if (isRefusal(error, "ENODEV")) return null;
      throw error;
    }
  }

  /** Runs a command to its end. @throws UblkRefusal, BlkError BLK_E_UBLK when its deadline passes */
  async run(
    name: CommandName,
    { stage, deviceId = anyDevice, queue = noQueue, data = 0, buffer, deadlineMs }: CommandOptions,
  ): Promise<{ result: number; buffer: Uint8Array }> {
    const id = this.nextId++;
    const device = deviceId === anyDevice ? "ublk" : `ublk device ${deviceId}`;
    const answered = new Promise<{ result: number; buffer: Uint8Array }>((resolve) =>
      this.calls.set(id, { resolve }),
    );
    const isOfDevice = deviceId !== anyDevice && name !== "addDevice";
    const path = this.isPrivileged || !isOfDevice ? new Uint8Array(0) : nodePath(deviceId);
    const bytes = Buffer.concat([path, buffer ?? new Uint8Array(0)]);
    const error = this.native.submit(id, Command[name], deviceId, queue, data, bytes, path.length);
    if (error !== 0) {
      this.calls.delete(id);
      throw new UblkRefusal(error, stage, device);
    }
    const limitMs = deadlineMs ?? quickDeadlineMs;
    const answer = await withDeadline(answered, limitMs);
    if (answer === null) {
      // Forgotten here: its answer, should it come, concerns nobody.
      this.calls.delete(id);
      throw new BlkError(
        "BLK_E_UBLK",
        `${device}: the kernel did not finish to ${stage} within ${limitMs / 1000} s`,
        "The kernel's log may say more: dmesg | tail",
      );
    }
    if (answer.result < 0) throw new UblkRefusal(-answer.result, stage, device);
    return { result: answer.result, buffer: answer.buffer.subarray(path.length) };
  }

  close(): void {
    this.native.close();
    closeSync(this.fd);
  }

  private openRing(): void {
    const error = this.native.open(this.fd);
    if (error === 0) return;
    const name = getSystemErrorName(-error);
    throw new BlkError(
      "BLK_E_UBLK",
      `ublk needs io_uring, and this machine refuses it: ${name}`,
      error === errno.ENOMEM
        ? "Raise the limit of locked memory: ulimit -l unlimited"
        : "Allow it: sysctl kernel.io_uring_disabled=0; a container needs a seccomp profile that lets io_uring through",
    );
  }

  private async readFeatures(): Promise<void> {
    try {
      const answer = await this.run("getFeatures", {
        stage: "tell its features",
        buffer: new Uint8Array(8),
      });
      this.features = Number(
        new DataView(answer.buffer.buffer, answer.buffer.byteOffset).getBigUint64(0, true),
      );
    } catch (error) {
      if (!isRefusal(error, "EOPNOTSUPP") && !isRefusal(error, "EINVAL")) throw error;
      throw new BlkError(
        "BLK_E_UBLK_MODULE",
        "this kernel's ublk driver is too old: it cannot tell its features (before 6.5)",
        "Boot a kernel 6.12 or newer, use --nbd, or try blkforge lab exec",
      );
    }
  }
}

export function isRefusal(error: unknown, name: keyof typeof errno): error is UblkRefusal {
  return error instanceof UblkRefusal && error.errno === errno[name];
}

/** Before everything else in the buffer of an unprivileged command; 64 bytes, as other servers send it. */
function nodePath(deviceId: number): Uint8Array {
  const bytes = new Uint8Array(64);
  new TextEncoder().encodeInto(`/dev/ublkc${deviceId}`, bytes);
  return bytes;
}

async function withDeadline<T>(work: Promise<T>, deadlineMs: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), deadlineMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function openControl(): number {
  try {
    return openSync(controlPath, "r+");
  } catch (error) {
    if (isSystemError(error, "EACCES") || isSystemError(error, "EPERM")) {
      throw new BlkError(
        "BLK_E_PRIVILEGE",
        `${controlPath} may not be opened by this user`,
        "Run it with sudo; a container needs --privileged and the host's /dev",
      );
    }
    throw new BlkError(
      "BLK_E_UBLK_MODULE",
      `the kernel has no ublk driver: ${controlPath} is not there`,
      "Load it: modprobe ublk_drv. Debian's kernels have it from 6.12 on; blkforge lab exec --ublk brings its own",
      { cause: error },
    );
  }
}

/** Its failure shows when the node is opened. */
function loadModule(): Promise<void> {
  return new Promise((resolve) => {
    const child = spawn("modprobe", ["-q", "ublk_drv"], { stdio: "ignore", timeout: modprobeDeadlineMs });
    child.once("error", () => resolve());
    child.once("close", () => resolve());
  });
}
