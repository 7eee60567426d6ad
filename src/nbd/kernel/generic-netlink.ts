/**
 * A conversation with one generic netlink family of the kernel: requests with their answers, and multicasts.
 *
 * The kernel knows families by number and hands the number out by name, through the family "nlctrl", which alone has a
 * fixed one. A request carries a sequence number and asks for a verdict; what the command answers, if anything, comes
 * before it.
 *
 * Source: Linux, `include/uapi/linux/genetlink.h`; Documentation/userspace-api/netlink/intro.rst.
 */
import { getSystemErrorName } from "node:util";
import { BlkError } from "../../base/errors.js";
import { loadNative, type NativeNetlinkSocket } from "../../base/native.js";
import {
  type Attribute,
  decodeAttributes,
  decodeMessages,
  encodeMessage,
  find,
  type Message,
  MessageFlag,
  readText,
  readU16,
  readU32,
  text,
} from "./netlink.js";

/** `GENL_ID_CTRL`, and what is asked of it: `CTRL_CMD_GETFAMILY`. */
const controlFamily = { type: 16, version: 2, getFamily: 3 } as const;
/** `CTRL_ATTR_*` and, nested in the groups, `CTRL_ATTR_MCAST_GRP_*`. */
const ControlAttribute = Object.freeze({ familyId: 1, familyName: 2, multicastGroups: 7 });
const GroupAttribute = Object.freeze({ name: 1, id: 2 });

/** The kernel has refused a request. */
export class NetlinkError extends Error {
  constructor(
    readonly errno: number,
    readonly errorName: string,
  ) {
    super(`the kernel answered ${errorName}`);
  }
}

/** A request as its sender describes it. */
export interface Request {
  command: number;
  attributes: readonly Attribute[];
  /**
   * The kernel carries a request out while it is being sent, on the sender's thread. In the background that thread is
   * another one; the kernel notes its number as the owner of what it sets up.
   */
  isInBackground: boolean;
}

interface Pending {
  answer: Message | undefined;
  resolve: (answer: Message | undefined) => void;
  reject: (error: Error) => void;
}

export class GenericNetlink {
  private readonly socket: NativeNetlinkSocket;
  private readonly pending = new Map<number, Pending>();
  private nextSequence = 1;
  private familyType = 0;

  private constructor(
    private readonly version: number,
    private readonly onMulticast: (message: Message) => void,
  ) {
    const { NetlinkSocket } = loadNative();
    if (NetlinkSocket === undefined) {
      throw new BlkError(
        "BLK_E_NBD_MODULE",
        `${process.platform} has no NBD client in its kernel`,
        "Use Linux, or serve the device to a client in user space: blkforge serve",
      );
    }
    this.socket = new NetlinkSocket((datagram) => this.onDatagram(datagram));
  }

  /**
   * Opens a conversation with the family and joins its multicast group.
   *
   * @returns null when the kernel has no such family: its module is not loaded.
   */
  static async open(
    family: { name: string; version: number; group: string },
    onMulticast: (message: Message) => void,
  ): Promise<GenericNetlink | null> {
    const netlink = new GenericNetlink(family.version, onMulticast);
    try {
      await netlink.findFamily(family);
      return netlink;
    } catch (error) {
      netlink.close();
      if (error instanceof NetlinkError && error.errorName === "ENOENT") return null;
      throw error;
    }
  }

  /**
   * Resolves to what the command answered, if anything, when the kernel has carried it out.
   *
   * @throws NetlinkError
   */
  request({ command, attributes, isInBackground }: Request): Promise<Message | undefined> {
    return this.exchange(
      { type: this.familyType, version: this.version, command, attributes },
      isInBackground,
    );
  }

  /** Requests under way are rejected; the kernel may carry them out nevertheless. */
  close(): void {
    this.socket.close();
    for (const { reject } of this.pending.values()) reject(new Error("the netlink socket was closed"));
    this.pending.clear();
  }

  private async findFamily({ name, group }: { name: string; group: string }): Promise<void> {
    const { type, version, getFamily: command } = controlFamily;
    const attributes = [text(ControlAttribute.familyName, name)];
    const family = (await this.exchange({ type, version, command, attributes }, false))?.attributes ?? [];
    const id = find(family, ControlAttribute.familyId);
    if (id === undefined) throw new Error(`the kernel does not say the number of the family "${name}"`);
    this.familyType = readU16(id);
    for (const { value } of decodeAttributes(
      find(family, ControlAttribute.multicastGroups) ?? new Uint8Array(),
    )) {
      const fields = decodeAttributes(value);
      const groupId = find(fields, GroupAttribute.id);
      if (groupId === undefined || readText(find(fields, GroupAttribute.name) ?? groupId) !== group) continue;
      const errno = this.socket.joinGroup(readU32(groupId));
      if (errno !== 0) throw toError(errno);
    }
  }

  private exchange(
    message: Pick<Message, "type" | "version" | "command" | "attributes">,
    isInBackground: boolean,
  ): Promise<Message | undefined> {
    const sequence = this.nextSequence++;
    const flags = MessageFlag.request | MessageFlag.acknowledge;
    const bytes = encodeMessage({ ...message, flags, sequence });
    return new Promise((resolve, reject) => {
      this.pending.set(sequence, { answer: undefined, resolve, reject });
      const onSent = (errno: number): void => {
        if (errno !== 0) this.settle(sequence, errno);
      };
      if (isInBackground) this.socket.sendInBackground(bytes, onSent);
      else onSent(this.socket.send(bytes));
    });
  }

  private onDatagram(datagram: Uint8Array): void {
    for (const received of decodeMessages(datagram)) {
      if (received.kind === "verdict") {
        this.settle(received.sequence, received.errno);
      } else if (received.message.sequence === 0) {
        this.onMulticast(received.message);
      } else {
        const pending = this.pending.get(received.message.sequence);
        if (pending !== undefined) pending.answer = received.message;
      }
    }
  }

  private settle(sequence: number, errno: number): void {
    const pending = this.pending.get(sequence);
    if (pending === undefined) return;
    this.pending.delete(sequence);
    if (errno === 0) pending.resolve(pending.answer);
    else pending.reject(toError(errno));
  }
}

function toError(errno: number): NetlinkError {
  return new NetlinkError(errno, getSystemErrorName(-errno));
}
