/**
 * Finds one's way in a schema by path: which keys are known where, what a scalar may stand for. Serves settings
 * (`--set latency.read=1ms`), the merging of profiles, and suggestions in messages.
 *
 * A place in a schema is a list of alternatives, since a union offers several at once.
 */
import * as z from "zod";
import type { $ZodType, $ZodTypes } from "zod/v4/core";
import { filePaths, shorthands } from "../base/schema.js";

export type Place = readonly $ZodType[];

/** The place below `key`; empty when no alternative knows it. */
export function descend(place: Place, key: string): Place {
  return alternatives(place).flatMap((schema) => {
    const { def } = schema._zod;
    switch (def.type) {
      case "object":
        return Object.hasOwn(def.shape, key) ? [def.shape[key]] : [];
      case "record":
        return [def.valueType];
      case "array":
        return /^\d+$/.test(key) ? [def.element] : [];
      case "tuple":
        return /^\d+$/.test(key) && Number(key) < def.items.length ? [def.items[Number(key)]] : [];
      case "unknown":
      case "any":
        return [schema];
      default:
        return [];
    }
  });
}

/** Every key known by name at this place. */
export function keysOf(place: Place): string[] {
  const keys = new Set<string>();
  for (const { _zod } of alternatives(place)) {
    if (_zod.def.type === "object") for (const key of Object.keys(_zod.def.shape)) keys.add(key);
  }
  return [...keys];
}

/** The values a place allows, when it is a choice among literals. */
export function choicesOf(place: Place): unknown[] {
  return alternatives(place).flatMap(({ _zod: { def } }) => {
    if (def.type === "literal") return [...def.values];
    if (def.type === "enum") return Object.values(def.entries);
    return [];
  });
}

/** The key a scalar at this place stands for, if it may stand for an object. */
export function shorthandKeyOf(place: Place): string | undefined {
  for (const schema of unwrap(place)) {
    const key = shorthands.get(schema)?.key;
    if (key !== undefined) return key;
  }
  return undefined;
}

/** Whether a string at this place is the path of a file. */
export function isFilePath(place: Place): boolean {
  return alternatives(place).some((schema) => filePaths.has(schema));
}

/** The key whose value selects the alternative, if there is one. */
export function discriminatorOf(place: Place): string | undefined {
  for (const { _zod } of unwrap(place)) {
    if (_zod.def.type !== "union") continue;
    if ("discriminator" in _zod.def) return String(_zod.def.discriminator);
    const inner = discriminatorOf(_zod.def.options);
    if (inner !== undefined) return inner;
  }
  return undefined;
}

/** The alternatives that `value` selects, where a key selects among forms (`seek.curve`); otherwise the place as it is. */
export function narrow(place: Place, value: unknown): Place {
  const selector = discriminatorOf(place);
  if (selector === undefined || typeof value !== "object" || value === null) return place;
  const selected = (value as Record<string, unknown>)[selector];
  const forms = alternatives(place).filter((form) => choicesOf(descend([form], selector)).includes(selected));
  return forms.length > 0 ? forms : place;
}

/** What the schema says of this place, for people; nothing where its alternatives say different things. */
export function descriptionOf(place: Place): string | undefined {
  if (place.length !== 1) return undefined;
  const [schema] = place;
  const inner = peel(schema);
  return (
    z.globalRegistry.get(schema)?.description ?? (inner === undefined ? undefined : descriptionOf([inner]))
  );
}

/** What is left when wrappers (optional, default, transform) and unions are opened. */
function alternatives(place: Place): $ZodTypes[] {
  return unwrap(place).flatMap((schema) => {
    const { def } = schema._zod;
    return def.type === "union" ? alternatives(def.options) : [schema];
  });
}

function unwrap(place: Place): $ZodTypes[] {
  return place.flatMap((schema) => {
    const inner = peel(schema);
    return inner === undefined ? [schema as $ZodTypes] : unwrap([inner]);
  });
}

/** What a wrapper wraps; undefined for what is none. */
function peel(schema: $ZodType): $ZodType | undefined {
  const { def } = (schema as $ZodTypes)._zod;
  switch (def.type) {
    case "optional":
    case "nullable":
    case "default":
    case "prefault":
    case "nonoptional":
    case "readonly":
    case "catch":
      return def.innerType;
    case "pipe":
      // What people write is the input; `z.preprocess` alone has it on the far side.
      return def.in._zod.def.type === "transform" ? def.out : def.in;
    case "lazy":
      return def.getter();
    default:
      return undefined;
  }
}
