/** Every kind of fault, in the order of documentation and listings. */
import type { FaultKind } from "./define.js";
import { delay } from "./delay.js";
import { error } from "./error.js";
import { hang } from "./hang.js";

export const faultKinds: readonly [FaultKind, ...FaultKind[]] = [error, delay, hang];
