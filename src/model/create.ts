/** From a profile's model and parameters to a running model: one line per model. */
import type { RequestTable } from "../base/request.js";
import { createCloudModel } from "./cloud/model.js";
import { createDistributionModel } from "./distribution/model.js";
import { createHddModel } from "./hdd/index.js";
import type { Model } from "./model.js";
import type { ModelObserver } from "./observer.js";
import type { ModelSpec } from "./schemas.js";
import { createFixedModel } from "./simple/fixed.js";
import { createInstantModel } from "./simple/instant.js";
import type { SlowEntry } from "./slow/schema.js";
import { makeSlow } from "./slow/wrap.js";
import { createSsdModel } from "./ssd/index.js";

export interface CreateModelOptions {
  /** A `Profile`, of which only the model, its parameters and what is named here are used. */
  profile: ModelSpec & {
    hasVolatileCache?: boolean;
    physicalBlockBytes?: number;
    slow?: readonly SlowEntry[];
  };
  /** The table that names the requests, and bounds how many can be in flight. */
  requests: RequestTable;
  /** Every random decision of the model derives from it. */
  seed: number;
  sizeBytes: number;
  /** Is told what happens inside, for timelines, by models that can tell. */
  observer?: ModelObserver | undefined;
}

export function createModel(options: CreateModelOptions): Model {
  return makeSlow(createHealthyModel(options), options.profile.slow ?? [], options);
}

function createHealthyModel({ profile, requests, seed, sizeBytes, observer }: CreateModelOptions): Model {
  switch (profile.model) {
    case "instant":
      return createInstantModel({ requests });
    case "fixed":
      return createFixedModel({ parameters: profile.parameters, requests });
    case "distribution":
      return createDistributionModel({ parameters: profile.parameters, requests, seed });
    case "cloud":
      return createCloudModel({ parameters: profile.parameters, sizeBytes, requests, seed });
    case "hdd":
      return createHddModel({
        parameters: profile.parameters,
        sizeBytes,
        requests,
        seed,
        hasVolatileCache: profile.hasVolatileCache,
        physicalBlockBytes: profile.physicalBlockBytes,
      });
    case "ssd":
      return createSsdModel({
        parameters: profile.parameters,
        sizeBytes,
        requests,
        seed,
        hasVolatileCache: profile.hasVolatileCache,
        observer,
      });
  }
}
