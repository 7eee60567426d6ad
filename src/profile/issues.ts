/**
 * Turns what a schema finds wrong into one sentence that names the place (file, line and column, or the setting on
 * the command line), the field, what was given and what is allowed.
 */
import type { $ZodIssue } from "zod/v4/core";
import { BlkError } from "../base/errors.js";
import { quote } from "../base/schema.js";
import { closest } from "../base/suggest.js";
import { type Data, displayPath, type Layer, positionOf } from "./layer.js";
import {
  choicesOf,
  descend,
  descriptionOf,
  discriminatorOf,
  keysOf,
  narrow,
  type Place,
} from "./schema-walk.js";
import type { Setting } from "./settings.js";

export interface Origin {
  /** The profile's own file first, then what it extends. */
  layers: readonly Layer[];
  settings: readonly Setting[];
  /** The document the schema saw: layers merged, settings applied. */
  data: Data;
  /** Schemas of the document's top level. */
  place: Place;
}

export function invalidProfile(issues: readonly $ZodIssue[], origin: Origin): BlkError {
  // A misspelt key is reported before the key it leaves missing.
  const sharpened = issues.map((issue) => sharpen(issue, origin.data));
  const issue = sharpened.find(({ code }) => code === "unrecognized_keys") ?? sharpened[0];
  const path = issue.path.map(String);
  const [unknownKey] = issue.code === "unrecognized_keys" ? issue.keys : [undefined];
  const place = path.reduce(descend, origin.place);

  const setting = settingOf(origin.settings, unknownKey === undefined ? path : [...path, unknownKey]);
  const where = setting === undefined ? fileOf(origin.layers, path, unknownKey) : `--set ${setting.text}`;
  const code = setting === undefined ? "BLK_E_PROFILE_INVALID" : "BLK_E_SETTING";
  const field = path.join(".");
  const others = sharpened.length === 1 ? "" : ` (and ${sharpened.length - 1} more)`;
  if (unknownKey !== undefined) {
    const value = valueAt(origin.data, path);
    const known = keysOf(narrow(place, value));
    const suggestion = closest(unknownKey, known);
    const owner = ownerOf(field, value, place, origin);
    return new BlkError(
      code,
      `${where}: ${owner} has no "${unknownKey}"${others}`,
      suggestion === undefined ? `Known: ${known.join(", ")}` : `Did you mean "${suggestion}"?`,
    );
  }
  const value = valueAt(origin.data, path);
  // A message of the schema's own says what is allowed; to the others the field's description does.
  const isSelfContained =
    value !== undefined && (issue.code === "custom" || issue.code === "invalid_format" || isWorded(issue));
  return new BlkError(
    code,
    `${where}: ${field}${complaint(issue, value, place)}${others}`,
    isSelfContained ? "" : (descriptionOf(place) ?? ""),
  );
}

/** Who has no such key: the profile's model, or a mapping in it with the form it has chosen. */
function ownerOf(field: string, value: unknown, place: Place, { data }: Origin): string {
  if (field === "") return `a profile of model ${quote(data.model)}`;
  const selector = discriminatorOf(place);
  return selector === undefined
    ? `"${field}"`
    : `"${field}" of ${selector} ${quote((value as Data)[selector])}`;
}

/** Whether a union's message is its schema's own, made for people, rather than zod's. */
function isWorded(issue: $ZodIssue): boolean {
  return issue.code === "invalid_union" && !issue.message.startsWith("Invalid ");
}

/** What is wrong, to follow the field's name. */
function complaint(issue: $ZodIssue, value: unknown, place: Place): string {
  if (value === undefined && issue.code !== "custom") return " is missing";
  if (isWorded(issue)) return `: ${issue.message}`;
  const given = `, not ${quote(value)}`;
  const choices = choicesOf(place);
  switch (issue.code) {
    case "invalid_type":
      return ` must be ${article(issue.expected)}${given}`;
    case "invalid_value":
    case "invalid_union":
      return choices.length > 0 ? ` must be ${list(choices)}${given}` : `: ${quote(value)} does not fit`;
    case "too_small":
      return ` must ${issue.origin === "array" ? "have" : "be"} ${issue.inclusive === false ? "more than" : "at least"} ${issue.minimum}${given}`;
    case "too_big":
      return ` must ${issue.origin === "array" ? "have" : "be"} ${issue.inclusive === false ? "less than" : "at most"} ${issue.maximum}${given}`;
    default:
      // "must be longer than 0" goes on where the field's name ends; a sentence of its own follows a colon.
      return /^(must|is) /.test(issue.message) ? ` ${issue.message}` : `: ${issue.message}`;
  }
}

