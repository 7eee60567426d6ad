/** Which features of the driver a device is added with, and how the lack of one is told. */
import { expect, test } from "vitest";
import type { FeatureName } from "../../src/ublk/abi.js";
import { type FeatureOptions, requireFeatures, wantedFeatures } from "../../src/ublk/features.js";

const driver = (...features: FeatureName[]) => ({
  isPrivileged: true,
  has: (name: FeatureName) => features.includes(name),
});

const plain: FeatureOptions = {
  copy: "user",
  recovery: "none",
  batch: "off",
  depth: 128,
  scansPartitions: true,
  parameters: { zones: null },
};

test("a plain device takes what every driver has", () => {
  expect(wantedFeatures(driver(), plain)).toEqual(["userCopy"]);
  expect(wantedFeatures({ ...driver(), isPrivileged: false }, { ...plain, copy: "kernel" })).toEqual([
    "unprivileged",
  ]);
  expect(wantedFeatures(driver(), { ...plain, recovery: "reissue", scansPartitions: false })).toEqual([
    "userCopy",
    "userRecovery",
    "userRecoveryReissue",
    "noAutoPartitionScan",
  ]);
});

test("batched commands are asked for when they are wanted, or wanted where they are to be had", () => {
  const wantsBatches = (batch: FeatureOptions["batch"], ...features: FeatureName[]) =>
    wantedFeatures(driver(...features), { ...plain, batch }).includes("batchIo");
  expect(wantsBatches("on")).toBe(true);
  expect(wantsBatches("on", "batchIo")).toBe(true);
  expect(wantsBatches("auto")).toBe(false);
  expect(wantsBatches("auto", "batchIo")).toBe(true);
  expect(wantsBatches("off", "batchIo")).toBe(false);
  const single: FeatureOptions = { ...plain, batch: "auto", depth: 1 };
  expect(wantedFeatures(driver("batchIo"), single)).not.toContain("batchIo");
});

test("a lack is told by name, with the Linux that has it", () => {
  const wanted = wantedFeatures(driver(), { ...plain, batch: "on", recovery: "fail-io" });
  expect(() => requireFeatures(driver("userCopy", "userRecovery"), wanted, "what was asked for")).toThrow(
    "this kernel's ublk driver lacks recovery with I/O errors meanwhile (6.13) and batched commands (7.0), needed for",
  );
  requireFeatures(driver(...wanted), wanted, "what was asked for");
});
