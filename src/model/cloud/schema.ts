/**
 * Keys of a cloud volume: limits in requests or bytes a second, with credits to go beyond them for a while.
 *
 * What a provider makes depend on the capacity is written as a rule (so much per GiB, between a minimum and a maximum;
 * or steps) and computed from the volume's size.
 */
import * as z from "zod";
import { Op, type Operation } from "../../base/request.js";
import { byteRate, byteSize, duration } from "../../base/schema.js";
import { latencySchema } from "../distribution/schema.js";

/** A figure of a volume: a number, or a rule that gives one for each capacity. */
export type BySize =
  | { kind: "rule"; perGiB: number; plus: number; minimum: number; maximum: number }
  | { kind: "steps"; steps: { fromBytes: number; value: number }[] };

function bySize(amount: z.ZodType<number>) {
  return z
    .union([
      amount.transform(
        (given): BySize => ({ kind: "rule", perGiB: 0, plus: given, minimum: 0, maximum: Number.MAX_VALUE }),
      ),
      z
        .strictObject({
          perGiB: amount.describe("For each GiB of capacity"),
          plus: amount.describe("And this, whatever the capacity").optional(),
          minimum: amount.describe("Never less").optional(),
          maximum: amount.describe("Never more").optional(),
        })
        .transform(
          ({ perGiB, plus = 0, minimum = 0, maximum = Number.MAX_VALUE }): BySize => ({
            kind: "rule",
            perGiB,
            plus,
            minimum,
            maximum,
          }),
        ),
      z
        .strictObject({
          steps: z
            .array(z.strictObject({ from: byteSize.describe("Capacity from which it holds"), value: amount }))
            .min(1)
            .max(64)
            .refine(
              (steps) => steps.every(({ from }, i) => (i === 0 ? from === 0 : from > steps[i - 1].from)),
              { error: "must begin with from: 0, and rise" },
            ),
        })
        .transform(
          ({ steps }): BySize => ({
            kind: "steps",
            steps: steps.map(({ from, value }) => ({ fromBytes: from, value })),
          }),
        ),
    ])
    .describe("A figure, or a rule by capacity");
}

/** The figure for a volume of `sizeBytes`. */
export function figureFor(figure: BySize, sizeBytes: number): number {
  if (figure.kind === "steps") return figure.steps.findLast(({ fromBytes }) => fromBytes <= sizeBytes)!.value;
  const { perGiB, plus, minimum, maximum } = figure;
  return Math.min(maximum, Math.max(minimum, plus + (perGiB * sizeBytes) / 2 ** 30));
}

const limitedOperations = z
  .array(z.enum(["read", "write", "trim", "zeroes"]))
  .min(1)
  .describe("What it limits; flushes cost nothing")
  .default(["read", "write", "zeroes"])
  .transform((names) => names.map((name: Operation) => Op[name]));

const common = {
  name: z
    .string()
    .regex(/^[a-z][A-Za-z0-9]*$/, {
      error: "a name is made of letters and digits, and begins with a small letter",
    })
    .describe("What reports call it: iops, throughput"),
  operations: limitedOperations,
  burstTime: duration
    .describe("Instead of credits: how long a full bucket lasts at the burst rate")
    .optional(),
  window: duration
    .describe("How long an unused part of the rate is kept; 0 spaces requests evenly from the first on")
    .default(0),
};

const requestLimit = z.strictObject({
  counts: z.literal("requests").describe("Requests a second (IOPS)"),
  ...common,
  base: bySize(z.number().positive()).describe("Rate that is always there, and at which credits come back"),
  burst: bySize(z.number().positive())
    .describe("Rate while there are credits, or always when none are needed")
    .optional(),
  credits: bySize(z.number().positive())
    .describe("Bucket of credits, one per request; it starts full")
    .optional(),
  unit: byteSize
    .refine((bytes) => bytes > 0, { error: "must be more than 0" })
    .describe("A request counts as one for each part of this size")
    .default(Number.MAX_SAFE_INTEGER),
  merge: z
    .boolean()
    .describe("Whether requests that continue the one before count together, up to the unit")
    .default(false),
});

const byteLimit = z.strictObject({
  counts: z.literal("bytes").describe("Bytes a second (throughput)"),
  ...common,
  base: bySize(byteRate).describe("Rate that is always there, and at which credits come back"),
  burst: bySize(byteRate).describe("Rate while there are credits, or always when none are needed").optional(),
  credits: bySize(byteSize.refine((bytes) => bytes > 0, { error: "must be more than 0" }))
    .describe("Bucket of credits, one per byte; it starts full")
    .optional(),
});

const limit = z.discriminatedUnion("counts", [requestLimit, byteLimit]).superRefine((given, context) => {
  const needsBurst = (["credits", "burstTime"] as const).find((key) => given[key] !== undefined);
  if (needsBurst !== undefined && given.burst === undefined)
    context.addIssue({ code: "custom", path: [needsBurst], message: "is for bursts; give burst as well" });
  if (given.credits !== undefined && given.burstTime !== undefined)
    context.addIssue({
      code: "custom",
      path: ["burstTime"],
      message: "contradicts credits; give one or the other",
    });
});

export type LimitParameters = z.output<typeof limit>;

export const cloudSchema = z.strictObject({
  latency: latencySchema.describe("Latency of a request that no limit holds back"),
  transfer: byteRate.describe("Network rate: adds the time of a request's data to its latency").optional(),
  limits: z
    .array(limit)
    .max(8)
    .superRefine((limits, context) => {
      limits.forEach(({ name }, i) => {
        if (limits.findIndex((other) => other.name === name) < i)
          context.addIssue({
            code: "custom",
            path: [i, "name"],
            message: `there are two limits called ${name}`,
          });
      });
    })
    .describe("Limits of the volume; a request waits for all that apply to it")
    .default([]),
});

export type CloudParameters = z.output<typeof cloudSchema>;
