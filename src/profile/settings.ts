/**
 * `--set path=value`: changes a profile on the command line.
 *
 * General settings are applied before particular ones whatever their order, so `latency.read=100us` survives a
 * `latency=1ms` beside it; of two settings of the same path the last wins. `null` removes a key.
 */
import { isScalar, parseDocument } from "yaml";
import { BlkError } from "../base/errors.js";
import { closest } from "../base/suggest.js";
import type { Data } from "./layer.js";
import { isData } from "./layer.js";
import { descend, discriminatorOf, keysOf, narrow, type Place, shorthandKeyOf } from "./schema-walk.js";

export interface Setting {
  /** As given: `latency.read=100us`. */
  text: string;
  path: string[];
  value: unknown;
}

/** Settings in the order of their application. */
export function parseSettings(texts: readonly string[]): Setting[] {
  return texts.map(parseSetting).sort((a, b) => a.path.length - b.path.length);
}

function parseSetting(text: string): Setting {
  const equals = text.indexOf("=");
  const path = text.slice(0, Math.max(equals, 0)).split(".");
  if (equals <= 0 || path.includes("")) {
    throw new BlkError(
      "BLK_E_SETTING",
      `"${text}" is not a setting`,
      "Write path=value: latency=1ms, latency.read=100us",
    );
  }
  return { text, path, value: parseValue(text.slice(equals + 1)) };
}

/** A YAML scalar, or a flow collection in its brackets; what is neither is the text itself. */
function parseValue(text: string): unknown {
  const document = parseDocument(text);
  const isMeant = isScalar(document.contents) || /^\s*[[{]/.test(text);
  return document.errors.length === 0 && isMeant ? document.toJS() : text;
}

/** A copy of `data` with one setting applied. `place` is where `data` lies in the schema. */
export function applySetting(data: Data, setting: Setting, place: Place): Data {
  return assign(data, setting.path, setting, place) as Data;
}

function assign(value: unknown, path: readonly string[], setting: Setting, place: Place): unknown {
  if (path.length === 0) return setting.value;
  const [key, ...rest] = path;
  const below = descend(place, key);
  if (below.length === 0) throw unknownPath(setting, setting.path.length - path.length, place);
  if (Array.isArray(value)) {
    const index = Number(key);
    if (index > value.length) {
      throw new BlkError(
        "BLK_E_SETTING",
        `--set ${setting.text}: there are only ${value.length} entries`,
        "Count from 0",
      );
    }
    const entry = assign(value[index], rest, setting, below);
    return index === value.length ? [...value, entry] : value.with(index, entry);
  }
  const from = asData(value, place);
  const assigned = assign(from[key], rest, setting, below);
  if (assigned === null) return without(from, key);
  return { ...ofSameForm(from, { [key]: assigned }, place), [key]: assigned };
}

/** Lays `over` on `base`: mappings key by key, everything else replaced. `null` removes what the base has. */
export function merge(base: unknown, over: Data, place: Place): Data {
  let result = ofSameForm(asData(base, place), over, place);
  for (const [key, value] of Object.entries(over)) {
    if (value === null) result = without(result, key);
    else
      result = { ...result, [key]: isData(value) ? merge(result[key], value, descend(place, key)) : value };
  }
  return result;
}

/** Where a key of `over` selects another form than `base` has (`seek.curve`), what that form has in common with it. */
function ofSameForm(base: Data, over: Data, place: Place): Data {
  const selector = discriminatorOf(place);
  if (selector === undefined || !(selector in over) || over[selector] === base[selector]) return base;
  const known = keysOf(narrow(place, over));
  return Object.fromEntries(Object.entries(base).filter(([key]) => known.includes(key)));
}

function without(data: Data, removed: string): Data {
  return Object.fromEntries(Object.entries(data).filter(([key]) => key !== removed));
}

/** The mapping that `value` is or stands for; empty for what a mapping can only replace. */
function asData(value: unknown, place: Place): Data {
  if (isData(value)) return value;
  const key = shorthandKeyOf(place);
  return key === undefined || value === undefined || typeof value === "object" ? {} : { [key]: value };
}

function unknownPath(setting: Setting, depth: number, place: Place): BlkError {
  const known = keysOf(place);
  const parent = setting.path.slice(0, depth).join(".");
  const key = setting.path[depth];
  const suggestion = closest(key, known);
  const prefix = parent === "" ? "" : `${parent}.`;
  const what = parent === "" ? "the profile" : `"${parent}"`;
  if (known.length === 0) {
    return new BlkError(
      "BLK_E_SETTING",
      `--set ${setting.text}: ${what} has nothing below it`,
      `Set ${what} itself`,
    );
  }
  return new BlkError(
    "BLK_E_SETTING",
    `--set ${setting.text}: ${what} has no "${key}"`,
    suggestion === undefined ? `Known: ${known.join(", ")}` : `Did you mean "${prefix}${suggestion}"?`,
  );
}
