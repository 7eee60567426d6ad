/** Keys of the two simple models in a profile. */
import * as z from "zod";
import { operations } from "../../base/request.js";
import { duration, withShorthand } from "../../base/schema.js";

/** `instant` has nothing to set. */
export const instantSchema = z.strictObject({});

export type InstantParameters = z.output<typeof instantSchema>;

const perOperation = z.strictObject({
  all: duration.describe("Latency of every operation not named below; 0 by default").default(0),
  read: duration.describe("Latency of reads").optional(),
  write: duration.describe("Latency of writes").optional(),
  flush: duration.describe("Latency of flushes").optional(),
  trim: duration.describe("Latency of trims").optional(),
  zeroes: duration.describe("Latency of write-zeroes").optional(),
  append: duration.describe("Latency of zone appends").optional(),
  zoneOpen: duration.describe("Latency of opening a zone").optional(),
  zoneClose: duration.describe("Latency of closing a zone").optional(),
  zoneFinish: duration.describe("Latency of finishing a zone").optional(),
  zoneReset: duration.describe("Latency of resetting a zone").optional(),
  zoneResetAll: duration.describe("Latency of resetting all zones").optional(),
  zoneReport: duration.describe("Latency of reporting zones").optional(),
});

export const fixedSchema = z.strictObject({
  /** Becomes one latency per operation, in the order of `operations`: what the model indexes by operation code. */
  latency: withShorthand({
    key: "all",
    scalar: duration,
    object: perOperation,
    expand: (all) => ({ all }),
  })
    .transform((given) => operations.map((operation) => given[operation] ?? given.all))
    .describe("Time from arrival to completion: one duration, or one per operation"),
});

export type FixedParameters = z.output<typeof fixedSchema>;
