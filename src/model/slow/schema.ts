/**
 * The key `slow` of a profile, for devices of any model: when the whole device is slower than it should be, and which
 * of its requests are.
 */
import * as z from "zod";
import { Op, type Operation, operations } from "../../base/request.js";
import { duration } from "../../base/schema.js";
import { type SlowPreset, slowPresets } from "./presets.js";

/** A number that may be drawn anew each time. */
export type Draw =
  | { kind: "fixed"; value: number }
  | { kind: "uniform"; from: number; to: number }
  | { kind: "exponential"; mean: number }
  | { kind: "pareto"; minimum: number; shape: number; maximum: number };

const fixed = (value: number): Draw => ({ kind: "fixed", value });
const uniform = ([from, to]: [number, number]): Draw => ({ kind: "uniform", from, to });
const rising = { error: "must not end below its beginning" };

const positive = duration.refine((ns) => ns > 0, { error: "must be longer than 0" });

/** A time: fixed, between two, or exponential with a mean. */
const span = z.union([
  positive.transform(fixed),
  z
    .tuple([positive, positive])
    .refine(([from, to]) => to >= from, rising)
    .transform(uniform),
  z.strictObject({ mean: positive }).transform(({ mean }): Draw => ({ kind: "exponential", mean })),
]);

const largestRatio = 1e6;
const factor = z.number().min(1).max(largestRatio);

/** How many times slower: fixed, between two, or Pareto. */
const ratio = z.union([
  factor.transform(fixed),
  z
    .tuple([factor, factor])
    .refine(([from, to]) => to >= from, rising)
    .transform(uniform),
  z
    .strictObject({ minimum: factor, shape: z.number().positive(), maximum: factor.default(largestRatio) })
    .transform((given): Draw => ({ kind: "pareto", ...given })),
]);

/** A device that stops is infinitely slow. */
const ratioOrStop = z
  .union([z.literal("stop").transform((): Draw => fixed(Number.POSITIVE_INFINITY)), ratio])
  .describe("How many times slower; stop for not at all");

const entry = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("episodes").describe("Now and then the whole device is slow for a while"),
    between: span.describe("From the end of one to the beginning of the next"),
    lasting: span.describe("How long one lasts"),
    ratio: ratioOrStop,
  }),
  z.strictObject({
    kind: z.literal("stretches").describe("Time in stretches of equal length, each slow with a probability"),
    length: positive,
    probability: z.number().min(0).max(1),
    ratio: ratioOrStop,
  }),
  z.strictObject({
    kind: z.literal("timeline").describe("Slow from certain times on, since power-on"),
    phases: z
      .array(z.strictObject({ at: duration, ratio: ratioOrStop }))
      .min(1)
      .max(256)
      .refine((phases) => phases.every(({ at }, i) => i === 0 || at > phases[i - 1].at), {
        error: "must be in order of time",
      }),
  }),
  z
    .strictObject({
      kind: z.literal("requests").describe("Single requests are late; the others do not notice"),
      operations: z
        .array(z.enum(operations))
        .min(1)
        .default([...operations])
        .transform((names) => names.map((name: Operation) => Op[name])),
      probability: z.number().min(0).max(1),
      ratio: ratio.describe("How many times longer they take").optional(),
      add: span.describe("How much longer they take").optional(),
    })
    .refine(({ ratio: times, add }) => times !== undefined || add !== undefined, {
      error: "needs ratio or add",
    }),
]);

export type SlowEntry = z.output<typeof entry>;

const preset = z
  .enum(Object.keys(slowPresets) as [SlowPreset, ...SlowPreset[]])
  .transform((name): SlowEntry[] => z.array(entry).parse(slowPresets[name]));

export const slowSchema = z.union([
  preset,
  z
    .array(z.union([preset, entry]))
    .max(16)
    .transform((given): SlowEntry[] => given.flat()),
]);
