/** Which devices share a thread, and what is exported where. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Timing } from "../../src/device/live-clock.js";
import { placeDevices } from "../../src/device/placement.js";
import { deviceSeed, faultSeed } from "../../src/device/seed.js";

function device(name: string, listen: string[], timing: Timing = "hybrid") {
  return { name, listen, timing };
}

const socket = (path: string, name = "") => `nbd+unix:///${name}?socket=/tmp/${path}`;
const devicesOf = (threads: { devices: number[] }[]) => threads.map(({ devices }) => devices);

describe("devices on threads", () => {
  test("with an address each they are apart while threads last", () => {
    const devices = ["a", "b", "c"].map((name) => device(name, [socket(name)]));
    expect(devicesOf(placeDevices(devices, 8))).toEqual([[0], [1], [2]]);
    expect(devicesOf(placeDevices(devices, 2))).toEqual([[0, 2], [1]]);
  });

  test("one address, or a chain of shared ones, is one thread", () => {
    const chain = [
      device("a", [socket("x")]),
      device("b", [socket("x"), socket("y")]),
      device("c", [socket("y")]),
      device("d", [socket("z")]),
    ];
    expect(devicesOf(placeDevices(chain, 8))).toEqual([[0, 1, 2], [3]]);
  });

  test("one that spins keeps its thread to itself before others do", () => {
    const devices = [
      device("a", [socket("a")], "sleep"),
      device("b", [socket("b")], "sleep"),
      device("c", [socket("c")], "sleep"),
      device("spinning", [socket("d")], "spin"),
    ];
    expect(devicesOf(placeDevices(devices, 2))).toEqual([[3], [0, 1, 2]]);
  });

  test("each device is on one thread, with all of its addresses, and nobody on the same address elsewhere", () => {
    const anyDevices = fc.array(
      fc.record({
        paths: fc.uniqueArray(fc.integer({ min: 0, max: 6 }), { maxLength: 3 }),
        timing: fc.constantFrom<Timing>("sleep", "hybrid", "spin"),
      }),
      { minLength: 1, maxLength: 12 },
    );
    fc.assert(
      fc.property(anyDevices, fc.integer({ min: 1, max: 5 }), (drawn, maximumThreads) => {
        const devices = drawn.map(({ paths, timing }, i) =>
          device(
            `d${i}`,
            paths.map((path) => socket(`s${path}`)),
            timing,
          ),
        );
        const threads = placeDevices(devices, maximumThreads);
        expect(threads.length).toBeLessThanOrEqual(maximumThreads);
        expect(threads.flatMap((thread) => thread.devices).sort((a, b) => a - b)).toEqual(
          devices.map((_, i) => i),
        );
        // What is exported is what was asked for, and each address is opened once in all.
        const exported = threads.flatMap((thread) =>
          thread.addresses.flatMap(({ uri, exports }) =>
            exports.map(({ device: at, name }) => {
              expect(name).toBe(`d${thread.devices[at]}`);
              return `${name} ${uri.transport === "unix" ? uri.path : ""}`;
            }),
          ),
        );
        const wanted = drawn.flatMap(({ paths }, i) => paths.map((path) => `d${i} /tmp/s${path}`));
        expect(exported.sort()).toEqual(wanted.sort());
        const opened = threads.flatMap(({ addresses }) => addresses.map(({ uri }) => JSON.stringify(uri)));
        expect(new Set(opened).size).toBe(opened.length);
      }),
    );
  });
});

describe("exports", () => {
  test("are called as the device where the URI has no name, and come in the order of the devices", () => {
    const [{ addresses }] = placeDevices(
      [device("a", [socket("x")]), device("b", [socket("x", "alias")])],
      1,
    );
    expect(addresses).toHaveLength(1);
    expect(addresses[0].exports.map(({ name }) => name)).toEqual(["a", "alias"]);
  });

  test("of one name at one address are refused, and the message names both", () => {
    const clash = [device("a", [socket("x")]), device("b", [socket("x", "a")])];
    expect(() => placeDevices(clash, 1)).toThrow(/names the export "a", which is that of device "a"/);
    expect(() => placeDevices([device("a", [socket("x"), socket("x")])], 1)).toThrow(/given twice/);
  });

  test("need TLS where no address offers them in the clear; an address that demands it does so for all", () => {
    const [{ addresses }] = placeDevices(
      [
        device("a", ["nbd://127.0.0.1:1", "nbds://127.0.0.1:2"]),
        device("b", ["nbds://127.0.0.1:1", "nbds://127.0.0.1:2"]),
      ],
      1,
    );
    expect(addresses.map(({ uri }) => uri.isTls)).toEqual([true, true]);
    expect(addresses[0].exports.map(({ isTlsRequired }) => isTlsRequired)).toEqual([false, true]);
  });
});

describe("the seed of a device", () => {
  test("is the server's for a device called as its profile, and differs for each other name", () => {
    expect(deviceSeed(7, "hdd-7200", "hdd-7200")).toBe(7);
    const names = Array.from({ length: 100 }, (_, i) => `disk-${i}`);
    const seeds = names.map((name) => deviceSeed(7, name, "hdd-7200"));
    expect(new Set(seeds).size).toBe(names.length);
    for (const seed of seeds) expect(Number.isSafeInteger(seed)).toBe(true);
    // Nothing but the seed and the name counts.
    expect(deviceSeed(7, "disk-3", "hdd-7200")).toBe(seeds[3]);
    expect(deviceSeed(8, "disk-3", "hdd-7200")).not.toBe(seeds[3]);
  });

  test("is not that of its faults, so devices of one seed are hit apart", () => {
    expect(faultSeed(7, "a")).not.toBe(faultSeed(7, "b"));
  });
});
