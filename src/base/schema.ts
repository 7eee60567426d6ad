/**
 * Building blocks for the schemas of everything people write: values with units, and the short forms YAML and
 * `--set` allow. Each speaks the same words in validation messages and in the published JSON Schema.
 *
 * @example
 * const latency = duration.describe("From arrival to completion");
 * latency.parse("100us"); // 100000, nanoseconds
 */
import * as z from "zod";
import { BlkError } from "./errors.js";
import { parseDuration, parseSize } from "./units.js";

const durationPattern = /^(0|\d+(\.\d+)?(ns|us|µs|ms|s|min|m|h))$/;
const sizePattern = /^\d+[KMGTP]?$/;

/** A duration, `"100us"`, `"1.5ms"` or 0; becomes nanoseconds. */
export const duration = z
  .union([z.literal(0), z.string().regex(durationPattern, { error: notADuration })], { error: notADuration })
  .transform((written, context) => convert(() => parseDuration(String(written)), context));

/** A size, `"256M"` or a number of bytes; becomes bytes. */
export const byteSize = z
  .union([z.int().nonnegative(), z.string().regex(sizePattern, { error: notASize })], { error: notASize })
  .transform((written, context) => convert(() => parseSize(String(written)), context));

const rateFactors: Record<string, number> = { kB: 1e3, MB: 1e6, GB: 1e9, MiB: 2 ** 20, GiB: 2 ** 30 };

/** A data rate, `"210MB/s"` (10^6 bytes) or `"1.2MiB/s"`; becomes bytes per second. */
export const byteRate = z
  .string()
  .regex(/^\d+(\.\d+)?(kB|MB|GB|MiB|GiB)\/s$/, {
    error: ({ input }) => `${quote(input)} is not a rate; write 210MB/s, 1.2GB/s or 180MiB/s`,
    abort: true,
  })
  .refine((written) => Number.parseFloat(written) > 0, { error: "a rate of zero never finishes anything" })
  .transform((written) => Number.parseFloat(written) * rateFactors[/[a-zA-Z]+/.exec(written)![0]]);

/** Schemas of strings that are paths of files: in a profile they are relative to the profile's own file. */
export const filePaths = z.registry<{ isFilePath: true }>();

/** Where a scalar goes when it stands for an object: `latency: 1ms` is `latency: { all: 1ms }`. */
export const shorthands = z.registry<{ key: string }>();

/**
 * An object that a scalar may stand for.
 *
 * A later, more particular setting (`--set latency.read=100us`) finds the scalar under `key`, so both can be given.
 *
 * @param expand turns the scalar, parsed, into the object, defaults and all.
 */
export function withShorthand<Scalar extends z.ZodType, Shape extends z.ZodObject>(options: {
  key: string & keyof Shape["shape"];
  scalar: Scalar;
  object: Shape;
  expand: (value: z.output<Scalar>) => z.output<Shape>;
}) {
  const { key, scalar, object, expand } = options;
  const either = z.union([scalar, object]);
  shorthands.add(either, { key });
  return either.transform(
    (value): z.output<Shape> =>
      typeof value === "object" && value !== null
        ? (value as z.output<Shape>)
        : expand(value as z.output<Scalar>),
  );
}

interface Given {
  input?: unknown;
}

function notADuration({ input }: Given): string {
  return `${quote(input)} is not a duration; write a number and a unit: 100us, 1.5ms, 2s`;
}

function notASize({ input }: Given): string {
  return `${quote(input)} is not a size; write bytes or binary units: 512, 10M, 2G, 1T`;
}

/** A value as a message shows it: short, and never mistaken for the words around it. */
export function quote(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** Runs a parser that throws `BlkError`, turning its words into an issue of the schema. */
function convert(parse: () => number, context: z.RefinementCtx): number {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof BlkError)) throw error;
    context.addIssue({ code: "custom", message: error.message });
    return z.NEVER;
  }
}
