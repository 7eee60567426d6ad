import { describe, expect, test } from "vitest";
import { Op, operations } from "../../src/base/request.js";
import { readMedian } from "../../src/cli/calibrate-floor.js";
import { floorsByOperation, parseFloor } from "../../src/device/floor.js";

const floor = { read: 20_000, write: 25_000, flush: 15_000, trim: 16_000 };
const text = JSON.stringify({ schemaVersion: 1, kernel: "6.12", floorsNs: { ublk: floor } });

describe("a floor's file", () => {
  test("gives the floor of a transport", () => {
    expect(parseFloor(text, "floor.json", "ublk")).toEqual(floor);
  });

  test.each([
    ["no JSON", "{", /"floor\.json" is no floor: /],
    ["something else", "{}", /"floor\.json" is no floor: schemaVersion/],
    ["another transport's", text, /has the floor of ublk, not of nbd-kernel/],
    ["a negative time", text.replace("20000", "-1"), /floorsNs\.ublk\.read/],
  ])("is refused when it is %s", (_, content, message) => {
    expect(() => parseFloor(content, "floor.json", "nbd-kernel")).toThrowError(message);
  });

  test("has a time for every operation", () => {
    const floorsNs = floorsByOperation(floor);
    expect(floorsNs).toHaveLength(operations.length);
    expect([floorsNs[Op.read], floorsNs[Op.zeroes], floorsNs[Op.append], floorsNs[Op.zoneReset]]).toEqual([
      20_000, 25_000, 25_000, 15_000,
    ]);
  });
});

describe("fio's answer", () => {
  const job = { lat_ns: { percentile: { "50.000000": 21_000 } } };

  test("has the median of the operation that was measured", () => {
    expect(readMedian(`note\n${JSON.stringify({ jobs: [{ read: job, sync: job }] })}`, "read")).toBe(21_000);
    expect(readMedian(JSON.stringify({ jobs: [{ sync: job }] }), "flush")).toBe(21_000);
  });

  test("is refused without one", () => {
    expect(() => readMedian(JSON.stringify({ jobs: [{ trim: { lat_ns: {} } }] }), "trim")).toThrowError(
      /fio measured no trim/,
    );
  });
});
