/**
 * A device attached to this machine's kernel: set up over netlink, kept connected, resized, and detached.
 *
 * The kernel gets one end of a socket pair per connection, the device serves the other. When a connection dies (the
 * kernel gave a request up after its timeout, the server cut it off) a new pair takes its place. The driver takes a
 * socket only for a connection it knows to be dead, and silently drops it otherwise; a dropped one ends at once, so
 * trying again until all live is all there is to it. LINK_DEAD tells when trying is worth it.
 *
 * When the kernel takes its leave (DISC) somebody has detached the device, and it stays so.
 */
import { closeSync } from "node:fs";
import { applySettings, type QueueSettings, waitUntilUsable } from "../../linux/block-device.js";
import { TransmissionFlag } from "../constants.js";
import type { NbdLogger } from "../logger.js";
import { deviceName, devicePath } from "./block-device.js";
import { detachDevice } from "./detach.js";
import { NbdDriver } from "./nbd-driver.js";
import { Watchdog } from "./watchdog.js";

/** How a connection ended: whether the kernel took its leave. */
export interface LinkEnd {
  hasDisconnected: boolean;
}

export interface NewLinks {
  /** The kernel's ends, to be closed here once the kernel has them. */
  sockets: number[];
  transmissionFlags: number;
  sizeBytes: number;
}

/** Who makes connections to a device, and says when one ends. */
export interface KernelLinkSource {
  /** Makes as many as are missing to `wanted` live ones. */
  open(wanted: number): Promise<NewLinks>;
  /** How the next one ended. */
  nextEnd(): Promise<LinkEnd>;
}

export interface AttachOptions extends QueueSettings {
  /** n of /dev/nbdn; null lets the kernel take a free one. */
  index: number | null;
  connections: number;
  blockSizeBytes: number;
  /** Seconds after which the kernel gives a connection up that does not answer; 0 means never. */
  timeoutSeconds: number;
  /** Seconds the kernel lets requests wait for a new connection when it has none. */
  deadConnectionSeconds: number;
}

/**
 * With several connections the driver takes "no timeout" for 30 s (`nbd_xmit_timeout` asks for the number of
 * connections first). This many seconds, eleven days, are never and still fit its 32-bit count of ticks.
 */
const neverSeconds = 1_000_000;

/** The flags the kernel's client knows. */
const kernelFlags =
  TransmissionFlag.hasFlags |
  TransmissionFlag.readOnly |
  TransmissionFlag.sendFlush |
  TransmissionFlag.sendFua |
  TransmissionFlag.rotational |
  TransmissionFlag.sendTrim |
  TransmissionFlag.sendWriteZeroes |
  TransmissionFlag.canMultiConn;

/** Pauses between attempts to reconnect, doubled each time up to the longest; from the first again after a quiet time. */
const firstPauseMs = 20;
const longestPauseMs = 1_000;
const quietMs = 5_000;

interface AttachmentParts {
  driver: NbdDriver;
  watchdog: Watchdog;
  index: number;
  links: KernelLinkSource;
  connections: number;
  deaths: LinkDeaths;
  log: NbdLogger;
}

export class KernelAttachment {
  /** Such as "/dev/nbd0". */
  readonly path: string;
  /** Connections made anew since the start. */
  reconnections = 0;
  /** Resolves when somebody else has detached the device; rejects when it can be served no longer. */
  readonly ended: Promise<void>;

  private isDetaching = false;
  private pauseMs = firstPauseMs;
  private lastRepairMs = Number.NEGATIVE_INFINITY;

  private readonly driver: NbdDriver;
  private readonly watchdog: Watchdog;
  private readonly index: number;
  private readonly links: KernelLinkSource;
  private readonly connections: number;
  private readonly deaths: LinkDeaths;
  private readonly log: NbdLogger;

  private constructor(parts: AttachmentParts) {
    this.driver = parts.driver;
    this.watchdog = parts.watchdog;
    this.index = parts.index;
    this.links = parts.links;
    this.connections = parts.connections;
    this.deaths = parts.deaths;
    this.log = parts.log;
    this.path = devicePath(this.index);
    this.ended = this.keepConnected();
    // Who does not wait for it is told by the end of the device itself.
    this.ended.catch(() => {});
  }

