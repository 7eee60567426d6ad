/**
 * A device attached to this machine's kernel over ublk: added, started, watched, stopped and deleted.
 *
 * Every stage has a deadline, and its error says which stage it was. Half a start is undone. A stop lets go of held
 * requests first, since the kernel waits for them; what is not answered in time then ends in EIO, so that the stop itself
 * cannot hang on this process.
 *
 * The main thread owns all of this. Queue threads are native (threads.ts), decisions are the device thread's; when either ends,
 * this one hears of it.
 */
import { getSystemErrorName } from "node:util";
import { BlkError } from "../base/errors.js";
import {
  applySettings,
  type QueueSettings,
  settleUdev,
  waitUntilUsable,
  writeAttribute,
} from "../linux/block-device.js";
import { findHolders } from "../linux/holders.js";
import { type DeviceInfo, type DeviceParameters, Feature } from "./abi.js";
import { isRefusal, slowDeadlineMs, UblkControl } from "./control.js";
import { type FeatureOptions, requireFeatures, wantedFeatures } from "./features.js";
import { deviceName, devicePath } from "./names.js";
import { type AttachedDevice, endOfThreads, startThreads, type Threads, waitUntilOwned } from "./threads.js";

export interface UblkOptions extends QueueSettings, FeatureOptions {
  /** n of /dev/ublkbn; null lets the kernel take a free one. */
  id: number | null;
  queues: number;
  parameters: DeviceParameters;
  /** Told the device's number as soon as there is one, before it can be used. */
  onAdded?: (id: number) => void;
}

/** What is in flight at a stop gets this long; a slow disk's longest queue drains in it. Then it is failed. */
const drainDeadlineMs = 15_000;
/** The old server's end is the kernel's work: it comes within the requests' timeout. */
const recoveryDeadlineMs = 60_000;
/**
 * `io_timeout` of the block device. While the server lives the driver resets it again and again; when the server has died
 * with all of a queue's requests in its hands, older kernels (before 6.16) notice at this timeout only.
 */
const ioTimeoutMs = 3_000;

export class UblkAttachment {
  readonly id: number;
  readonly info: DeviceInfo;
  /** Resolves when somebody else has stopped the device; rejects when its threads failed. */
  readonly ended: Promise<void>;

  private isStopping = false;

  private constructor(
    private readonly control: UblkControl,
    private readonly device: AttachedDevice,
    private readonly threads: Threads,
    info: DeviceInfo,
  ) {
    this.id = info.id;
    this.info = info;
    this.ended = threads.ended.then(async () => {
      const failure = threads.failure();
      if (this.isStopping || failure === 0) return;
      throw new BlkError(
        "BLK_E_UBLK",
        `the queues of ${this.path} ended by themselves: ${getSystemErrorName(-failure)}`,
        "The kernel's log may say more: dmesg | tail",
      );
    });
    this.ended.catch(() => {});
  }

  /** Such as "/dev/ublkb0". */
  get path(): string {
    return devicePath(this.id);
  }

  /**
   * Attaches the device and resolves when it can be used.
   *
   * @throws BlkError BLK_E_UBLK_MODULE, BLK_E_UBLK_FEATURE, BLK_E_PRIVILEGE, BLK_E_UBLK, BLK_E_DEVICE_BUSY; the kernel has
   * nothing of it then.
   */
  static async create(device: AttachedDevice, options: UblkOptions): Promise<UblkAttachment> {
    const control = await UblkControl.open();
    try {
      const info = await addDevice(control, options);
      let threads: Threads | null = null;
      try {
        options.onAdded?.(info.id);
        if (!control.isPrivileged) await waitUntilOwned(info.id);
        await control.setParameters(info.id, {
          ...options.parameters,
          largestRequestBytes: info.largestRequestBytes,
        });
        threads = await startThreads(control, device, info);
        await control.run("startDevice", {
          stage: "start the device",
          deviceId: info.id,
          data: process.pid,
          deadlineMs: slowDeadlineMs,
        });
        await waitUntilUsable(deviceName(info.id), options.parameters.sizeBytes);
        applySettings(deviceName(info.id), options);
        writeAttribute(deviceName(info.id), "queue/io_timeout", String(ioTimeoutMs));
      } catch (error) {
        await undo(control, device, info.id, threads);
        throw error;
      }
      return new UblkAttachment(control, device, threads, info);
    } catch (error) {
      control.close();
      throw error;
    }
  }

  /**
   * Takes over a device whose server has died.
   *
   * @throws BlkError BLK_E_UBLK when its state does not allow it
   */
  static async recover(device: AttachedDevice, id: number): Promise<UblkAttachment> {
    const control = await UblkControl.open();
    try {
      const info = await control.deviceInfo(id);
      if (info === null) throw noDevice(id);
      await beginRecovery(control, id);
      const threads = await startThreads(control, device, info);
      try {
        await control.run("endRecovery", {
          stage: "end the recovery",
          deviceId: id,
          data: process.pid,
          deadlineMs: slowDeadlineMs,
        });
      } catch (error) {
        // The device itself stays, for another try.
        threads.leave();
        await threads.ended;
        threads.close();
        await device.closeUblk();
        throw error;
      }
      return new UblkAttachment(control, device, threads, { ...info, state: "live", pid: process.pid });
    } catch (error) {
      control.close();
      throw error;
    }
  }

