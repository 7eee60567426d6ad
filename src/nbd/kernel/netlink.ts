/**
 * Netlink messages as bytes: header, generic netlink header, attributes.
 *
 * Everything is in the machine's own byte order and aligned to four bytes. An attribute is a length (its own header
 * included), a type and a value; a nested one has attributes as its value.
 *
 * Source: Linux, `include/uapi/linux/netlink.h` and `genetlink.h`; Documentation/userspace-api/netlink/intro.rst.
 */
import { endianness } from "node:os";

const isLittleEndian = endianness() === "LE";

const messageHeaderBytes = 16;
const genericHeaderBytes = 4;
const attributeHeaderBytes = 4;

/** `nlmsg_flags`. */
export const MessageFlag = Object.freeze({ request: 1, acknowledge: 4 });
/** `nlmsg_type`: an error number, 0 for an acknowledgement. Types below 16 are netlink's own. */
export const errorMessageType = 2;
/** Bits of an attribute's type that are no part of it: nested, and network byte order. */
const attributeTypeMask = 0x3fff;
const nestedFlag = 0x8000;

export interface Attribute {
  type: number;
  value: Uint8Array;
}

/** A generic netlink message. */
export interface Message {
  /** The family's number, which the kernel hands out when the family is registered. */
  type: number;
  /** `MessageFlag`s. */
  flags: number;
  /** Repeated by every answer; 0 in multicasts. */
  sequence: number;
  command: number;
  version: number;
  attributes: readonly Attribute[];
}

/** What comes from the kernel: a message of a family, or the verdict on a request. */
export type Received =
  | { kind: "message"; message: Message }
  | { kind: "verdict"; sequence: number; errno: number };

export function u32(type: number, value: number): Attribute {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, isLittleEndian);
  return { type, value: bytes };
}

/** @param value up to 2^53 */
export function u64(type: number, value: number): Attribute {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), isLittleEndian);
  return { type, value: bytes };
}

/** Text with a zero at its end. */
export function text(type: number, value: string): Attribute {
  return { type, value: Buffer.from(`${value}\0`) };
}

export function nested(type: number, attributes: readonly Attribute[]): Attribute {
  return { type: type | nestedFlag, value: encodeAttributes(attributes) };
}

export function readU32(value: Uint8Array): number {
  return viewOf(value).getUint32(0, isLittleEndian);
}

export function readU16(value: Uint8Array): number {
  return viewOf(value).getUint16(0, isLittleEndian);
}

export function readText(value: Uint8Array): string {
  const end = value.indexOf(0);
  return Buffer.from(value.subarray(0, end < 0 ? value.length : end)).toString();
}

/** The value of the first attribute of this type. */
export function find(attributes: readonly Attribute[], type: number): Uint8Array | undefined {
  return attributes.find((attribute) => attribute.type === type)?.value;
}

export function encodeMessage(message: Message): Uint8Array {
  const body = encodeAttributes(message.attributes);
  const bytes = new Uint8Array(messageHeaderBytes + genericHeaderBytes + body.length);
  const view = viewOf(bytes);
  view.setUint32(0, bytes.length, isLittleEndian);
  view.setUint16(4, message.type, isLittleEndian);
  view.setUint16(6, message.flags, isLittleEndian);
  view.setUint32(8, message.sequence, isLittleEndian);
  // The sender's address at 12 stays 0: the kernel knows who sent it.
  view.setUint8(16, message.command);
  view.setUint8(17, message.version);
  bytes.set(body, messageHeaderBytes + genericHeaderBytes);
  return bytes;
}

/** The messages of one datagram. A malformed rest is dropped: the kernel sends none. */
export function decodeMessages(datagram: Uint8Array): Received[] {
  const received: Received[] = [];
  const view = viewOf(datagram);
  for (let at = 0; at + messageHeaderBytes <= datagram.length; ) {
    const lengthBytes = view.getUint32(at, isLittleEndian);
    if (lengthBytes < messageHeaderBytes + genericHeaderBytes || at + lengthBytes > datagram.length) break;
    const type = view.getUint16(at + 4, isLittleEndian);
    const sequence = view.getUint32(at + 8, isLittleEndian);
    const bodyAt = at + messageHeaderBytes + genericHeaderBytes;
    if (type === errorMessageType) {
      // The error number stands where the generic header would; it is negative, as in the kernel.
      received.push({ kind: "verdict", sequence, errno: 0 - view.getInt32(bodyAt - 4, isLittleEndian) });
    } else {
      const message = {
        type,
        flags: view.getUint16(at + 6, isLittleEndian),
        sequence,
        command: view.getUint8(bodyAt - 4),
        version: view.getUint8(bodyAt - 3),
        attributes: decodeAttributes(datagram.subarray(bodyAt, at + lengthBytes)),
      };
      received.push({ kind: "message", message });
    }
    at += align(lengthBytes);
  }
  return received;
}

/** Also for the value of a nested attribute. */
export function decodeAttributes(bytes: Uint8Array): Attribute[] {
  const attributes: Attribute[] = [];
  const view = viewOf(bytes);
  for (let at = 0; at + attributeHeaderBytes <= bytes.length; ) {
    const lengthBytes = view.getUint16(at, isLittleEndian);
    if (lengthBytes < attributeHeaderBytes || at + lengthBytes > bytes.length) break;
    const type = view.getUint16(at + 2, isLittleEndian) & attributeTypeMask;
    attributes.push({ type, value: bytes.subarray(at + attributeHeaderBytes, at + lengthBytes) });
    at += align(lengthBytes);
  }
  return attributes;
}

function encodeAttributes(attributes: readonly Attribute[]): Uint8Array {
  const lengthBytes = attributes.reduce(
    (sum, { value }) => sum + attributeHeaderBytes + align(value.length),
    0,
  );
  const bytes = new Uint8Array(lengthBytes);
  const view = viewOf(bytes);
  let at = 0;
  for (const { type, value } of attributes) {
    view.setUint16(at, attributeHeaderBytes + value.length, isLittleEndian);
    view.setUint16(at + 2, type, isLittleEndian);
    bytes.set(value, at + attributeHeaderBytes);
    at += attributeHeaderBytes + align(value.length);
  }
  return bytes;
}

function align(lengthBytes: number): number {
  return (lengthBytes + 3) & ~3;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
