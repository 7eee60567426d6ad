/** Devices that grow while they are served: what was written stays, what is new is empty. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { RequestTable } from "../../src/base/request.js";
import { Device } from "../../src/device/device.js";
import { DeviceStats } from "../../src/device/stats.js";
import { VirtualClock } from "../../src/device/virtual-clock.js";
import { FaultSet } from "../../src/fault/set.js";
import { createModel } from "../../src/model/create.js";
import { loadProfile } from "../../src/profile/load.js";
import { openFileStore } from "../../src/store/file.js";
import { MemoryStore } from "../../src/store/memory.js";
import type { Store } from "../../src/store/store.js";
import { scratchDirectory } from "../support/blkforge.js";

const mebibyte = 2 ** 20;
const isLinux = process.platform === "linux";

function makeDevice(profileName: string) {
  const sizeBytes = 64 * mebibyte;
  const profile = loadProfile(profileName, { size: "64M" });
  const requests = new RequestTable(16);
  const faults = new FaultSet({ seed: 1, requests, sizeBytes, onRelease: () => {} });
  const device = new Device({
    identity: { ...profile, isReadOnly: false },
    requests,
    store: new MemoryStore({ sizeBytes }),
    model: createModel({ profile, requests, seed: 1, sizeBytes }),
    faults,
    clock: new VirtualClock(),
    stats: new DeviceStats(),
  });
  return { device, faults };
}

/** Writes to the end, grows, and looks at all of it. */
function growAndCheck(store: Store): void {
  const last = new Uint8Array(4096).fill(7);
  store.write(store.sizeBytes - last.length, last);
  const before = store.sizeBytes;
  store.grow!(before * 64);
  expect(store.sizeBytes).toBe(before * 64);
  const read = new Uint8Array(3 * 4096).fill(1);
  store.read(before - 4096, read);
  expect([...new Set(read.subarray(0, 4096))]).toEqual([7]);
  expect([...new Set(read.subarray(4096))]).toEqual([0]);
  store.write(store.sizeBytes - last.length, last);
  store.read(store.sizeBytes - 4096, read.subarray(0, 4096));
  expect([...new Set(read.subarray(0, 4096))]).toEqual([7]);
}

test.runIf(isLinux)("a store in memory grows, and counts what it holds", () => {
  const store = new MemoryStore({ sizeBytes: mebibyte });
  growAndCheck(store);
  expect(store.allocatedBytes()).toBe(2 * 4096);
  store.trim(0, store.sizeBytes);
  expect(store.allocatedBytes()).toBe(0);
  store.close();
});

test("an image file grows with its store", () => {
  const path = join(scratchDirectory(), "disk.img");
  const store = openFileStore({
    path,
    sizeBytes: mebibyte,
    isSizeGiven: true,
    blockBytes: 512,
    isReadOnly: false,
  });
  growAndCheck(store);
  store.close();
  expect(statSync(path).size).toBe(64 * mebibyte);
});

test.runIf(isLinux)("a device grows with its faults' reach, and never shrinks", () => {
  const { device, faults } = makeDevice("instant");
  const fault = { kind: "error", trigger: { ranges: [{ offset: "100M", length: "4K" }] } };
  expect(() => faults.add(fault)).toThrow("the device ends at");
  device.grow(128 * mebibyte);
  expect(device.sizeBytes).toBe(128 * mebibyte);
  faults.add(fault);
  expect(() => device.grow(64 * mebibyte)).toThrow("only grows");
  expect(device.sizeBytes).toBe(128 * mebibyte);
});

test("a hard disk has its capacity for life", () => {
  const { device } = makeDevice("hdd-7200");
  expect(() => device.grow(128 * mebibyte)).toThrow("capacity for life");
});
