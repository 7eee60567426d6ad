/**
 * Keys of random latencies: what people know of a distribution (a median and a percentile, a table, a fio run) becomes its
 * parameters, fitted exactly.
 */
import * as z from "zod";
import { type Operation, operations } from "../../base/request.js";
import { duration, filePaths, quote, withShorthand } from "../../base/schema.js";
import { type FioOperation, fioOperations, readFioLatencies } from "./fio.js";

/** Samples are cut here; no block layer waits longer. */
export const longestNs = 3600e9;

/** Standard normal quantile of 0.99. */
const normal99 = 2.3263478740408408;

/** e^4 is a factor of 55 for one standard deviation: no device is so uneven, and samples stay far from overflow. */
const largestSigma = 4;

const positive = duration.refine((ns) => ns > 0 && ns <= longestNs, {
  error: "must be longer than 0, and at most an hour",
});

/** A distribution ready for its sampler: plain data, times in nanoseconds. */
export type LatencyDistribution =
  | { kind: "constant"; timeNs: number }
  | { kind: "lognormal"; medianNs: number; sigma: number }
  | { kind: "pareto"; minimumNs: number; shape: number; maximumNs: number }
  | { kind: "table"; probabilities: number[]; timesNs: number[]; isGeometric: boolean }
  | { kind: "mixture"; parts: { weight: number; latency: LatencyDistribution }[] };

/** A fio run serves whichever operation it stands for, which only the place it stands at can tell. */
type WrittenDistribution =
  | LatencyDistribution
  | { kind: "fio"; file: string; operation?: FioOperation | undefined };

const lognormal = z
  .strictObject({
    kind: z.literal("lognormal").describe("Lognormal: a long right tail, as service times under load have"),
    median: positive.describe("Half of all are faster"),
    sigma: z
      .number()
      .min(0)
      .max(largestSigma)
      .describe("Spread: standard deviation of the logarithm; or give mean or p99")
      .optional(),
    mean: positive.describe("Mean, above the median").optional(),
    p99: positive.describe("99th percentile").optional(),
  })
  .transform(({ median, sigma, mean, p99 }, context): LatencyDistribution => {
    if ([sigma, mean, p99].filter((given) => given !== undefined).length !== 1)
      return refuse(context, [], "needs one of sigma, mean and p99 beside the median");
    // mean = median * exp(sigma^2 / 2), p99 = median * exp(2.326 sigma).
    const fitted =
      sigma ??
      (p99 === undefined ? Math.sqrt(2 * Math.log(mean! / median)) : Math.log(p99 / median) / normal99);
    if (!(fitted >= 0 && fitted <= largestSigma))
      return refuse(
        context,
        [p99 === undefined ? "mean" : "p99"],
        "must be above the median, and within what a spread of 4 reaches",
      );
    return { kind: "lognormal", medianNs: median, sigma: fitted };
  });

const pareto = z
  .strictObject({
    kind: z.literal("pareto").describe("Pareto: a tail that falls as a power, the heaviest there is"),
    minimum: positive.describe("None is faster").optional(),
    shape: z.number().gt(0).max(1000).describe("Exponent: the smaller the heavier the tail").optional(),
    mean: positive.describe("Mean, instead of the shape").optional(),
    median: positive.describe("Median; with p99 instead of minimum and shape").optional(),
    p99: positive.describe("99th percentile").optional(),
    maximum: positive.describe("Longer ones are cut to this").optional(),
  })
  .transform(({ minimum, shape, mean, median, p99, maximum }, context): LatencyDistribution => {
    const maximumNs = maximum ?? longestNs;
    if (minimum !== undefined && median === undefined && p99 === undefined) {
      if ((shape === undefined) === (mean === undefined))
        return refuse(context, [], "needs either shape or mean beside the minimum");
      // mean = shape * minimum / (shape - 1).
      if (mean !== undefined && mean <= minimum)
        return refuse(context, ["mean"], "must be above the minimum");
      return { kind: "pareto", minimumNs: minimum, shape: shape ?? mean! / (mean! - minimum), maximumNs };
    }
    if (median === undefined || p99 === undefined || (minimum ?? shape ?? mean) !== undefined)
      return refuse(context, [], "needs minimum and shape, minimum and mean, or median and p99");
    if (p99 <= median) return refuse(context, ["p99"], "must be above the median");
    // quantile(p) = minimum * (1 - p)^(-1 / shape).
    const fitted = Math.log(50) / Math.log(p99 / median);
    return { kind: "pareto", minimumNs: median * 0.5 ** (1 / fitted), shape: fitted, maximumNs };
  });

const percentiles = z
  .strictObject({
    kind: z.literal("percentiles").describe("A table of percentiles, as data sheets and fio print them"),
    table: z
      .record(
        z.string().regex(/^p?\d+(\.\d+)?$/, { error: ({ input }) => `${quote(input)} is not a percentile` }),
        positive,
      )
      .describe("Percentile to latency: { 1: 72us, 50: 115us, 99: 185us, 100: 400us }"),
    interpolation: z
      .enum(["geometric", "linear"])
      .describe("Between two percentiles: equal factors, which suits tails, or equal steps")
      .default("geometric"),
  })
  .transform(({ table, interpolation }, context): LatencyDistribution => {
    const points = Object.entries(table)
      .map(([percent, ns]) => [Number(percent.replace("p", "")) / 100, ns] as const)
      .sort(([a], [b]) => a - b);
    if (points.length === 0) return refuse(context, ["table"], "needs at least one percentile");
    if (points[points.length - 1][0] > 1) return refuse(context, ["table"], "has a percentile above 100");
    const fallen = points.findIndex(([, ns], i) => i > 0 && ns < points[i - 1][1]);
    if (fallen > 0)
      return refuse(
        context,
        ["table"],
        `falls from percentile ${points[fallen - 1][0] * 100} to ${points[fallen][0] * 100}`,
      );
    // Beyond the outermost percentiles it stays at them.
    const all = [[0, points[0][1]] as const, ...points, [1, points[points.length - 1][1]] as const];
    return {
      kind: "table",
      probabilities: all.map(([probability]) => probability),
      timesNs: all.map(([, ns]) => ns),
      isGeometric: interpolation === "geometric",
    };
  });

