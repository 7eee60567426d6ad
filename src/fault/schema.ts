/**
 * The pieces fault schemas are made of, each with a message that finishes the sentence its path begins:
 * `trigger.nth must be a whole number, 1 or more; given -3`.
 *
 * Nothing here transforms: a validated fault is the fault as it was written, so a report can be sent back as a
 * new fault. Faults turn text into numbers once, when they are set (`prepare` in define.ts).
 */
import * as z from "zod";
import { BlkError } from "../base/errors.js";
import { quote } from "../base/schema.js";
import { formatSize, parseDuration, parseSize } from "../base/units.js";

/** An object with these fields and no others. */
export function strictFields<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) => {
      if (issue.code !== "unrecognized_keys") return "must be an object";
      const unknown = issue.keys.map((key) => JSON.stringify(key)).join(", ");
      return known.length === 0
        ? `takes no fields, so not ${unknown}`
        : `has no field ${unknown}; its fields are ${known.join(", ")}`;
    },
  });
}

export function wholeNumber(minimum: number, maximum: number = Number.MAX_SAFE_INTEGER) {
  const error =
    maximum === Number.MAX_SAFE_INTEGER
      ? `must be a whole number, ${minimum} or more`
      : `must be a whole number from ${minimum} to ${maximum}`;
  return z.int({ error }).min(minimum, { error }).max(maximum, { error });
}

export function numberBetween(minimum: number, maximum: number) {
  const error = `must be a number from ${minimum} to ${maximum}`;
  return z.number({ error }).min(minimum, { error }).max(maximum, { error });
}

export function oneOf<const Names extends readonly [string, ...string[]]>(names: Names) {
  return z.enum(names, { error: `must be one of ${names.join(", ")}` });
}

/** A size in bytes, or as people write it: `4096`, `"64K"`. */
export function size(minimumBytes = 0) {
  const error = `must be a size${minimumBytes > 0 ? ` of at least ${formatSize(minimumBytes)}` : ""} such as 4096 or "64K"`;
  return z
    .union([z.int(), z.string()], { error })
    .refine((value) => (sizeBytes(value) ?? -1) >= minimumBytes, { error });
}

/** A duration with its unit, up to `maximum`: `"5ms"`. */
export function duration(maximum: string) {
  const maximumNs = parseDuration(maximum);
  const error = `must be a duration with its unit such as "100us" or "5ms", at most ${maximum}`;
  return z.string({ error }).refine((value) => (durationNs(value) ?? Number.POSITIVE_INFINITY) <= maximumNs, {
    error,
  });
}

/** The error for people: where the first mistake is, what was expected, what was given. */
export function toFaultError(error: z.ZodError, input: unknown, at: readonly string[] = []): BlkError {
  const issue = error.issues[0];
  const path = [...at, ...issue.path].map(String).join(".");
  let given: unknown = input;
  for (const key of issue.path) {
    given = given !== null && typeof given === "object" ? Reflect.get(given, key) : undefined;
  }
  // What is wrong with an object is said in words; printing it whole would only be noise.
  const suffix = given !== null && typeof given === "object" ? "" : `; given ${quote(given)}`;
  return faultInvalid(`${path === "" ? "the fault" : path} ${issue.message}${suffix}`);
}

export function faultInvalid(message: string): BlkError {
  return new BlkError(
    "BLK_E_FAULT_INVALID",
    message,
    "`blkforge fault kinds` lists every kind and its options",
  );
}

function sizeBytes(value: number | string): number | null {
  return typeof value === "number" ? value : parsed(parseSize, value);
}

function durationNs(value: string): number | null {
  return parsed(parseDuration, value);
}

function parsed(parse: (text: string) => number, text: string): number | null {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof BlkError) return null;
    throw error;
  }
}
