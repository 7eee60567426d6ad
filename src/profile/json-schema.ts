/**
 * The JSON Schema of profiles, for editors: `blkforge profiles --schema > profile.schema.json`, then a first line
 * `# yaml-language-server: $schema=profile.schema.json` in the YAML.
 *
 * It describes what people write, before defaults. What holds between keys (zones that overlap) only loading checks.
 */
import * as z from "zod";
import { type ModelName, modelNames, modelSchemas } from "../model/schemas.js";
import type { Data } from "./layer.js";
import { isData } from "./layer.js";
import { commonSchema } from "./schema.js";

export function profileJsonSchema(): Data {
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "blkforge device profile",
    type: "object",
    // A profile that extends another needs nothing of its own; its model may be the other's.
    if: { required: ["extends"] },
    // biome-ignore lint/suspicious/noThenProperty: "then" is a keyword of JSON Schema
    then: { anyOf: modelNames.map((model) => ({ $ref: `#/$defs/${model}-extended` })) },
    else: {
      required: ["model"],
      properties: { model: { enum: modelNames } },
      allOf: modelNames.map((model) => ({
        if: { properties: { model: { const: model } }, required: ["model"] },
        // biome-ignore lint/suspicious/noThenProperty: as above
        then: { $ref: `#/$defs/${model}` },
      })),
    },
    $defs: Object.fromEntries(
      modelNames.flatMap((model) => {
        const complete = profileOf(model);
        return [
          [model, complete],
          [`${model}-extended`, withoutRequired(complete)],
        ];
      }),
    ),
  };
}

/** Common keys and the model's own, side by side as in the YAML. */
function profileOf(model: ModelName): Data {
  const common = inputOf(commonSchema);
  const own = inputOf(modelSchemas[model]);
  return {
    type: "object",
    properties: {
      ...(common.properties as Data),
      ...(own.properties as Data),
      model: { ...((common.properties as Data).model as Data), const: model },
    },
    required: [...((common.required as string[]) ?? []), ...((own.required as string[]) ?? [])],
    additionalProperties: false,
  };
}

function inputOf(schema: z.ZodType): Data {
  return z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }) as Data;
}

function withoutRequired(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(withoutRequired);
  if (!isData(schema)) return schema;
  return Object.fromEntries(
    Object.entries(schema)
      // A property that is called "required" is a schema; the keyword is a list.
      .filter(([key, value]) => !(key === "required" && Array.isArray(value)))
      .map(([key, value]) => [key, withoutRequired(value)]),
  );
}
