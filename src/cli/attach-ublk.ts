/** What `blkforge attach --ublk` asks for, and how it is done. */
import { BlkError } from "../base/errors.js";
import { parseSize } from "../base/units.js";
import type { DeviceHandle } from "../device/host.js";
import type { DeviceSpec } from "../device/spec.js";
import { limits } from "../ublk/abi.js";
import { readDeviceId, UblkAttachment, type UblkOptions } from "../ublk/attachment.js";
import type { Attached } from "./attach.js";

export interface UblkCommandOptions {
  queues: number;
  depth: number;
  maxIo: string;
  copy: "user" | "kernel";
  partitionScan: boolean;
  blockSize?: number;
  scheduler?: string;
  readAhead?: string;
}

const smallestRequestBytes = 4096;
const blockSizes = [512, 1024, 2048, 4096];

/** @param device what came after --ublk, or true */
export function readUblkOptions(
  device: string | boolean,
  options: UblkCommandOptions,
  { profile, isReadOnly }: DeviceSpec,
): Omit<UblkOptions, "parameters"> & { parameters: Omit<UblkOptions["parameters"], "sizeBytes"> } {
  const refuse = (message: string, hint: string): never => {
    throw new BlkError("BLK_E_USAGE", message, hint);
  };
  const id = typeof device === "string" && device !== "auto" ? readDeviceId(device) : null;
  if (id === null && typeof device === "string" && device !== "auto") {
    refuse(`"${device}" is no ublk device of the kernel`, "Give /dev/ublkb0, for example");
  }
  const { queues, depth } = options;
  if (queues < 1 || queues > limits.queues) refuse(`--queues ${queues} is not possible`, "Give 1 to 4096");
  if (depth < 1 || depth > limits.depth) refuse(`--depth ${depth} is not possible`, "Give 1 to 4096");
  const largestRequestBytes = parseSize(options.maxIo);
  if (
    largestRequestBytes < smallestRequestBytes ||
    largestRequestBytes > limits.requestBytes ||
    largestRequestBytes % smallestRequestBytes !== 0
  ) {
    refuse(`--max-io ${options.maxIo} is not possible`, "Give 4K to 32M, a multiple of 4K");
  }
  const logicalBlockBytes = options.blockSize ?? profile.logicalBlockBytes;
  if (!blockSizes.includes(logicalBlockBytes)) {
    refuse(`the kernel has no blocks of ${logicalBlockBytes} bytes`, "Give 512, 1024, 2048 or 4096");
  }
  return {
    id,
    queues,
    depth,
    copy: options.copy,
    recovery: "none",
    scansPartitions: options.partitionScan,
    isRotational: profile.isRotational,
    ...(options.scheduler === undefined ? {} : { scheduler: options.scheduler }),
    ...(options.readAhead === undefined ? {} : { readAheadBytes: parseSize(options.readAhead) }),
    parameters: {
      logicalBlockBytes,
      physicalBlockBytes: Math.max(logicalBlockBytes, profile.physicalBlockBytes),
      largestRequestBytes,
      isReadOnly,
      isRotational: profile.isRotational,
      hasVolatileCache: profile.hasVolatileCache,
    },
  };
}

export function attachUblk(
  device: DeviceHandle,
  options: ReturnType<typeof readUblkOptions>,
): Promise<Attached> {
  const { sizeBytes } = device.description;
  return UblkAttachment.create(device.ublk, {
    ...options,
    parameters: { ...options.parameters, sizeBytes },
  });
}