  /** @throws BlkError BLK_E_UBLK_FEATURE on kernels that cannot give the device another size (before 6.16) */
  refuseResize(): void {
    requireFeatures(this.control, ["updateSize"], "a device that grows while it is attached");
  }

  /** Tells the kernel that the device has another size. @throws BlkError BLK_E_UBLK */
  async resize(sizeBytes: number): Promise<void> {
    await this.control.run("updateSize", {
      stage: "change the device's size",
      deviceId: this.id,
      data: sizeBytes / 512,
    });
    await waitUntilUsable(deviceName(this.id), sizeBytes);
  }

  /**
   * Detaches the device; resolves to who still holds it, which only force leaves behind.
   *
   * @throws BlkError BLK_E_DEVICE_BUSY: it is in use and stays attached. BLK_E_UBLK.
   */
  async detach(isForced: boolean): Promise<string[]> {
    await settleUdev();
    const holders = findHolders(deviceName(this.id));
    if (holders.length > 0 && !isForced) throw busy(this.id, holders);
    this.isStopping = true;
    await this.device.releaseAll().catch(() => {});
    await stop(this.control, this.id, this.threads);
    await this.finish(holders.length > 0);
    return holders;
  }

  /** Lets go of a device that somebody else has stopped. */
  async close(): Promise<void> {
    this.isStopping = true;
    await this.finish(true);
  }

  private async finish(isHeld: boolean): Promise<void> {
    await this.device.closeUblk().catch(() => {});
    this.threads.close();
    await deleteDevice(this.control, this.id, isHeld);
    this.control.close();
  }
}

async function addDevice(control: UblkControl, options: UblkOptions): Promise<DeviceInfo> {
  refuseToUnprivileged(control, options);
  const wanted = wantedFeatures(control, options);
  requireFeatures(control, wanted, "what was asked for");
  const flags = wanted.reduce((sum, name) => sum | Feature[name], Feature.commandEncoding);
  try {
    const { queues, depth, id } = options;
    const { largestRequestBytes } = options.parameters;
    return await control.addDevice({ queues, depth, id, largestRequestBytes, flags });
  } catch (error) {
    if (isRefusal(error, "EEXIST")) {
      throw new BlkError(
        "BLK_E_DEVICE_BUSY",
        `${devicePath(options.id ?? 0)} exists already`,
        "Leave out the number, detach it, or run blkforge cleanup when its server has died",
      );
    }
    if (isRefusal(error, "EPERM") || isRefusal(error, "EACCES")) {
      throw new BlkError(
        "BLK_E_PRIVILEGE",
        "this user may not add ublk devices",
        "Run it with sudo; a container needs --privileged",
      );
    }
    throw error;
  }
}

/** What the driver takes away from unprivileged devices in silence is said here. */
function refuseToUnprivileged(
  { isPrivileged }: UblkControl,
  { copy, recovery, parameters }: UblkOptions,
): void {
  const refused =
    copy === "user"
      ? "--copy user"
      : recovery !== "none"
        ? "--recovery"
        : parameters.zones !== null
          ? "zones"
          : null;
  if (isPrivileged || refused === null) return;
  throw new BlkError(
    "BLK_E_PRIVILEGE",
    `${refused} is for devices of root`,
    "Run it with sudo, or with --copy kernel and neither --recovery nor zones",
  );
}

async function stop(control: UblkControl, id: number, threads: Threads): Promise<void> {
  const failLater = setTimeout(() => threads.fail(), drainDeadlineMs);
  try {
    await control.run("stopDevice", { stage: "stop the device", deviceId: id, deadlineMs: slowDeadlineMs });
  } catch (error) {
    if (!isRefusal(error, "ENODEV")) throw error;
  } finally {
    clearTimeout(failLater);
  }
  await endOfThreads(threads);
}

/** Who still has the device open keeps its number from being free: then the kernel deletes it when they are gone. */
async function deleteDevice(control: UblkControl, id: number, isHeld: boolean): Promise<void> {
  try {
    await control.run(isHeld ? "deleteDeviceLater" : "deleteDevice", {
      stage: "delete the device",
      deviceId: id,
      deadlineMs: slowDeadlineMs,
    });
  } catch (error) {
    // Somebody else was faster.
    if (!isRefusal(error, "ENODEV")) throw error;
  }
}

async function undo(
  control: UblkControl,
  device: AttachedDevice,
  id: number,
  threads: Threads | null,
): Promise<void> {
  // The error that led here is what people have to see.
  try {
    if (threads !== null) {
      threads.fail();
      await stop(control, id, threads);
    }
    await device.closeUblk();
  } catch {
    threads?.leave();
  }
  threads?.close();
  await deleteDevice(control, id, false).catch(() => {});
}

async function beginRecovery(control: UblkControl, id: number): Promise<void> {
  const endMs = performance.now() + recoveryDeadlineMs;
  while (true) {
    try {
      await control.run("startRecovery", { stage: "begin the recovery", deviceId: id });
      return;
    } catch (error) {
      // The old server's threads are still being cleared away.
      if (!isRefusal(error, "EBUSY") || performance.now() > endMs) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

export function busy(id: number, holders: readonly string[]): BlkError {
  return new BlkError(
    "BLK_E_DEVICE_BUSY",
    `${devicePath(id)} is still ${holders.join(", ")}`,
    "Give it up there first, or use --force, which fails their I/O as a pulled cable does",
  );
}

export function noDevice(id: number): BlkError {
  return new BlkError("BLK_E_USAGE", `there is no ublk device ${id}`, "blkforge list shows which there are");
}
