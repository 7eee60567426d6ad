/**
 * What is said to the kernel's ublk driver, as numbers and bytes: control commands, features, a device's parameters.
 *
 * Commands are the ioctl-encoded ones, which every kernel since 6.4 takes; older numbers may have been compiled out.
 * The queues' own commands are in `native/ublk/abi.h`.
 *
 * Source: Linux, include/uapi/linux/ublk_cmd.h, as of 6.12 and 7.3.
 */
import type { ZoneLayout } from "../base/zone.js";

/** `UBLK_U_CMD_*`. */
export const Command = Object.freeze({
  getQueueAffinity: 0x80207501,
  getDeviceInfo: 0x80207502,
  addDevice: 0xc0207504,
  deleteDevice: 0xc0207505,
  startDevice: 0xc0207506,
  stopDevice: 0xc0207507,
  setParameters: 0xc0207508,
  getParameters: 0x80207509,
  startRecovery: 0xc0207510,
  endRecovery: 0xc0207511,
  getFeatures: 0x80207513,
  deleteDeviceLater: 0x80207514,
  updateSize: 0xc0207515,
  quiesce: 0xc0207516,
});
export type CommandName = keyof typeof Command;

/** Bits of a device's flags and of the driver's feature word, `UBLK_F_*`. Below 2^31, so plain numbers do. */
export const Feature = Object.freeze({
  needGetData: 1 << 2,
  userRecovery: 1 << 3,
  userRecoveryReissue: 1 << 4,
  unprivileged: 1 << 5,
  commandEncoding: 1 << 6,
  userCopy: 1 << 7,
  zoned: 1 << 8,
  userRecoveryFailIo: 1 << 9,
  updateSize: 1 << 10,
  autoBufferRegistration: 1 << 11,
  quiesce: 1 << 12,
  perIoDaemon: 1 << 13,
  batchIo: 1 << 15,
  safeStop: 1 << 17,
  noAutoPartitionScan: 1 << 18,
});
export type FeatureName = keyof typeof Feature;

/** `UBLK_S_DEV_*`. */
export const deviceStates = ["dead", "live", "quiesced", "fail-io"] as const;
export type DeviceState = (typeof deviceStates)[number];

/** ADD_DEV: the kernel shall choose the number. */
export const anyDevice = 0xffffffff;
/** The queue of commands that are about none. */
export const noQueue = 0xffff;

export const limits = Object.freeze({ queues: 4096, depth: 4096, requestBytes: 32 * 2 ** 20 });

const sectorBytes = 512;

/** `struct ublksrv_ctrl_dev_info`. */
export interface DeviceInfo {
  queues: number;
  depth: number;
  state: DeviceState;
  largestRequestBytes: number;
  id: number;
  /** Of the server; -1 when there is none. */
  pid: number;
  flags: number;
  ownerUid: number;
}

const deviceInfoBytes = 64;

/** For ADD_DEV: what is wanted, and in the answer what was granted. */
export function encodeDeviceInfo(
  info: Pick<DeviceInfo, "queues" | "depth" | "largestRequestBytes" | "id" | "flags">,
): Uint8Array {
  const bytes = new Uint8Array(deviceInfoBytes);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, info.queues, true);
  view.setUint16(2, info.depth, true);
  view.setUint32(8, info.largestRequestBytes, true);
  view.setUint32(12, info.id, true);
  view.setInt32(16, -1, true);
  view.setBigUint64(24, BigInt(info.flags), true);
  return bytes;
}

export function decodeDeviceInfo(bytes: Uint8Array): DeviceInfo {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    queues: view.getUint16(0, true),
    depth: view.getUint16(2, true),
    state: deviceStates[view.getUint16(4, true)] ?? "dead",
    largestRequestBytes: view.getUint32(8, true),
    id: view.getUint32(12, true),
    pid: view.getInt32(16, true),
    flags: Number(view.getBigUint64(24, true)),
    ownerUid: view.getUint32(40, true),
  };
}

/** What the block layer is to know of a device. */
export interface DeviceParameters {
  sizeBytes: number;
  logicalBlockBytes: number;
  physicalBlockBytes: number;
  largestRequestBytes: number;
  isReadOnly: boolean;
  isRotational: boolean;
  hasVolatileCache: boolean;
  zones: Pick<ZoneLayout, "zoneBytes" | "maxOpen" | "maxActive" | "maxAppendBytes"> | null;
}

const parametersBytes = 112;
const ParameterType = Object.freeze({ basic: 1, discard: 2, zoned: 8 });
const Attribute = Object.freeze({ readOnly: 1, rotational: 2, volatileCache: 4, fua: 8 });

/** `struct ublk_params` as 6.12 has it: basic, discard and zoned. Newer kernels take the shorter form. */
export function encodeParameters(parameters: DeviceParameters): Uint8Array {
  const { sizeBytes, logicalBlockBytes, physicalBlockBytes, largestRequestBytes, zones } = parameters;
  const bytes = new Uint8Array(parametersBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, parametersBytes, true);
  const types = ParameterType.basic | ParameterType.discard | (zones === null ? 0 : ParameterType.zoned);
  view.setUint32(4, types, true);

  // The kernel honours FUA only with a volatile cache, and without one nothing has to be flushed.
  const attributes =
    (parameters.isReadOnly ? Attribute.readOnly : 0) |
    (parameters.isRotational ? Attribute.rotational : 0) |
    (parameters.hasVolatileCache ? Attribute.volatileCache | Attribute.fua : 0);
  view.setUint32(8, attributes, true);
  view.setUint8(12, Math.log2(logicalBlockBytes));
  view.setUint8(13, Math.log2(physicalBlockBytes));
  view.setUint8(14, Math.log2(physicalBlockBytes));
  view.setUint8(15, Math.log2(physicalBlockBytes));
  view.setUint32(16, largestRequestBytes / sectorBytes, true);
  view.setUint32(20, (zones?.zoneBytes ?? 0) / sectorBytes, true);
  view.setBigUint64(24, BigInt(sizeBytes / sectorBytes), true);

  const discard = 40;
  view.setUint32(discard + 4, logicalBlockBytes, true);
  // As large as the kernel's own 32-bit byte counts allow: neither moves a byte over the wire.
  const longestSectors = (2 ** 31 - 4096) / sectorBytes;
  view.setUint32(discard + 8, longestSectors, true);
  view.setUint32(discard + 12, longestSectors, true);
  view.setUint16(discard + 16, 1, true);

  if (zones !== null) {
    const zoned = 76;
    view.setUint32(zoned, zones.maxOpen, true);
    view.setUint32(zoned + 4, zones.maxActive, true);
    view.setUint32(zoned + 8, Math.min(zones.maxAppendBytes, largestRequestBytes) / sectorBytes, true);
  }
  return bytes;
}
