/** `blkforge profiles`: lists the device profiles, shows one, or prints their schema. */
import { Command } from "commander";
import { stringify } from "yaml";
import { BlkError } from "../base/errors.js";
import { formatSize } from "../base/units.js";
import { profileJsonSchema } from "../profile/json-schema.js";
import { readLayer } from "../profile/layer.js";
import { loadProfile, type Profile, profileNames } from "../profile/load.js";
import { fitCommand } from "./profiles-fit.js";

interface Options {
  json?: true;
  schema?: true;
  set: string[];
  size?: string;
}

export const command = new Command("profiles")
  .description("Lists the device profiles that come with blkforge, or shows one as it will be used.")
  .argument("[profile]", "name of a profile, or path of a YAML file of your own")
  .option("--set <path=value>", "change the shown profile (repeatable)", collect, [])
  .option("--size <size>", "capacity of the shown profile: 512, 10M, 2G, 1T")
  .option("--json", "print JSON")
  .addCommand(fitCommand)
  .option("--schema", "print the JSON Schema of profiles, for completion in editors")
  .addHelpText(
    "after",
    `
Examples:
  blkforge profiles                                 what there is
  blkforge profiles hdd-7200                        one of them, with the source of every number
  blkforge profiles fixed --set latency.read=80us   what a setting makes of it
  blkforge profiles ./mine.yaml                     checks a file of your own, what it extends applied
  blkforge profiles --schema > profile.schema.json
  blkforge profiles fit run.json > mine.yaml        from what fio measured on a real device

A file of your own may start from a profile and change what differs:
  extends: fixed
  latency: { read: 80us, write: 20us }

A first line "# yaml-language-server: $schema=profile.schema.json" makes editors complete and check it.`,
  )
  .action((name: string | undefined, options: Options) => {
    process.stdout.write(output(name, options));
  });

function output(name: string | undefined, options: Options): string {
  if (options.schema) return toJson(profileJsonSchema());
  if (name === undefined) {
    if (options.set.length > 0 || options.size !== undefined) {
      throw new BlkError(
        "BLK_E_USAGE",
        "--set and --size need a profile",
        "Name one: blkforge profiles fixed",
      );
    }
    const profiles = profileNames().map((known) => loadProfile(known));
    return options.json ? toJson(profiles.map(overview)) : table(profiles);
  }
  const profile = loadProfile(name, { settings: options.set, size: options.size });
  if (options.json) return toJson({ ...overview(profile), document: profile.document });
  return asYaml(profile, options);
}

function overview({
  name,
  description,
  model,
  sizeBytes,
  logicalBlockBytes,
  physicalBlockBytes,
  ...rest
}: Profile) {
  const { isRotational, hasVolatileCache, source } = rest;
  return {
    name,
    description,
    model,
    sizeBytes,
    logicalBlockBytes,
    physicalBlockBytes,
    isRotational,
    hasVolatileCache,
    source,
  };
}

function table(profiles: readonly Profile[]): string {
  const rows = profiles.map(({ name, sizeBytes, description }) => [name, formatSize(sizeBytes), description]);
  const nameWidth = Math.max(...rows.map(([name]) => name.length), "PROFILE".length);
  const sizeWidth = Math.max(...rows.map(([, size]) => size.length), "SIZE".length);
  return [["PROFILE", "SIZE", "DESCRIPTION"], ...rows]
    .map(([name, size, description]) =>
      `${name.padEnd(nameWidth)}  ${size.padStart(sizeWidth)}  ${description}`.trimEnd(),
    )
    .join("\n")
    .concat("\n");
}

/** The file as written, comments and all, while it tells the whole truth; otherwise what came out of it. */
function asYaml(profile: Profile, { set, size }: Options): string {
  const own = readLayer(profile.source);
  if (own.data.extends === undefined && set.length === 0 && size === undefined) return own.text;
  return stringify(profile.document, { lineWidth: 110 });
}

function toJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function collect(value: string, previous: string[]): string[] {
  return [...previous, value];
}
