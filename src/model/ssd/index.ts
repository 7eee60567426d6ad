/** The solid-state drive model: schema in `schema.ts`, its parts one file each, joined in `parts.ts` and run by `model.ts`. */
import type { Model } from "../model.js";
import { DirectModel } from "./direct.js";
import { type CreateSsdOptions, SsdModel } from "./model.js";

export { type CreateSsdOptions, SsdModel } from "./model.js";
export { type SsdParameters, ssdSchema, ssdShape } from "./schema.js";

/** Flash behind a translation layer, or a medium written in place where the profile says `direct`. */
export function createSsdModel(options: CreateSsdOptions): Model {
  const { direct } = options.parameters;
  return direct === undefined ? new SsdModel(options) : new DirectModel({ ...options, direct });
}
