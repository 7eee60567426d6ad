/** Makes a model slow as a profile's `slow` says: one wrapper per entry, each with a stream of chance of its own. */
import { Random } from "../../base/random.js";
import type { RequestTable } from "../../base/request.js";
import type { Model } from "../model.js";
import { LateRequests } from "./late-requests.js";
import { createPhases } from "./phases.js";
import type { SlowEntry } from "./schema.js";
import { SlowClock } from "./slow-clock.js";

export function makeSlow(
  model: Model,
  entries: readonly SlowEntry[],
  { requests, seed }: { requests: RequestTable; seed: number },
): Model {
  return entries.reduce<Model>((inner, entry, i) => {
    const random = new Random(seed, `model/slow-${i + 1}`);
    return entry.kind === "requests"
      ? new LateRequests(inner, entry, requests, random)
      : new SlowClock(inner, createPhases(entry, random));
  }, model);
}
