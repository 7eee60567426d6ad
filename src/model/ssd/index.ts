/** The solid-state drive model: schema in `schema.ts`, its parts one file each, joined in `model.ts`. */
export { type CreateSsdOptions, createSsdModel, SsdModel } from "./model.js";
export { type SsdParameters, ssdSchema, ssdShape } from "./schema.js";
