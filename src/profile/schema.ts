/**
 * What a profile says of any device, whatever its model. The model's own keys stand beside these at the top level,
 * so that `--set rpm=5400` and `--set size=1T` read alike; `src/model/schemas.ts` has them.
 */
import * as z from "zod";
import { byteSize, quote, withShorthand } from "../base/schema.js";
import { type ModelName, modelNames, modelSchemas } from "../model/schemas.js";
import { slowSchema } from "../model/slow/schema.js";
import { keysOf } from "./schema-walk.js";
import { zonedSchema } from "./zoned.js";

/**
 * Linux addresses blocks in sectors of 512 bytes; 64K is the largest minimum block NBD may advertise (proto.md, "Block
 * size constraints"). The kernel's own NBD client takes no logical block over its page size (drivers/block/nbd.c).
 */
const minimumBlockBytes = 512;
const maximumBlockBytes = 65536;

const blockBytes = byteSize.refine(
  (bytes) => bytes >= minimumBlockBytes && bytes <= maximumBlockBytes && Number.isInteger(Math.log2(bytes)),
  { error: ({ input }) => `must be a power of two from 512 to 64K, not ${quote(input)}` },
);

const blockSizes = z
  .strictObject({
    logical: blockBytes.describe("Smallest unit of a request; 512 by default").default(minimumBlockBytes),
    physical: blockBytes.describe("What the medium writes at once; the logical size by default").optional(),
  })
  .refine(({ logical, physical }) => physical === undefined || physical >= logical, {
    error: "must not be smaller than the logical block",
    path: ["physical"],
  });

export const commonSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, { error: "a name is made of letters, digits, ., _ and -" })
    .describe("What people call the device; the file's name by default")
    .optional(),
  description: z.string().describe("One line for listings").default(""),
  extends: z
    .string()
    .describe("Profile to start from: a name, or the path of a file relative to this one")
    .optional(),
  model: z.enum(modelNames as [ModelName, ...ModelName[]]).describe("What decides when requests complete"),
  size: byteSize.describe("Capacity unless --size says otherwise: 500G, 2T"),
  blockSize: withShorthand({
    key: "logical",
    scalar: blockBytes,
    object: blockSizes,
    expand: (logical) => ({ logical }),
  })
    .describe("Block sizes: one for both, or logical and physical")
    .default({ logical: minimumBlockBytes }),
  rotational: z.boolean().describe("Whether the kernel shall take it for a turning disk").optional(),
  writeCache: z
    .boolean()
    .describe("Whether writes are acknowledged before they are durable, so that flush and FUA matter")
    .default(false),
  zoned: zonedSchema
    .describe("Divides the device into zones that the host must write in order: SMR, ZNS")
    .optional(),
  slow: slowSchema
    .describe("A device that fails slow: the name of a preset, or a list of presets and of what is slow when")
    .default([]),
  sources: z.unknown().describe("Where the numbers come from, for the reader").optional(),
  acceptance: z.unknown().describe("Published figures the device is to be held against").optional(),
});

export type CommonKeys = z.output<typeof commonSchema>;

/** Whether the schema of `model` itself takes `key`. A key that both name goes to both. */
export function isModelKey(model: ModelName, key: string): boolean {
  return keysOf([modelSchemas[model]]).includes(key);
}

export function isCommonKey(key: string): boolean {
  return Object.hasOwn(commonSchema.shape, key);
}
