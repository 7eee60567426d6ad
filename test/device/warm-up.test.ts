/** A thread's code is warmed up by a drive of its own, of which nothing is left. */
import { readdirSync } from "node:fs";
import { expect, test, vi } from "vitest";
import type { DeviceSpec } from "../../src/device/spec.js";
import { wantsWarmUp, warmUp } from "../../src/device/warm-up.js";
import { loadProfile } from "../../src/profile/load.js";
import { deviceSpec } from "../support/device-spec.js";

function specOf(name: string, changes: Partial<DeviceSpec> = {}): DeviceSpec {
  const profile = loadProfile(name, { size: "2G", settings: [] });
  return deviceSpec({ profile, timing: "hybrid", ...changes });
}

test("solid-state drives that wait awake for their deadlines are warmed up, others are not", () => {
  expect(wantsWarmUp(specOf("nvme"))).toBe(true);
  expect(wantsWarmUp(specOf("nvme", { timing: "sleep" }))).toBe(false);
  expect(wantsWarmUp(specOf("nvme", { listen: [] }))).toBe(false);
  expect(wantsWarmUp(specOf("instant"))).toBe(false);
});

test.each(["nvme", "optane"])(
  "warming up %s serves its requests and leaves no descriptor open",
  async (name) => {
    const before = readdirSync("/proc/self/fd").length;
    const served = await warmUp(specOf(name));
    expect(served).toBeGreaterThan(0);
    // The last are closed by the event loop.
    await vi.waitFor(() => expect(readdirSync("/proc/self/fd")).toHaveLength(before));
  },
);
