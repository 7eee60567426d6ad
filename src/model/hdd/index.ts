/** The hard-disk model: schema in `schema.ts`, its parts one file each, joined in `model.ts`. */
export { type CreateHddOptions, createHddModel, HddModel } from "./model.js";
export { type HddParameters, hddSchema, hddShape } from "./schema.js";