  /**
   * Attaches a device and resolves when it can be used.
   *
   * @throws BlkError BLK_E_NBD_MODULE, BLK_E_PRIVILEGE, BLK_E_DEVICE_BUSY, BLK_E_ATTACH, BLK_E_USAGE; the kernel has
   * nothing of it then.
   */
  static async create(
    links: KernelLinkSource,
    options: AttachOptions,
    log: NbdLogger,
  ): Promise<KernelAttachment> {
    const deaths = new LinkDeaths();
    const driver = await NbdDriver.open((index) => deaths.tell(index));
    try {
      const { sockets, sizeBytes, transmissionFlags } = await links.open(options.connections);
      const timeoutSeconds =
        options.timeoutSeconds === 0 && options.connections > 1 ? neverSeconds : options.timeoutSeconds;
      const index = await handOver(sockets, () =>
        driver.connect({
          index: options.index,
          sizeBytes,
          blockSizeBytes: options.blockSizeBytes,
          timeoutSeconds,
          deadConnectionSeconds: options.deadConnectionSeconds,
          serverFlags: transmissionFlags & kernelFlags,
          sockets,
        }),
      );
      let watchdog: Watchdog | null = null;
      try {
        watchdog = await Watchdog.start(index);
        await waitUntilUsable(deviceName(index), sizeBytes);
        applySettings(deviceName(index), options);
      } catch (error) {
        await driver.disconnect(index);
        await watchdog?.dismiss();
        throw error;
      }
      return new KernelAttachment({
        driver,
        watchdog,
        index,
        links,
        deaths,
        log,
        connections: options.connections,
      });
    } catch (error) {
      driver.close();
      throw error;
    }
  }

  /** Every kernel's client takes another size. */
  refuseResize(): void {}

  /** Tells the kernel that the device has another size; programs see it at once. */
  async resize(sizeBytes: number): Promise<void> {
    await this.driver.reconfigure(this.index, { sizeBytes });
    await waitUntilUsable(deviceName(this.index), sizeBytes);
  }

  /**
   * Detaches the device; resolves to who still holds it, which only force leaves behind.
   *
   * @throws BlkError BLK_E_DEVICE_BUSY: it is in use, stays attached and is served on. BLK_E_ATTACH.
   */
  async detach(isForced: boolean): Promise<string[]> {
    this.isDetaching = true;
    try {
      const holders = await detachDevice(this.driver, this.index, isForced);
      await this.close();
      return holders;
    } catch (error) {
      this.isDetaching = false;
      throw error;
    }
  }

  /** Ends the conversation with the driver, for a device that somebody else has detached. */
  async close(): Promise<void> {
    this.isDetaching = true;
    await this.watchdog.dismiss();
    this.driver.close();
  }

  private async keepConnected(): Promise<void> {
    while (true) {
      const { hasDisconnected } = await this.links.nextEnd();
      // Our own detaching ends as this does; who called it knows.
      if (hasDisconnected) return;
      if (this.isDetaching) continue;
      if (!(await this.repair())) return;
    }
  }

  /** Puts new connections in the place of dead ones; false when the device is attached no longer. */
  private async repair(): Promise<boolean> {
    const nowMs = performance.now();
    this.pauseMs =
      nowMs - this.lastRepairMs > quietMs ? firstPauseMs : Math.min(this.pauseMs * 2, longestPauseMs);
    await this.deaths.next(this.index, this.pauseMs);
    this.lastRepairMs = performance.now();
    if (this.isDetaching) return false;
    const { sockets } = await this.links.open(this.connections);
    if (sockets.length === 0) return true;
    try {
      await handOver(sockets, () => this.driver.reconfigure(this.index, { sockets }));
    } catch (error) {
      if (this.isDetaching || !(await this.driver.isConnected(this.index))) return false;
      throw error;
    }
    this.reconnections += sockets.length;
    this.log.warn({ device: this.path }, `reconnected ${sockets.length} of ${this.connections} connections`);
    return true;
  }
}

/** The kernel takes references of its own: ours are closed whether it took them or not. */
async function handOver<T>(sockets: readonly number[], work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } finally {
    for (const fd of sockets) closeSync(fd);
  }
}

/** LINK_DEAD messages, for one who waits. */
class LinkDeaths {
  private readonly waiting = new Map<number, () => void>();

  tell(index: number): void {
    this.waiting.get(index)?.();
  }

  /** Resolves at the next death of a connection of the device, or after the pause. */
  next(index: number, pauseMs: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.waiting.delete(index);
        resolve();
      };
      const timer = setTimeout(end, pauseMs);
      this.waiting.set(index, end);
    });
  }
}
