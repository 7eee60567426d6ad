import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BlkError } from "../../src/base/errors.js";
import { formatDuration, formatSize, parseDuration, parseSize } from "../../src/base/units.js";

describe("sizes", () => {
  it.each([
    ["0", 0],
    ["512", 512],
    ["10M", 10_485_760],
    ["2G", 2_147_483_648],
    ["1T", 1_099_511_627_776],
    ["7P", 7 * 2 ** 50],
    ["9007199254740991", Number.MAX_SAFE_INTEGER],
  ])("reads %s as exactly %d bytes", (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each(["", "10X", "1.5G", "-1", "+1", " 1", "1 M", "1e3", "0x10", "10m", "10MB", "10MiB", "1_000", "١"])(
    "refuses %j, quoting it",
    (text) => {
      expect(() => parseSize(text)).toThrow(expect.objectContaining({ code: "BLK_E_SIZE" }));
      expect(() => parseSize(text)).toThrow(`"${text}"`);
    },
  );

  it.each(["9007199254740992", "8192T", "8P", "9".repeat(400)])(
    "refuses %s, which a float64 no longer counts exactly",
    (text) => {
      expect(() => parseSize(text)).toThrow(/over the largest possible/);
    },
  );

  it("writes every size so that it is read back exactly", () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.nat(5), (count, power) => {
        const bytes = count * 1024 ** power;
        fc.pre(bytes <= Number.MAX_SAFE_INTEGER);
        expect(parseSize(formatSize(bytes))).toBe(bytes);
      }),
    );
  });
});

describe("durations", () => {
  it.each([
    ["0", 0],
    ["1ns", 1],
    ["100us", 100_000],
    ["100µs", 100_000],
    ["1.1ms", 1_100_000],
    ["0.001us", 1],
    ["2s", 2e9],
    ["3m", 180e9],
    ["3min", 180e9],
    ["1h", 3600e9],
  ])("reads %s as exactly %d ns", (text, ns) => {
    expect(parseDuration(text)).toBe(ns);
  });

  it.each(["", "5", "1 ms", "-1ms", ".5ms", "1.ms", "1e3us", "1d", "1MS", "ms", "Infinityms"])(
    "refuses %j, quoting it",
    (text) => {
      expect(() => parseDuration(text)).toThrow(expect.objectContaining({ code: "BLK_E_DURATION" }));
      expect(() => parseDuration(text)).toThrow(`"${text}"`);
    },
  );

  it.each(["2503h", `${"9".repeat(400)}s`])("refuses %s, which device time cannot hold", (text) => {
    expect(() => parseDuration(text)).toThrow(BlkError);
  });

  it("reads a decimal fraction as the nearest thousandth of a nanosecond", () => {
    fc.assert(
      fc.property(fc.nat(999_999), fc.nat(999_999), (whole, millionths) => {
        const text = `${whole}.${String(millionths).padStart(6, "0")}ms`;
        expect(parseDuration(text)).toBe(whole * 1e6 + millionths);
      }),
    );
  });

  it.each([
    [0, "0.00 ns"],
    [12_345, "12.3 us"],
    [999.4, "999 ns"],
    [999.6, "1.00 us"],
    [999_499, "999 us"],
    [999_999, "1.00 ms"],
    [8_333_333, "8.33 ms"],
    [999_600_000, "1.00 s"],
    [-1500, "-1.50 us"],
    [Number.NaN, "-"],
    [Number.POSITIVE_INFINITY, "-"],
  ])("shows %d ns as %s", (ns, text) => {
    expect(formatDuration(ns)).toBe(text);
  });
});
