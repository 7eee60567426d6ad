/**
 * Sizes and durations as people write them, read exactly or refused.
 */
import { BlkError } from "./errors.js";

const sizeFactors: Record<string, number> = {
  "": 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
  P: 2 ** 50,
};

/** Largest size: what a float64 still counts exactly. */
const maximumSizeBytes = Number.MAX_SAFE_INTEGER;

/**
 * Bytes in a size: `512`, `10M`, `2G`, `1T`, binary units.
 *
 * @throws BlkError BLK_E_SIZE for anything else: fractions, signs, spaces, other units.
 */
export function parseSize(text: string): number {
  const match = /^(\d+)([KMGTP]?)$/.exec(text);
  if (match === null) {
    throw new BlkError(
      "BLK_E_SIZE",
      `"${text}" is not a size`,
      "Write bytes or binary units: 512, 10M, 2G, 1T",
    );
  }
  const bytes = Number(match[1]) * sizeFactors[match[2]];
  if (bytes > maximumSizeBytes) {
    throw new BlkError(
      "BLK_E_SIZE",
      `size "${text}" is over the largest possible, 8191T`,
      "Choose a smaller one",
    );
  }
  return bytes;
}

/** The shortest exact way to write a size: 10485760 is "10M", 1000 is "1000". */
export function formatSize(bytes: number): string {
  let unit = "";
  let value = bytes;
  for (const next of ["K", "M", "G", "T", "P"]) {
    if (value === 0 || value % 1024 !== 0) break;
    value /= 1024;
    unit = next;
  }
  return `${value}${unit}`;
}

const durationFactors: Record<string, number> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  min: 60e9,
  h: 3600e9,
};

/**
 * Nanoseconds in a duration: `100us`, `1.5ms`, `2s`, `0`. A unit is required for anything but 0.
 *
 * @throws BlkError BLK_E_DURATION for anything else.
 */
export function parseDuration(text: string): number {
  if (text === "0") return 0;
  const match = /^(\d+(?:\.\d+)?)(ns|us|µs|ms|s|min|m|h)$/.exec(text);
  if (match === null) {
    throw new BlkError(
      "BLK_E_DURATION",
      `"${text}" is not a duration`,
      "Write a number and a unit: 100us, 1.5ms, 2s",
    );
  }
  const durationNs = Number(match[1]) * durationFactors[match[2]];
  if (durationNs > Number.MAX_SAFE_INTEGER) {
    throw new BlkError(
      "BLK_E_DURATION",
      `duration "${text}" is over the longest possible, 104 days`,
      "Choose a shorter one",
    );
  }
  // Rounded to a thousandth of a nanosecond: 1.1 ms is 1100000 ns, not 1100000.0000000002.
  return Math.round(durationNs * 1000) / 1000;
}

/** A duration for people, with three significant digits: 12345 is "12.3 us". */
export function formatDuration(durationNs: number): string {
  if (!Number.isFinite(durationNs)) return "-";
  const magnitude = Math.abs(durationNs);
  // A unit begins where three digits of the one below would round up to 1000.
  if (magnitude >= 999.5e6) return `${significant(durationNs / 1e9)} s`;
  if (magnitude >= 999.5e3) return `${significant(durationNs / 1e6)} ms`;
  if (magnitude >= 999.5) return `${significant(durationNs / 1e3)} us`;
  return `${significant(durationNs)} ns`;
}

function significant(value: number): string {
  const magnitude = Math.abs(value);
  if (magnitude >= 99.95) return value.toFixed(0);
  if (magnitude >= 9.995) return value.toFixed(1);
  return value.toFixed(2);
}
