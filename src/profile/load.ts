/**
 * Loads a device profile: finds its YAML file, follows `extends`, applies `--set` and `--size`, checks it all, and
 * says exactly where something is wrong.
 */
import { readdirSync } from "node:fs";
import { basename, dirname, extname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { BlkError } from "../base/errors.js";
import { quote } from "../base/schema.js";
import { closest } from "../base/suggest.js";
import { formatSize, parseSize } from "../base/units.js";
import type { ZoneLayout } from "../base/zone.js";
import {
  type ModelName,
  type ModelSpec,
  modelNames,
  modelSchemas,
  rotationalModels,
} from "../model/schemas.js";
import type { SlowEntry } from "../model/slow/schema.js";
import { invalidProfile, type Origin } from "./issues.js";
import { type Data, displayPath, isData, type Layer, positionOf, readLayer } from "./layer.js";
import { commonSchema, isCommonKey, isModelKey } from "./schema.js";
import { descend, isFilePath, type Place } from "./schema-walk.js";
import { applySetting, merge, parseSettings, type Setting } from "./settings.js";
import { resolveZones } from "./zoned.js";

/** A device as its profile describes it. Plain data: it may cross to another thread. */
export type Profile = ProfileProperties & ModelSpec;

export interface ProfileProperties {
  name: string;
  description: string;
  sizeBytes: number;
  logicalBlockBytes: number;
  physicalBlockBytes: number;
  isRotational: boolean;
  hasVolatileCache: boolean;
  /** Of a host-managed zoned device; null for all others. */
  zones: ZoneLayout | null;
  /** How it fails slow; empty for a healthy device. */
  slow: SlowEntry[];
  /** Absolute path of the profile's own file. */
  source: string;
  /** The profile as one document, in the words of the YAML: extended, with settings and size applied. */
  document: Data;
}

export interface LoadOptions {
  /** `path=value`, as given to `--set`. */
  settings?: readonly string[];
  /** Capacity as given to `--size`; the profile's own by default. */
  size?: string | undefined;
}

/** Works from `src/` and from `dist/`: both lie beside `devices/`. */
const devicesFolder = fileURLToPath(new URL("../../devices/", import.meta.url));

/**
 * Loads the profile called `nameOrPath`: a path if it has a "/" or ends in .yaml or .yml, otherwise a name.
 *
 * @throws BlkError BLK_E_PROFILE_*, BLK_E_SETTING or BLK_E_SIZE
 * @example
 * loadProfile("fixed", { settings: ["latency.read=100us"], size: "10G" }).sizeBytes; // 10737418240
 */
export function loadProfile(nameOrPath: string, { settings: texts = [], size }: LoadOptions = {}): Profile {
  const settings = parseSettings(texts);
  // A wrong size is told before anything is read.
  if (size !== undefined) parseSize(size);
  const layers = readChain(nameOrPath);
  const merged = mergeLayers(layers, settings);
  const data = size === undefined ? merged : { ...merged, size };
  return check(data, layers, settings);
}

/** The names of the profiles that come with blkforge, in alphabetical order. */
export function profileNames(): string[] {
  return readdirSync(devicesFolder)
    .filter((file) => file.endsWith(".yaml"))
    .map((file) => basename(file, ".yaml"))
    .sort();
}

/** The files of a profile: its own, then those it extends, one after the other. */
export function readChain(nameOrPath: string): Layer[] {
  const layers = [readLayer(locate(nameOrPath, process.cwd()))];
  for (;;) {
    const layer = layers[layers.length - 1];
    const parent = layer.data.extends;
    if (parent === undefined || parent === null) return layers;
    const where = positionOf(layer, ["extends"]) ?? displayPath(layer.path);
    if (typeof parent !== "string" || parent === "") {
      throw new BlkError(
        "BLK_E_PROFILE_INVALID",
        `${where}: extends must be the name or path of a profile, not ${quote(parent)}`,
        'Write "extends: fixed", or a path such as "extends: ./mine.yaml"',
      );
    }
    const path = at(where, () => locate(parent, dirname(layer.path)));
    if (layers.some((earlier) => earlier.path === path)) {
      const circle = [...layers.map((earlier) => earlier.path), path].map(displayPath).join(" -> ");
      throw new BlkError(
        "BLK_E_PROFILE_INVALID",
        `${where}: the profile extends itself: ${circle}`,
        "Let one of them stand on its own",
      );
    }
    layers.push(at(where, () => readLayer(path)));
  }
}

function locate(nameOrPath: string, fromFolder: string): string {
  if (nameOrPath.includes("/") || /\.ya?ml$/.test(nameOrPath)) return resolve(fromFolder, nameOrPath);
  const names = profileNames();
  if (names.includes(nameOrPath)) return resolve(devicesFolder, `${nameOrPath}.yaml`);
  const suggestion = closest(nameOrPath, names);
  throw new BlkError(
    "BLK_E_PROFILE_UNKNOWN",
    `there is no profile "${nameOrPath}"`,
    suggestion === undefined
      ? `Known: ${names.join(", ")}; a file of your own is given by its path, such as ./mine.yaml`
      : `Did you mean "${suggestion}"? "blkforge profiles" lists all`,
  );
}

/** Runs `action`, prefixing its error with the place in the file that led there. */
function at<Result>(where: string, action: () => Result): Result {
  try {
    return action();
  } catch (error) {
    if (!(error instanceof BlkError) || error.code === "BLK_E_PROFILE_SYNTAX") throw error;
    throw new BlkError(error.code, `${where}: extends: ${error.message}`, error.hint, { cause: error });
  }
}

function mergeLayers(layers: readonly Layer[], settings: readonly Setting[]): Data {
  let data: Data = {};
  for (const layer of layers.toReversed()) {
    const { extends: _, ...own } = layer.data;
    // The name is of this device alone, not of those made from it.
    const { name: __, ...inherited } = data;
    const model = own.model ?? inherited.model;
    const place = placeOf(model);
    data = merge(keysFor(model, inherited), withPathsFrom(dirname(layer.path), own, place) as Data, place);
  }
  for (const setting of settings) {
    const model = setting.path.join(".") === "model" ? setting.value : data.model;
    data = applySetting(keysFor(model, data), setting, placeOf(model));
  }
  return data;
}

/** The same value, the paths of files in it made absolute: they are written relative to the profile's folder. */
function withPathsFrom(folder: string, value: unknown, place: Place): unknown {
  if (typeof value === "string") return isFilePath(place) ? resolve(folder, value) : value;
  if (Array.isArray(value))
    return value.map((entry, i) => withPathsFrom(folder, entry, descend(place, String(i))));
  if (!isData(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => [key, withPathsFrom(folder, entry, descend(place, key))]),
  );
}

/** Of an inherited document what stays when the model is `model`: another model's keys go. */
function keysFor(model: unknown, data: Data): Data {
  if (data.model === undefined || data.model === model) return data;
  return Object.fromEntries(Object.entries(data).filter(([key]) => isCommonKey(key)));
}

/** The schemas of the top level; without a model only the common keys are known. */
function placeOf(model: unknown): Origin["place"] {
  const settable = commonSchema.omit({ extends: true });
  return isModelName(model) ? [settable, modelSchemas[model]] : [settable];
}

function isModelName(model: unknown): model is ModelName {
  return modelNames.some((name) => name === model);
}

function check(data: Data, layers: readonly Layer[], settings: readonly Setting[]): Profile {
  const origin: Origin = { layers, settings, data, place: placeOf(data.model) };
  const entries = Object.entries(data);
  const common = commonSchema.safeParse(Object.fromEntries(entries.filter(([key]) => isCommonKey(key))));
  // Which keys there are besides is the model's to say, so a wrong model is told alone.
  if (!isModelName(data.model)) {
    const issues = common.error?.issues.filter(({ path }) => path[0] === "model") ?? [];
    throw invalidProfile(issues, origin);
  }
  const { model } = data;
  const own = entries.filter(([key]) => !isCommonKey(key) || isModelKey(model, key));
  const parameters = modelSchemas[model].safeParse(Object.fromEntries(own));
  if (!common.success || !parameters.success) {
    throw invalidProfile([...(common.error?.issues ?? []), ...(parameters.error?.issues ?? [])], origin);
  }

  const { name, description, size, blockSize, rotational, writeCache, zoned, slow } = common.data;
  const source = layers[0].path;
  const ownName = name ?? basename(source, extname(source));
  checkSize(size, blockSize.logical);
  const zones =
    zoned === undefined ? null : resolveZones(zoned, { sizeBytes: size, blockBytes: blockSize.logical });
  if (zones !== null && zones.issues.length > 0) throw invalidProfile(zones.issues, origin);
  return {
    name: ownName,
    description,
    sizeBytes: size,
    logicalBlockBytes: blockSize.logical,
    physicalBlockBytes: blockSize.physical ?? blockSize.logical,
    isRotational: rotational ?? rotationalModels.has(model),
    hasVolatileCache: writeCache,
    zones: zones?.layout ?? null,
    slow,
    source,
    document: { name: ownName, ...data },
    ...({ model, parameters: parameters.data } as ModelSpec),
  };
}

function checkSize(sizeBytes: number, blockBytes: number): void {
  if (sizeBytes > 0 && sizeBytes % blockBytes === 0) return;
  const below = Math.floor(sizeBytes / blockBytes) * blockBytes;
  const nearest = [below, below + blockBytes].filter((bytes) => bytes > 0).map(formatSize);
  throw new BlkError(
    "BLK_E_SIZE",
    `size ${formatSize(sizeBytes)} is not a positive multiple of the ${blockBytes}-byte logical block`,
    `Nearest: ${nearest.join(" or ")}`,
  );
}
