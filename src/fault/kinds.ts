/** Every kind of fault, in the order of documentation and listings. */
import type * as z from "zod";
import type { Operation } from "../base/request.js";
import type { FaultKind } from "./define.js";
import { delay } from "./delay.js";
import { error } from "./error.js";
import { hang } from "./hang.js";
import type { HostView } from "./host-view.js";

export const faultKinds: readonly [FaultKind, ...FaultKind[]] = [error, delay, hang];

/** A kind for people and programs who choose one. */
export interface FaultKindReport {
  name: string;
  summary: string;
  /** Operations a trigger means that names none. */
  ops: readonly Operation[];
  /** The options as a JSON Schema. */
  options: z.core.JSONSchema.BaseSchema;
  hostView: HostView;
}

export function describeFaultKinds(): FaultKindReport[] {
  return faultKinds.map((kind) => ({
    name: kind.name,
    summary: kind.summary,
    ops: kind.ops,
    options: kind.optionsSchema(),
    hostView: kind.hostViewInGeneral,
  }));
}
