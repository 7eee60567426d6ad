/**
 * What is asked of the driver, and refused by name where it lacks it, before anything is touched.
 *
 * Source: Linux, include/uapi/linux/ublk_cmd.h; the versions are those of the first release with each bit.
 */
import { BlkError } from "../base/errors.js";
import type { DeviceParameters, FeatureName } from "./abi.js";

/** The driver as it is asked: `UblkControl`. */
export interface Driver {
  readonly isPrivileged: boolean;
  has(feature: FeatureName): boolean;
}

/** What of a device's options takes a feature of the driver. */
export interface FeatureOptions {
  /** "user" moves bytes once, "kernel" lets the driver copy them to and from buffers. */
  copy: "user" | "kernel";
  /** What becomes of requests when the server dies: they fail and the device goes, or a new server takes it over. */
  recovery: "none" | "reissue" | "fail-io";
  /** Whether queues are served with commands about many requests; "auto": where the driver has them. */
  batch: "on" | "off" | "auto";
  depth: number;
  /** Whether the kernel shall look for partitions. */
  scansPartitions: boolean;
  parameters: Pick<DeviceParameters, "zones">;
}

const featureNames: Partial<Record<FeatureName, string>> = {
  userCopy: "user copy (6.5)",
  unprivileged: "unprivileged devices (6.3)",
  zoned: "zones (6.6)",
  userRecovery: "recovery (6.1)",
  userRecoveryReissue: "recovery with requests sent again (6.1)",
  userRecoveryFailIo: "recovery with I/O errors meanwhile (6.13)",
  updateSize: "a change of size (6.16)",
  quiesce: "quiescing (6.16)",
  batchIo: "batched commands (7.0)",
  noAutoPartitionScan: "leaving out the partition scan (7.0)",
};

/** The driver's list of waiting tags, a kfifo, has two places or more, and without it the device is refused. */
export const leastBatchedDepth = 2;

/** What a device is to be added with. */
export function wantedFeatures(driver: Driver, options: FeatureOptions): FeatureName[] {
  const { copy, recovery, batch, depth, scansPartitions, parameters } = options;
  const wanted: FeatureName[] = [];
  if (copy === "user") wanted.push("userCopy");
  if (parameters.zones !== null) wanted.push("zoned");
  if (recovery !== "none") wanted.push("userRecovery");
  if (recovery === "reissue") wanted.push("userRecoveryReissue");
  if (recovery === "fail-io") wanted.push("userRecoveryFailIo");
  const mayBatch = driver.has("batchIo") && depth >= leastBatchedDepth;
  if (batch === "on" || (batch === "auto" && mayBatch)) wanted.push("batchIo");
  if (!scansPartitions) wanted.push("noAutoPartitionScan");
  if (!driver.isPrivileged) wanted.push("unprivileged");
  return wanted;
}

/** @throws BlkError BLK_E_UBLK_FEATURE */
export function requireFeatures(
  driver: Pick<Driver, "has">,
  wanted: readonly FeatureName[],
  what: string,
): void {
  const missing = wanted.filter((name) => !driver.has(name)).map((name) => featureNames[name] ?? name);
  if (missing.length === 0) return;
  throw new BlkError(
    "BLK_E_UBLK_FEATURE",
    `this kernel's ublk driver lacks ${missing.join(" and ")}, needed for ${what}`,
    "blkforge doctor shows what it has; a newer kernel has more",
  );
}
