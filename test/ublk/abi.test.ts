/** Bytes the kernel reads, against the layout of include/uapi/linux/ublk_cmd.h. */
import { expect, test } from "vitest";
import { decodeDeviceInfo, encodeDeviceInfo, encodeParameters, Feature } from "../../src/ublk/abi.js";
import { readDeviceId } from "../../src/ublk/names.js";

test("a device's info is 64 bytes, with every field where the kernel has it", () => {
  const bytes = encodeDeviceInfo({
    queues: 4,
    depth: 128,
    largestRequestBytes: 512 * 1024,
    id: 7,
    flags: Feature.userCopy | Feature.commandEncoding,
  });
  expect(bytes).toHaveLength(64);
  const view = new DataView(bytes.buffer);
  expect(view.getUint16(0, true)).toBe(4);
  expect(view.getUint16(2, true)).toBe(128);
  expect(view.getUint32(8, true)).toBe(524288);
  expect(view.getUint32(12, true)).toBe(7);
  expect(view.getBigUint64(24, true)).toBe(0xc0n);

  view.setUint16(4, 2, true);
  view.setInt32(16, 1234, true);
  expect(decodeDeviceInfo(bytes)).toMatchObject({
    id: 7,
    queues: 4,
    depth: 128,
    state: "quiesced",
    pid: 1234,
  });
});

test("parameters carry sizes in sectors and block sizes as powers of two", () => {
  const bytes = encodeParameters({
    sizeBytes: 2 ** 40,
    logicalBlockBytes: 512,
    physicalBlockBytes: 4096,
    largestRequestBytes: 2 ** 20,
    isReadOnly: false,
    isRotational: true,
    hasVolatileCache: true,
    zones: null,
  });
  const view = new DataView(bytes.buffer);
  expect(view.getUint32(0, true)).toBe(112);
  expect(view.getUint32(4, true)).toBe(3);
  expect(view.getUint32(8, true)).toBe(2 | 4 | 8);
  expect([...bytes.subarray(12, 16)]).toEqual([9, 12, 12, 12]);
  expect(view.getUint32(16, true)).toBe(2048);
  expect(view.getBigUint64(24, true)).toBe(2n ** 31n);
  // Discards: the granularity is a block, and more than one segment is refused by the driver.
  expect(view.getUint32(44, true)).toBe(512);
  expect(view.getUint16(56, true)).toBe(1);
});

test("FUA is never promised without a volatile cache, which the driver would ignore", () => {
  const bytes = encodeParameters({
    sizeBytes: 2 ** 20,
    logicalBlockBytes: 4096,
    physicalBlockBytes: 4096,
    largestRequestBytes: 4096,
    isReadOnly: true,
    isRotational: false,
    hasVolatileCache: false,
    zones: null,
  });
  expect(new DataView(bytes.buffer).getUint32(8, true)).toBe(1);
});

test("a device goes by the paths of both its nodes", () => {
  expect(["/dev/ublkb3", "ublkb3", "/dev/ublkc3"].map(readDeviceId)).toEqual([3, 3, 3]);
  expect(["/dev/nbd0", "3", "/dev/ublkb", "/dev/ublkb0p1"].map(readDeviceId)).toEqual([
    null,
    null,
    null,
    null,
  ]);
});
