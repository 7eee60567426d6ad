/**
 * The kernel's NBD driver, over generic netlink: connect a device to sockets, change it, disconnect it, and hear when a
 * connection has died.
 *
 * The sockets are handed over in the transmission phase: the kernel does no handshake, it is told size and flags.
 * Timeouts are whole seconds. What the driver does with them is told in docs/attach.md.
 *
 * Source: Linux, `include/uapi/linux/nbd-netlink.h` and `drivers/block/nbd.c`.
 */
import { spawn } from "node:child_process";
import { BlkError } from "../../base/errors.js";
import { GenericNetlink, NetlinkError, type Request } from "./generic-netlink.js";
import {
  type Attribute,
  decodeAttributes,
  find,
  type Message,
  nested,
  readU32,
  u32,
  u64,
} from "./netlink.js";

export const nbdFamily = Object.freeze({ name: "nbd", version: 1, group: "nbd_mc_group" });

/** `NBD_CMD_*`. */
export const NbdCommand = Object.freeze({
  connect: 1,
  disconnect: 2,
  reconfigure: 3,
  linkDead: 4,
  status: 5,
});
/** `NBD_ATTR_*`. */
export const NbdAttribute = Object.freeze({
  index: 1,
  sizeBytes: 2,
  blockSizeBytes: 3,
  timeout: 4,
  serverFlags: 5,
  clientFlags: 6,
  sockets: 7,
  deadConnectionTimeout: 8,
  deviceList: 9,
});
/** `NBD_SOCK_ITEM`, `NBD_SOCK_FD`, `NBD_DEVICE_ITEM`, `NBD_DEVICE_INDEX`, `NBD_DEVICE_CONNECTED`. */
export const NestedAttribute = Object.freeze({
  socketItem: 1,
  socketFd: 1,
  deviceItem: 1,
  deviceIndex: 1,
  deviceConnected: 2,
});

/** A device as the kernel is to set it up. */
export interface DeviceSetup {
  /** n of /dev/nbdn; null lets the kernel take a free one, or make one. */
  index: number | null;
  sizeBytes: number;
  blockSizeBytes: number;
  /** After this a request counts as lost, its connection as dead; 0 is the driver's own behaviour without one. */
  timeoutSeconds: number;
  /** How long requests wait for a new connection when all have died. */
  deadConnectionSeconds: number;
  /** The export's transmission flags. */
  serverFlags: number;
  /** Connected stream sockets, one per connection. The kernel keeps its own reference. */
  sockets: readonly number[];
}

/** The changes the driver allows while a device is in use. */
export interface DeviceChange {
  sizeBytes?: number;
  /** Each takes the place of a dead connection; those there is no place for are let go at once. */
  sockets?: readonly number[];
}

/** A module that takes longer to load will not come. */
const modprobeDeadlineMs = 20_000;

export class NbdDriver {
  private constructor(private readonly netlink: GenericNetlink) {}

  /**
   * Finds the driver, loading its module when it is not there.
   *
   * @param onLinkDead called with the number of the device one of whose connections has died
   * @throws BlkError BLK_E_NBD_MODULE
   */
  static async open(onLinkDead: (index: number) => void = () => {}): Promise<NbdDriver> {
    const onMulticast = ({ command, attributes }: Message): void => {
      const index = find(attributes, NbdAttribute.index);
      if (command === NbdCommand.linkDead && index !== undefined) onLinkDead(readU32(index));
    };
    let netlink = await GenericNetlink.open(nbdFamily, onMulticast);
    if (netlink === null) {
      const reason = await loadModule("nbd");
      netlink = await GenericNetlink.open(nbdFamily, onMulticast);
      if (netlink === null) throw noDriver(reason);
    }
    return new NbdDriver(netlink);
  }

  /**
   * Sets a device up; it is usable soon after. Resolves to its number.
   *
   * @throws BlkError BLK_E_PRIVILEGE, BLK_E_DEVICE_BUSY, BLK_E_ATTACH
   */
  async connect(setup: DeviceSetup): Promise<number> {
    // Not in the background: the kernel shows the sender in /sys/block/nbdN/pid, and that should be this process.
    const answer = await this.request(connectRequest(setup), nameOf(setup.index));
    const index = find(answer?.attributes ?? [], NbdAttribute.index);
    if (index === undefined)
      throw new BlkError("BLK_E_ATTACH", "the kernel does not say which device it took");
    return readU32(index);
  }

  /** @throws BlkError BLK_E_ATTACH when the device is not connected */
  async reconfigure(index: number, change: DeviceChange): Promise<void> {
    await this.request(reconfigureRequest(index, change), nameOf(index));
  }

