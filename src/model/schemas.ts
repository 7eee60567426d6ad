/**
 * The models a profile can name, and the schema of each one's keys: one line per model.
 *
 * Apart from `create.ts`, so that reading and checking profiles loads no simulator.
 */
import type * as z from "zod";
import { cloudSchema } from "./cloud/schema.js";
import { distributionSchema } from "./distribution/schema.js";
import { hddSchema } from "./hdd/schema.js";
import { fixedSchema, instantSchema } from "./simple/schema.js";
import { ssdSchema } from "./ssd/schema.js";

export const modelSchemas = {
  instant: instantSchema,
  fixed: fixedSchema,
  hdd: hddSchema,
  ssd: ssdSchema,
  distribution: distributionSchema,
  cloud: cloudSchema,
} as const;

export type ModelName = keyof typeof modelSchemas;

export const modelNames = Object.keys(modelSchemas) as ModelName[];

/** Models of devices that turn: what `rotational` is unless a profile says otherwise. */
export const rotationalModels: ReadonlySet<ModelName> = new Set<ModelName>(["hdd"]);

/** A model's name together with its checked parameters. */
export type ModelSpec = {
  [Name in ModelName]: { model: Name; parameters: z.output<(typeof modelSchemas)[Name]> };
}[ModelName];
