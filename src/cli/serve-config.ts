/**
 * The file of devices that `blkforge serve --config` reads: what the command line says of one device, for many.
 *
 *     listen: nbd://127.0.0.1          # of all devices that name no address of their own
 *     seed: 7
 *     devices:
 *       - { name: journal, profile: instant, size: 1G }
 *       - name: data
 *         profile: hdd-7200
 *         file: data.img               # beside this file
 *         set: { rpm: 5400 }
 *         faults: [{ kind: error, trigger: { ops: [flush], nth: 3 } }]
 */
import { dirname, resolve } from "node:path";
import * as z from "zod";
import { BlkError } from "../base/errors.js";
import { quote } from "../base/schema.js";
import { closest } from "../base/suggest.js";
import { timings } from "../device/live-clock.js";
import type { FaultSpec } from "../fault/set.js";
import { type Layer, positionOf, readLayer } from "../profile/layer.js";
import { deviceName, type WantedDevice } from "./serve-options.js";

/** Far more than a machine can serve well; a list that long is a mistake. */
const maximumDevices = 1024;

const size = z.union([z.int().nonnegative(), z.string()], { error: "must be a size, such as 10G" });
const text = z.string({ error: "must be text" });
const flag = z.boolean({ error: "must be true or false" });
const addresses = z.union([text.transform((uri) => [uri]), z.array(text)], {
  error: "must be an NBD URI, or a list of them",
});
const seed = z
  .int({ error: "must be a whole number from 0 to 2^53 - 1" })
  .nonnegative({ error: "must not be negative" });
const scalar = z.union([z.string(), z.number(), z.boolean(), z.null()], {
  error: "must be a single value; write longer paths: latency.read: 1ms",
});

const deviceSchema = z.strictObject({
  name: z
    .string({ error: "must be text" })
    .regex(deviceName, { error: "must be up to 64 letters, digits, dots, dashes and underscores" })
    .optional(),
  profile: text,
  size: size.transform(String).optional(),
  file: text.optional(),
  memoryLimit: size.transform(String).optional(),
  preallocate: flag.optional(),
  readOnly: flag.optional(),
  strictBlocks: flag.optional(),
  seed: seed.optional(),
  set: z.record(z.string(), scalar, { error: "must be a mapping, such as { latency: 1ms }" }).optional(),
  record: text.optional(),
  timing: z.enum(["auto", ...timings], { error: `must be auto, ${timings.join(", ")}` }).optional(),
  awake: flag.optional(),
  // What a fault is, is for the device to say.
  faults: z.array(z.looseObject({}), { error: "must be a list of faults" }).optional(),
  listen: addresses.optional(),
});

const configSchema = z.strictObject({
  listen: addresses.optional(),
  seed: seed.optional(),
  devices: z
    .array(deviceSchema, { error: "must be a list of devices" })
    .min(1, { error: "must have at least one device" })
    .max(maximumDevices, { error: `must have at most ${maximumDevices} devices` }),
});

export interface ServeConfig {
  devices: WantedDevice[];
  listen: string[];
  seed: number | undefined;
}

/** @throws BlkError BLK_E_CONFIG for what is wrong in the file, with its line */
export function readServeConfig(path: string): ServeConfig {
  const layer = readFile(path);
  const parsed = configSchema.safeParse(layer.data);
  if (!parsed.success) throw invalid(layer, parsed.error.issues);
  const folder = dirname(layer.path);
  const { devices, listen = [], seed: serverSeed } = parsed.data;
  return {
    listen,
    seed: serverSeed,
    devices: devices.map(
      ({ profile, seed: ownSeed, set = {}, faults = [], listen: own = [], ...choice }) => ({
        profile: isPath(profile) ? resolve(folder, profile) : profile,
        choice: {
          ...without(choice),
          ...(choice.file === undefined ? {} : { file: resolve(folder, choice.file) }),
          ...(choice.record === undefined ? {} : { record: resolve(folder, choice.record) }),
          set: Object.entries(set).map(([field, value]) => `${field}=${value}`),
        },
        seed: ownSeed,
        faults: faults as unknown as FaultSpec[],
        listen: own,
      }),
    ),
  };
}

function isPath(profile: string): boolean {
  return profile.includes("/") || /\.ya?ml$/.test(profile);
}

/** The fields that are there. */
function without<Fields extends object>(
  fields: Fields,
): { [Key in keyof Fields]?: NonNullable<Fields[Key]> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [Key in keyof Fields]?: NonNullable<Fields[Key]>;
  };
}

function readFile(path: string): Layer {
  try {
    return readLayer(resolve(path));
  } catch (error) {
    // Broken YAML is broken YAML, with its line shown.
    if (!(error instanceof BlkError) || error.code === "BLK_E_PROFILE_SYNTAX") throw error;
    throw new BlkError("BLK_E_CONFIG", error.message.replace("the profile ", ""), example, { cause: error });
  }
}

const example = 'Write "devices:" and a list below it: "- { name: a, profile: instant, size: 1G }"';

function invalid(layer: Layer, issues: readonly z.core.$ZodIssue[]): BlkError {
  // A misspelt key is reported before the key it leaves missing.
  const issue = issues.find(({ code }) => code === "unrecognized_keys") ?? issues[0];
  const field = issue.path.map(String).join(".");
  if (issue.code === "unrecognized_keys") {
    const [key] = issue.keys;
    const known = Object.keys(issue.path.length === 0 ? configSchema.shape : deviceSchema.shape);
    const suggestion = closest(key, known);
    return new BlkError(
      "BLK_E_CONFIG",
      `${positionOf(layer, issue.path, key) ?? layer.path}: ${field === "" ? "the file" : field} has no "${key}"`,
      suggestion === undefined ? `Known: ${known.join(", ")}` : `Did you mean "${suggestion}"?`,
    );
  }
  const value = layer.document.getIn(issue.path);
  const isMissing = value === undefined;
  const where = positionOf(layer, isMissing ? issue.path.slice(0, -1) : issue.path) ?? layer.path;
  return new BlkError(
    "BLK_E_CONFIG",
    `${where}: ${field} ${isMissing ? "is missing" : `${issue.message}, not ${quote(value)}`}`,
    example,
  );
}