  /** Ends all connections and fails what is in flight; resolves when that is done. A free device is left as it is. */
  async disconnect(index: number): Promise<void> {
    const attributes = [u32(NbdAttribute.index, index)];
    const request = { command: NbdCommand.disconnect, attributes, isInBackground: true };
    await this.request(request, nameOf(index));
  }

  /** Whether the device is connected, or held open after its end. False as well for one that does not exist. */
  async isConnected(index: number): Promise<boolean> {
    const attributes = [u32(NbdAttribute.index, index)];
    const request = { command: NbdCommand.status, attributes, isInBackground: true };
    const answer = await this.request(request, nameOf(index));
    return readStatus(answer?.attributes ?? []).get(index) ?? false;
  }

  close(): void {
    this.netlink.close();
  }

  private async request(request: Request, device: string): Promise<Message | undefined> {
    try {
      return await this.netlink.request(request);
    } catch (error) {
      throw error instanceof NetlinkError ? explain(error, device) : error;
    }
  }
}

export function connectRequest(setup: DeviceSetup): Request {
  const attributes = [
    ...(setup.index === null ? [] : [u32(NbdAttribute.index, setup.index)]),
    u64(NbdAttribute.sizeBytes, setup.sizeBytes),
    u64(NbdAttribute.blockSizeBytes, setup.blockSizeBytes),
    u64(NbdAttribute.timeout, setup.timeoutSeconds),
    u64(NbdAttribute.deadConnectionTimeout, setup.deadConnectionSeconds),
    u64(NbdAttribute.serverFlags, setup.serverFlags),
    socketList(setup.sockets),
  ];
  return { command: NbdCommand.connect, attributes, isInBackground: false };
}

export function reconfigureRequest(index: number, { sizeBytes, sockets }: DeviceChange): Request {
  const attributes = [
    u32(NbdAttribute.index, index),
    ...(sizeBytes === undefined ? [] : [u64(NbdAttribute.sizeBytes, sizeBytes)]),
    ...(sockets === undefined ? [] : [socketList(sockets)]),
  ];
  return { command: NbdCommand.reconfigure, attributes, isInBackground: true };
}

/** From a STATUS answer: which devices there are, and whether each is connected. */
export function readStatus(attributes: readonly Attribute[]): Map<number, boolean> {
  const devices = new Map<number, boolean>();
  for (const { value } of decodeAttributes(find(attributes, NbdAttribute.deviceList) ?? new Uint8Array())) {
    const fields = decodeAttributes(value);
    const index = find(fields, NestedAttribute.deviceIndex);
    const connected = find(fields, NestedAttribute.deviceConnected);
    if (index !== undefined) devices.set(readU32(index), connected?.[0] === 1);
  }
  return devices;
}

function socketList(sockets: readonly number[]): Attribute {
  const items = sockets.map((fd) => nested(NestedAttribute.socketItem, [u32(NestedAttribute.socketFd, fd)]));
  return nested(NbdAttribute.sockets, items);
}

function nameOf(index: number | null): string {
  return index === null ? "a free device" : `/dev/nbd${index}`;
}

function explain({ errorName }: NetlinkError, device: string): BlkError {
  switch (errorName) {
    case "EPERM":
      return new BlkError(
        "BLK_E_PRIVILEGE",
        `only root may attach or detach ${device} (CAP_SYS_ADMIN in the first user namespace)`,
        "Run it with sudo",
      );
    case "EBUSY":
      return new BlkError(
        "BLK_E_DEVICE_BUSY",
        `${device} is in use already`,
        "Take --nbd auto, or detach it first: blkforge detach",
      );
    default:
      return new BlkError(
        "BLK_E_ATTACH",
        `the kernel refused to set up ${device}: ${errorName}`,
        "The kernel's log may say more: dmesg | tail",
      );
  }
}

/** Resolves to what went wrong, in words; the empty text when the module has been loaded. */
function loadModule(name: string): Promise<string> {
  return new Promise((resolve) => {
    const path = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`;
    const child = spawn("modprobe", [name], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, PATH: path },
      timeout: modprobeDeadlineMs,
    });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    child.once("error", (error) => resolve(`modprobe cannot be run: ${error.message}`));
    child.once("close", (status) =>
      resolve(status === 0 ? "" : said.trim() || `modprobe ended with status ${status}`),
    );
  });
}

function noDriver(reason: string): BlkError {
  return new BlkError(
    "BLK_E_NBD_MODULE",
    `the kernel has no NBD driver, and it cannot be loaded${reason === "" ? "" : ` (${reason.split("\n")[0]})`}`,
    "blkforge doctor says what is missing. A VM with one needs no root: blkforge lab exec --device PROFILE -- COMMAND",
  );
}
