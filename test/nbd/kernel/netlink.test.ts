/** Netlink messages byte by byte, as a little-endian kernel takes and sends them. */
import { endianness } from "node:os";
import { describe, expect, test } from "vitest";
import { connectRequest, readStatus, reconfigureRequest } from "../../../src/nbd/kernel/nbd-driver.js";
import {
  decodeAttributes,
  decodeMessages,
  encodeMessage,
  find,
  nested,
  readText,
  text,
  u32,
  u64,
} from "../../../src/nbd/kernel/netlink.js";

const bytesOf = (hex: string) => new Uint8Array(Buffer.from(hex.replaceAll(/\s/g, ""), "hex"));
const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

const family = 0x21;

function encoded(request: ReturnType<typeof connectRequest>): string {
  const { command, attributes } = request;
  return hexOf(encodeMessage({ type: family, flags: 5, sequence: 7, version: 1, command, attributes }));
}

describe.runIf(endianness() === "LE")("netlink messages", () => {
  test("a CONNECT of /dev/nbd3 with two sockets is these bytes", () => {
    const request = connectRequest({
      index: 3,
      sizeBytes: 2 ** 30,
      blockSizeBytes: 4096,
      timeoutSeconds: 30,
      deadConnectionSeconds: 10,
      serverFlags: 0x16d,
      sockets: [23, 25],
    });
    expect(encoded(request)).toBe(
      hexOf(
        bytesOf(`
          74000000 2100 0500 07000000 00000000
          01 01 0000
          0800 0100 03000000
          0c00 0200 0000004000000000
          0c00 0300 0010000000000000
          0c00 0400 1e00000000000000
          0c00 0800 0a00000000000000
          0c00 0500 6d01000000000000
          1c00 0780
            0c00 0180 0800 0100 17000000
            0c00 0180 0800 0100 19000000`),
      ),
    );
  });

  test("without an index the kernel chooses", () => {
    const request = connectRequest({
      index: null,
      sizeBytes: 512,
      blockSizeBytes: 512,
      timeoutSeconds: 0,
      deadConnectionSeconds: 0,
      serverFlags: 1,
      sockets: [4],
    });
    expect(request.attributes.map(({ type }) => type & 0x3fff)).not.toContain(1);
  });

  test("a RECONFIGURE carries only what changes", () => {
    expect(encoded(reconfigureRequest(0, { sizeBytes: 2 ** 31 }))).toBe(
      hexOf(
        bytesOf(
          `28000000 2100 0500 07000000 00000000 03 01 0000 0800 0100 00000000 0c00 0200 0000008000000000`,
        ),
      ),
    );
    const { attributes } = reconfigureRequest(0, { sockets: [9] });
    expect(attributes.map(({ type }) => type & 0x3fff)).toEqual([1, 7]);
  });

  test("a STATUS answer tells which devices are connected", () => {
    const [received] = decodeMessages(
      bytesOf(`
        40000000 2100 0000 07000000 05000000
        05 01 0000
        2c00 0900
          1400 0100 0800 0100 00000000 0500 0200 00 000000
          1400 0100 0800 0100 01000000 0500 0200 01 000000`),
    );
    if (received?.kind !== "message") throw new Error("no message");
    expect([...readStatus(received.message.attributes)]).toEqual([
      [0, false],
      [1, true],
    ]);
  });

  test("a LINK_DEAD multicast has sequence 0 and the device's index", () => {
    const [received] = decodeMessages(
      bytesOf(`1c000000 2100 0000 00000000 00000000 04 01 0000 0800 0100 05000000`),
    );
    if (received?.kind !== "message") throw new Error("no message");
    expect(received.message).toMatchObject({ sequence: 0, command: 4 });
    expect(hexOf(find(received.message.attributes, 1)!)).toBe("05000000");
  });

  test("an answer and its acknowledgement may share a datagram; an error is a positive errno", () => {
    const answer = "1c000000 2100 0000 07000000 05000000 01 01 0000 0800 0100 02000000";
    const acknowledgement =
      "24000000 0200 0001 07000000 05000000 00000000 88000000 2100 0500 07000000 00000000";
    const refusal = "24000000 0200 0000 08000000 05000000 f0ffffff 88000000 2100 0500 08000000 00000000";
    const received = decodeMessages(bytesOf(answer + acknowledgement + refusal));
    expect(received.map(({ kind }) => kind)).toEqual(["message", "verdict", "verdict"]);
    expect(received[1]).toEqual({ kind: "verdict", sequence: 7, errno: 0 });
    expect(received[2]).toEqual({ kind: "verdict", sequence: 8, errno: 16 });
  });
});

test("attributes of any length come back as they were", () => {
  const attributes = [u32(1, 0xffffffff), text(2, "nbd"), u64(3, 2 ** 53 - 1), text(4, "")];
  const [wrapped] = decodeAttributes(
    encodeMessage({
      type: 1,
      flags: 0,
      sequence: 1,
      command: 1,
      version: 1,
      attributes: [nested(9, attributes)],
    }).subarray(20),
  );
  expect(wrapped?.type).toBe(9);
  const inner = decodeAttributes(wrapped!.value);
  expect(inner.map(({ type, value }) => [type, hexOf(value)])).toEqual(
    attributes.map(({ type, value }) => [type, hexOf(value)]),
  );
  expect(readText(inner[1]!.value)).toBe("nbd");
});

test("cut and lying lengths end the parsing without reading beyond the end", () => {
  const whole = encodeMessage({
    type: 33,
    flags: 0,
    sequence: 1,
    command: 1,
    version: 1,
    attributes: [u32(1, 7), text(2, "text")],
  });
  for (let length = 0; length < whole.length; length++) {
    expect(decodeMessages(whole.subarray(0, length))).toEqual([]);
  }
  const lying = Uint8Array.from(whole);
  lying[20] = 200;
  const [received] = decodeMessages(lying);
  expect(received?.kind === "message" && received.message.attributes).toEqual([]);
});