const constant = z
  .strictObject({ kind: z.literal("constant").describe("Always the same"), time: positive })
  .transform(({ time }): LatencyDistribution => ({ kind: "constant", timeNs: time }));

const simple = z.discriminatedUnion("kind", [lognormal, pareto, percentiles, constant]);

const mixture = z
  .strictObject({
    kind: z.literal("mixture").describe("Several distributions, each drawn from with a probability"),
    of: z
      .array(z.strictObject({ weight: z.number().positive(), latency: simple }))
      .min(1)
      .max(32)
      .describe("Weights need not add up to anything"),
  })
  .transform(
    ({ of }): LatencyDistribution => ({
      kind: "mixture",
      parts: of.map(({ weight, latency }) => ({ weight, latency })),
    }),
  );

const file = z.string().min(1).describe("JSON of a fio run, relative to the profile");
filePaths.add(file, { isFilePath: true });

const fio = z.strictObject({
  kind: z
    .literal("fio")
    .describe("What a real device took: the histogram of a fio run (json+), or its percentiles"),
  file,
  operation: z.enum(fioOperations).describe("Take this operation's for the one it stands for").optional(),
});

const distribution = z.union([
  duration.transform((timeNs): LatencyDistribution => ({ kind: "constant", timeNs })),
  z.discriminatedUnion("kind", [lognormal, pareto, percentiles, constant, mixture, fio]),
]);

const perOperation = z.strictObject({
  all: distribution.describe("Of every operation not named below; 0 by default").optional(),
  read: distribution.describe("Of reads").optional(),
  write: distribution.describe("Of writes").optional(),
  flush: distribution.describe("Of flushes").optional(),
  trim: distribution.describe("Of trims").optional(),
  zeroes: distribution.describe("Of write-zeroes; as writes by default").optional(),
});

type PerOperationKey = keyof z.output<typeof perOperation>;

/** Whose distribution an operation takes: the first that is given. */
const standIns: Record<Operation, readonly PerOperationKey[]> = {
  read: ["read", "all"],
  write: ["write", "all"],
  flush: ["flush", "all"],
  trim: ["trim", "all"],
  zeroes: ["zeroes", "write", "all"],
  append: ["write", "all"],
  zoneOpen: ["all"],
  zoneClose: ["all"],
  zoneFinish: ["all"],
  zoneReset: ["trim", "all"],
  zoneResetAll: ["trim", "all"],
  zoneReport: ["all"],
};

/** Becomes one distribution per operation, in the order of `operations`. */
export const latencySchema = withShorthand({
  key: "all",
  scalar: duration,
  object: perOperation,
  expand: (timeNs) => ({ all: { kind: "constant" as const, timeNs } }),
})
  .transform((given, context): LatencyDistribution[] =>
    operations.map((operation) => {
      const key = standIns[operation].find((candidate) => given[candidate] !== undefined);
      return key === undefined
        ? { kind: "constant", timeNs: 0 }
        : resolveFio(given[key]!, operation, key, context);
    }),
  )
  .describe("Latency: one duration for all operations, or a distribution each");

/** fio's own names; it measures no write-zeroes, and only what else it measures can be taken from a run. */
function fioOperationOf(operation: Operation): FioOperation {
  if (operation === "flush") return "sync";
  if (operation === "zeroes" || operation === "append") return "write";
  return operation === "read" || operation === "write" ? operation : "trim";
}

function resolveFio(
  written: WrittenDistribution,
  operation: Operation,
  key: string,
  context: z.RefinementCtx,
): LatencyDistribution {
  if (written.kind !== "fio") return written;
  try {
    const wanted = written.operation ?? fioOperationOf(operation);
    const found = readFioLatencies(written.file, wanted);
    if (found !== null) return { kind: "table", ...found.points, isGeometric: !found.isComplete };
    // A run of reads alone says nothing of the others; only where it was asked for is that a mistake.
    if (key === "all" && written.operation === undefined) return { kind: "constant", timeNs: 0 };
    return refuse(context, [key, "file"], `${written.file} has no ${wanted}s`);
  } catch (error) {
    return refuse(context, [key, "file"], error instanceof Error ? error.message : String(error));
  }
}

function refuse(context: z.RefinementCtx, path: string[], message: string): never {
  context.addIssue({ code: "custom", path, message });
  return z.NEVER;
}

export const distributionSchema = z.strictObject({
  latency: latencySchema,
  concurrency: z
    .int()
    .min(1)
    .max(65_536)
    .describe("Requests served at once, in order of arrival; without a limit by default")
    .optional(),
});

export type DistributionParameters = z.output<typeof distributionSchema>;