/** Of a union's complaints the one that the writer meant: from the alternative that fitted best. */
function sharpen(issue: $ZodIssue, data: Data): $ZodIssue {
  if (issue.code !== "invalid_union" || isWorded(issue)) return issue;
  const misfit = (branch: $ZodIssue[]) => misfitOf(branch, valueAt(data, issue.path.map(String)));
  const branch = issue.errors.toSorted((a, b) => misfit(a) - misfit(b) || a.length - b.length).at(0);
  const inner = branch?.find(({ code }) => code === "unrecognized_keys") ?? branch?.[0];
  return inner === undefined ? issue : sharpen({ ...inner, path: [...issue.path, ...inner.path] }, data);
}

/** How little an alternative fits what is written, by its complaints: the less the better. */
function misfitOf(branch: readonly $ZodIssue[], value: unknown): number {
  return Math.max(...branch.map((issue) => misfitBy(issue, value)));
}

/** Something below is wrong, or the whole is no good by a rule of its own: then this alternative was meant. */
const meant = 0;
/** The key that chooses among forms is not there at all: none of these forms was meant. */
const formless = 1000;
/** A scalar where a mapping is, or the other way round. */
const otherShape = 2000;

function misfitBy(issue: $ZodIssue, value: unknown): number {
  if (issue.code === "custom") return meant;
  if (issue.code === "unrecognized_keys") return issue.keys.length;
  if (issue.path.length > 0) {
    const isFormless = "discriminator" in issue && valueAt(value, issue.path.map(String)) === undefined;
    return isFormless ? formless : meant;
  }
  if (issue.code === "invalid_union" && issue.errors.length > 0 && !isWorded(issue))
    return Math.min(...issue.errors.map((branch) => misfitOf(branch, value)));
  return issue.code === "invalid_type" || typeof value === "object" ? otherShape : meant;
}

/** The setting that put the value there: the most particular, and of those the last. */
function settingOf(settings: readonly Setting[], path: readonly string[]): Setting | undefined {
  return settings.findLast((setting) => setting.path.every((key, depth) => path[depth] === key));
}

function fileOf(layers: readonly Layer[], path: readonly string[], unknownKey: string | undefined): string {
  if (unknownKey !== undefined) {
    const position = firstPosition(layers, path, unknownKey);
    if (position !== undefined) return position;
  }
  // What is missing has no place of its own; what it is missing from has.
  for (let depth = path.length; depth > 0; depth--) {
    const position = firstPosition(layers, path.slice(0, depth));
    if (position !== undefined) return position;
  }
  return displayPath(layers[0].path);
}

function firstPosition(layers: readonly Layer[], path: readonly string[], key?: string): string | undefined {
  for (const layer of layers) {
    const keys = path.map((part) => (/^\d+$/.test(part) ? Number(part) : part));
    const position = positionOf(layer, keys, key);
    if (position !== undefined) return position;
  }
  return undefined;
}

function valueAt(data: unknown, path: readonly string[]): unknown {
  let value = data;
  for (const key of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Data)[key];
  }
  return value;
}

function article(type: string): string {
  if (type === "int") return "a whole number";
  if (type === "boolean") return "true or false";
  if (type === "object" || type === "record") return "a mapping";
  if (type === "array" || type === "tuple") return "a list";
  return `${/^[aeiou]/.test(type) ? "an" : "a"} ${type}`;
}

function list(choices: readonly unknown[]): string {
  const words = choices.map(quote);
  return words.length === 1 ? words[0] : `${words.slice(0, -1).join(", ")} or ${words[words.length - 1]}`;
}
