/** What `blkforge attach --ublk` asks for, and how it is done; `blkforge recover` does the second half again. */
import { randomBytes } from "node:crypto";
import { cpus } from "node:os";
import { resolve } from "node:path";
import { BlkError } from "../base/errors.js";
import { parseSize } from "../base/units.js";
import type { DeviceHandle } from "../device/host.js";
import type { DeviceSpec } from "../device/spec.js";
import { limits } from "../ublk/abi.js";
import { UblkAttachment, type UblkOptions } from "../ublk/attachment.js";
import { leastBatchedDepth } from "../ublk/features.js";
import { readDeviceId } from "../ublk/names.js";
import { identityOf, removeState, saveState, type UblkState } from "../ublk/state.js";
import type { Attached } from "./attached.js";
import type { DeviceOptions } from "./serve-options.js";

export interface UblkCommandOptions {
  queues: number;
  depth: number;
  maxIo: string;
  copy: "user" | "kernel";
  cache: "auto" | "write-back" | "write-through";
  recovery: "none" | "reissue" | "fail-io";
  /** What was attached by an older version has been remembered without it. */
  batch?: "on" | "off" | "auto";
  partitionScan: boolean;
  ownMounts?: boolean;
  blockSize?: number;
  scheduler?: string;
  readAhead?: string;
}

/** What is known before the device's size is. */
export type UblkPlan = Omit<UblkOptions, "parameters" | "onAdded"> & {
  parameters: Omit<UblkOptions["parameters"], "sizeBytes">;
};

const smallestRequestBytes = 4096;
const blockSizes = [512, 1024, 2048, 4096];

/** @param device what came after --ublk, or true */
export function readUblkOptions(
  device: string | boolean,
  options: UblkCommandOptions,
  { profile, isReadOnly, file }: DeviceSpec,
): UblkPlan {
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
  if (options.batch === "on" && depth < leastBatchedDepth) {
    refuse(
      "the driver has no batches of one request",
      `Leave out --batch on, or give --depth ${leastBatchedDepth}`,
    );
  }
  const largestRequestBytes = parseSize(options.maxIo);
  if (
    largestRequestBytes < smallestRequestBytes ||
    largestRequestBytes > limits.requestBytes ||
    largestRequestBytes % smallestRequestBytes !== 0
  ) {
    refuse(`--max-io ${options.maxIo} is not possible`, "Give 4K to 32M, a multiple of 4K");
  }
  if (profile.zones !== null && options.copy === "kernel") {
    refuse("the driver copies no bytes of zoned devices itself", "Leave out --copy kernel");
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
    recovery: options.recovery,
    batch: options.batch ?? "off",
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
      // A file is written through the page cache: what is flushed has to arrive here as a flush.
      hasVolatileCache:
        options.cache === "auto" ? profile.hasVolatileCache || file !== null : options.cache === "write-back",
      zones: profile.zones,
    },
  };
}

/**
 * Slots for all requests in flight, and as many again: a queue completes a request, and brings the next with its tag, before
 * the device thread has looked at the clock. The kernel makes no more queues than there are processors.
 */
export function requestCapacityFor({ queues, depth }: UblkPlan): number {
  return 2 * Math.min(queues, cpus().length) * depth;
}

/**
 * Bytes that shall outlive the server cannot be its own memory. Without a file of the user's they lie in one on tmpfs,
 * which is memory too, and goes with the device.
 */
export function ownImageFor({ recovery }: UblkPlan, spec: DeviceSpec): string | null {
  if (recovery === "none" || spec.file !== null) return null;
  if (spec.isPreallocated === true) {
    throw new BlkError(
      "BLK_E_USAGE",
      "memory of a device that outlives its server cannot be preallocated: it is a file in /dev/shm",
      "Leave out --preallocate or --recovery",
    );
  }
  return `/dev/shm/blkforge-${spec.name}-${randomBytes(4).toString("hex")}.img`;
}

export async function attachUblk(
  device: DeviceHandle,
  plan: UblkPlan,
  spec: DeviceSpec,
  command: { profile: string; options: DeviceOptions & UblkCommandOptions },
  ownImage: string | null,
): Promise<Attached> {
  const remember = (id: number): UblkState => ({
    schemaVersion: 1,
    id,
    name: spec.name,
    server: identityOf(process.pid),
    isRecoverable: plan.recovery !== "none",
    ownImage,
    command: {
      profile: /[/]|\.ya?ml$/.test(command.profile) ? resolve(command.profile) : command.profile,
      // The image is there now, with the size it has.
      options: { ...command.options, ...(spec.file === null ? {} : { file: resolve(spec.file) }) },
      workingDirectory: process.cwd(),
    },
  });
  let addedId: number | null = null;
  try {
    const attachment = await UblkAttachment.create(device.ublk, {
      ...plan,
      parameters: { ...plan.parameters, sizeBytes: device.description.sizeBytes },
      onAdded: (id) => {
        addedId = id;
        saveState(remember(id));
      },
    });
    return forgetting(attachment);
  } catch (error) {
    if (addedId !== null) removeState(addedId);
    throw error;
  }
}

/** Takes a device over whose server has died. */
export async function recoverUblk(device: DeviceHandle, state: UblkState): Promise<Attached> {
  const attachment = await UblkAttachment.recover(device.ublk, state.id);
  saveState({ ...state, server: identityOf(process.pid) });
  return forgetting(attachment);
}

/** When the device is gone, so is what was remembered of it. */
function forgetting(attachment: UblkAttachment): Attached {
  return {
    path: attachment.path,
    ended: attachment.ended,
    refuseResize: () => attachment.refuseResize(),
    resize: (sizeBytes) => attachment.resize(sizeBytes),
    async detach(isForced) {
      const holders = await attachment.detach(isForced);
      removeState(attachment.id);
      return holders;
    },
    async close() {
      await attachment.close();
      removeState(attachment.id);
    },
  };
}
