/** What doctor makes of machines of many kinds. */
import { describe, expect, test } from "vitest";
import { checkMachine, type Use, uses } from "../../src/cli/doctor-checks.js";
import { gatherFacts, type MachineFacts } from "../../src/cli/doctor-facts.js";

const good: MachineFacts = {
  platform: "linux",
  architecture: "x64",
  nodeVersion: "22.11.0",
  kernelRelease: "6.12.9-amd64",
  distribution: "debian",
  isRoot: true,
  mayAdminister: true,
  mayUseResources: true,
  addonError: null,
  nbd: "present",
  ublk: "loadable",
  ublkFeatures: null,
  mayLockMemory: true,
  hasDeviceFileSystem: true,
  hasUdev: true,
  overcommit: 0,
  lockedMemoryBytes: Number.POSITIVE_INFINITY,
  openFiles: 4096,
  idleDriver: "intel_idle",
  mayLimitIdleStates: true,
  kvm: "usable",
  ioUringDisabled: 0,
  missingLabPackages: [],
  missingClientPackages: [],
};

/** What mends the machine for a use. */
function remedies(use: Use, facts: Partial<MachineFacts>, state = "missing"): (string | null)[] {
  return checkMachine({ ...good, ...facts })
    .filter((check) => check.use === use && check.state === state)
    .map(({ remedy }) => remedy);
}

test("a machine that has everything lacks nothing", () => {
  expect(checkMachine(good).filter(({ state }) => state !== "ok")).toEqual([]);
});

describe("what is missing comes with the command that mends it", () => {
  test.each<[Use, Partial<MachineFacts>, string]>([
    ["serve", { nodeVersion: "20.19.9" }, "install Node.js 20.20 or newer: nvm install 22"],
    ["serve", { addonError: "it was not built" }, "npm run build:native"],
    ["attach", { nbd: "loadable", mayAdminister: false }, "sudo modprobe nbd"],
    [
      "attach",
      { nbd: "missing", distribution: "ubuntu debian" },
      "sudo apt-get install linux-modules-extra-6.12.9-amd64   (or use a VM: blkforge lab exec)",
    ],
    ["attach", { mayAdminister: false, isRoot: false }, "run it with sudo"],
    ["attach", { mayAdminister: false }, "docker run --privileged --network host -v /dev:/dev ..."],
    ["ublk", { ioUringDisabled: 2 }, "sudo sysctl kernel.io_uring_disabled=0"],
    ["lab", { missingLabPackages: ["fio", "xz-utils"] }, "sudo apt-get install fio xz-utils"],
    ["clients", { missingClientPackages: ["nbdkit"] }, "sudo apt-get install nbdkit"],
  ])("%s %j", (use, facts, remedy) => {
    expect(remedies(use, facts)).toContain(remedy);
  });
});

test("what can be done without is advice, and makes nothing unready", () => {
  const poor: Partial<MachineFacts> = {
    overcommit: 2,
    openFiles: 256,
    kvm: "missing",
    lockedMemoryBytes: 65536,
    mayLimitIdleStates: false,
  };
  for (const use of uses) expect(remedies(use, poor)).toEqual([]);
  expect(remedies("serve", poor, "advice")).toHaveLength(3);
  expect(remedies("serve", { ...poor, idleDriver: "none" }, "advice")).toHaveLength(2);
  expect(remedies("lab", { kvm: "forbidden" }, "advice")[0]).toMatch(/usermod -aG kvm/);
});

test("a module that attach may load itself is no lack", () => {
  expect(remedies("attach", { nbd: "loadable" })).toEqual([]);
});

test("this machine can be looked at, and every lack has its remedy", async () => {
  for (const check of checkMachine(await gatherFacts())) {
    expect(check.remedy === null, `${check.use} ${check.name}`).toBe(check.state === "ok");
  }
});

test("a driver says what newer ones have, and that is nothing to mend", () => {
  const featuresOf = (...ublkFeatures: string[]) =>
    checkMachine({ ...good, ublkFeatures }).find(({ name }) => name === "driver features")!;
  const features = featuresOf("userCopy", "updateSize", "quiesce");
  expect(features).toMatchObject({ use: "ublk", state: "ok", remedy: null });
  expect(features.found).toContain("no partition scan (7.0)");
  expect(features.found).not.toContain("resize");
  // There, and left alone: said, so that nobody looks for what switches it on.
  expect(features.found).toContain("not used: quiesce (6.16)");
  expect(features.found).toContain("batched commands (7.0)");
  expect(featuresOf("batchIo").found).not.toContain("batched commands");
  expect(featuresOf("userCopy").found).not.toContain("not used");
});
