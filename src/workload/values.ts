/**
 * Values as fio reads them: integers with unit suffixes, times, percentages, and lists for read, write and trim.
 *
 * Suffixes follow fio's `kb_base`: with the default of 1024 a `k` is 1024 and a `ki` is 1000, the opposite of the
 * standards, for the sake of old job files; `kb_base=1000` turns it round (HOWTO, "Parameter types"). Unlike fio,
 * nothing is guessed: a value with anything left over is refused, and so are expressions in parentheses.
 */
import { BlkError } from "../base/errors.js";

/** Factor of the plain SI-looking suffix: 1024 unless the job file says `kb_base=1000`. */
export type KilobyteBase = 1000 | 1024;

/** Bytes, or a share of the device that is known only later. */
export type Extent = { bytes: number } | { percent: number };

const prefixes = ["k", "m", "g", "t", "p"];

/** An integer with an optional suffix: `4k`, `1MiB`, `0x1000`. */
export function parseInteger(text: string, kbBase: KilobyteBase): number {
  const match = /^(0x[0-9a-f]+|\d+)(?:([kmgtp])(i?))?b?$/i.exec(text);
  if (match === null)
    throw bad(`"${text}" is not a number`, "Write an integer with an optional unit: 4096, 4k, 1m, 2g");
  const [, digits, prefix, binaryMark] = match;
  const base = binaryMark ? (kbBase === 1024 ? 1000 : 1024) : kbBase;
  const value = Number(digits) * (prefix ? base ** (prefixes.indexOf(prefix.toLowerCase()) + 1) : 1);
  if (!Number.isSafeInteger(value)) throw bad(`"${text}" is too large`, "Stay below 8191t");
  return value;
}

/** An integer that must be at least 1. */
export function parsePositive(text: string, kbBase: KilobyteBase): number {
  const value = parseInteger(text, kbBase);
  if (value < 1) throw bad(`"${text}" is not positive`, "Give 1 or more");
  return value;
}

const timeUnitsNs: Record<string, number> = {
  d: 86_400e9,
  h: 3600e9,
  m: 60e9,
  s: 1e9,
  sec: 1e9,
  ms: 1e6,
  msec: 1e6,
  us: 1e3,
  usec: 1e3,
};

/** A time: `10` in the option's own unit, or `10s`, `5m`, `100us`. */
export function parseTime(text: string, defaultUnit: "s" | "us"): number {
  const match = /^(\d+)([a-z]*)$/i.exec(text);
  const factor = match === null ? undefined : timeUnitsNs[match[2].toLowerCase() || defaultUnit];
  if (match === null || factor === undefined) {
    throw bad(`"${text}" is not a time`, "Write a whole number and a unit of us, ms, s, m, h or d");
  }
  return Number(match[1]) * factor;
}

/** Whole percent from 0 to 100, the sign optional. */
export function parsePercent(text: string): number {
  const match = /^(\d+)%?$/.exec(text);
  const percent = match === null ? Number.NaN : Number(match[1]);
  if (!(percent <= 100)) throw bad(`"${text}" is not a percentage`, "Give a whole number from 0 to 100");
  return percent;
}

/** Bytes, or a percentage of the device: `1g`, `20%`. */
export function parseExtent(text: string, kbBase: KilobyteBase): Extent {
  return text.endsWith("%") ? { percent: parsePercent(text) } : { bytes: parseInteger(text, kbBase) };
}

/** The bytes of an extent on a device of `sizeBytes`. */
export function resolveExtent(extent: Extent, sizeBytes: number): number {
  return "bytes" in extent ? extent.bytes : Math.floor((sizeBytes * extent.percent) / 100);
}

/** A switch: no value and 1 are on, 0 is off. */
export function parseSwitch(text: string): boolean {
  if (text === "" || text === "1" || text === "true") return true;
  if (text === "0" || text === "false") return false;
  throw bad(`"${text}" is neither on nor off`, "Write 1 or 0");
}

/** One of a few words. */
export function parseWord<Word extends string>(text: string, words: readonly Word[]): Word {
  const word = words.find((candidate) => candidate === text);
  if (word === undefined) throw bad(`"${text}" is not offered`, `Choose from ${words.join(", ")}`);
  return word;
}

/**
 * Values for read, write and trim: `a`, `a,b` or `a,b,c`. One not given is taken from the one before it; one left empty
 * (`,8k`) stays `undefined`.
 */
export function parsePerDirection<T>(
  text: string,
  parse: (part: string) => T,
): [T | undefined, T | undefined, T | undefined] {
  const parts = text.split(",");
  if (parts.length > 3) throw bad(`"${text}" has more than three values`, "Give at most read,write,trim");
  const values = parts.map((part) => (part.trim() === "" ? undefined : parse(part.trim())));
  while (values.length < 3) values.push(values.at(-1));
  return [values[0], values[1], values[2]];
}

/** A mistake in a value; the job file's reader adds where it stands. */
export function bad(message: string, hint: string): BlkError {
  return new BlkError("BLK_E_WORKLOAD", message, hint);
}
