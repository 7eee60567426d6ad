/**
 * What is asked of the driver, and refused by name where it lacks it, before anything is touched.
 *
 * Source: Linux, include/uapi/linux/ublk_cmd.h; the versions are those of the first release with each bit.
 */
import { BlkError } from "../base/errors.js";
import type { FeatureName } from "./abi.js";
import type { UblkControl } from "./control.js";

const featureNames: Partial<Record<FeatureName, string>> = {
  userCopy: "user copy (6.5)",
  unprivileged: "unprivileged devices (6.3)",
  zoned: "zones (6.6)",
  userRecovery: "recovery (6.1)",
  userRecoveryReissue: "recovery with requests sent again (6.1)",
  userRecoveryFailIo: "recovery with I/O errors meanwhile (6.13)",
  updateSize: "a change of size (6.16)",
  quiesce: "quiescing (6.16)",
  noAutoPartitionScan: "leaving out the partition scan (7.0)",
};

/** @throws BlkError BLK_E_UBLK_FEATURE */
export function requireFeatures(control: UblkControl, wanted: readonly FeatureName[], what: string): void {
  const missing = wanted.filter((name) => !control.has(name)).map((name) => featureNames[name] ?? name);
  if (missing.length === 0) return;
  throw new BlkError(
    "BLK_E_UBLK_FEATURE",
    `this kernel's ublk driver lacks ${missing.join(" and ")}, needed for ${what}`,
    "blkforge doctor shows what it has; a newer kernel has more",
  );
}
