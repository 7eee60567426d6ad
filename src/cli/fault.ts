/**
 * `blkforge fault`: sets, lists, arms, releases and removes faults of a running device, through its control API.
 *
 * What can be said here is what HTTP and YAML can say, by the same names. The device checks it; this file only brings
 * arguments into the shape of a fault.
 */
import { Command } from "commander";
import { BlkError } from "../base/errors.js";
import { describeFaultKinds } from "../fault/kinds.js";
import type { FaultReport } from "../fault/set.js";
import { type ApiOptions, addApiOptions, connect, print } from "./api-options.js";
import { evidence, faultTable, faultWords, kindsText } from "./fault-text.js";

interface AddOptions extends ApiOptions {
  name?: string;
  ops?: string;
  range: string[];
  queue?: string;
  probability?: string;
  nth?: string;
  every?: string;
  after?: string;
  times?: string;
  seed?: string;
  disarmed?: true;
}

/** A fault as arguments say it; whether it is one is for the device to judge. */
interface WrittenFault {
  kind: string;
  name?: string;
  trigger: Record<string, unknown>;
  options: Record<string, unknown>;
}

const add = addApiOptions(new Command("add"))
  .description(
    "Sets a fault; it acts from the next request on. `blkforge fault kinds` lists kinds and options.",
  )
  .argument("<kind>", "error, delay or hang")
  .argument("[option=value...]", "options of the kind, such as delay=5ms or status=nospc")
  .option("--name <name>", "what to call it (default: the kind and a number)")
  .option(
    "--ops <list>",
    "only these operations: read,write,flush,trim,zeroes, or of a zoned device's (default: all)",
  )
  .option(
    "--range <offset+length>",
    "only requests that overlap this range, such as 1G+64M (repeatable)",
    collect,
    [],
  )
  .option("--queue <n>", "only requests of this hardware queue, or NBD connection")
  .option("--probability <share>", "hit by chance: 0.1, 10% or 1:10")
  .option("--nth <n>", "hit the n-th match and no other")
  .option("--every <n>", "hit each n-th match")
  .option("--after <n>", "pass over the first n matches, then start to count")
  .option("--times <n>", "stop after n hits")
  .option("--seed <n>", "seed of its decisions (default: from the device's seed and the fault's name)")
  .option("--disarmed", "set it, but let it act only after `blkforge fault arm`")
  .addHelpText(
    "after",
    `
Examples (with BLKFORGE_API=unix:/tmp/blkforge.api):
  blkforge fault add error --ops flush --nth 3              the third flush fails
  blkforge fault add error status=nospc --ops write --after 1000
                                                            writes fail as on a full device, after a thousand good ones
  blkforge fault add delay delay=5ms --probability 1%       one request in a hundred takes 5 ms more
  blkforge fault add delay distribution=lognormal median=2ms sigma=0.8 --ops read
                                                            reads get a long tail
  blkforge fault add error --ops read --range 1G+4096       an unreadable block
  blkforge fault add hang --ops write --times 1             one write hangs, until: blkforge fault release hang-1`,
  )
  .action(async (kind: string, pairs: string[], options: AddOptions) => {
    const spec = faultFromArguments(kind, pairs, options);
    const fault = await (await connect(options)).faults.add(spec);
    print(options, fault, () => addedText(fault));
  });

const list = addApiOptions(new Command("list").alias("ls"))
  .description("Shows the faults that are set, in the order in which they act, and what they did.")
  .action(async (options: ApiOptions) => {
    const faults = await (await connect(options)).faults.list();
    print(options, faults, () => faultTable(faults));
  });

const remove = addApiOptions(new Command("rm"))
  .description("Removes a fault, and releases what it holds.")
  .argument("<name>")
  .action(async (name: string, options: ApiOptions) => {
    const fault = await (await connect(options)).faults.remove(name);
    print(options, fault, () => `removed ${evidence(fault)}`);
  });

const release = addApiOptions(new Command("release"))
  .description("Lets every request go that a hang holds. The fault stays set and holds what comes next.")
  .argument("<name>")
  .action(async (name: string, options: ApiOptions) => {
    const fault = await (await connect(options)).faults.release(name);
    print(options, fault, () => `released ${fault.held} held by ${name}`);
  });

const reset = addApiOptions(new Command("reset"))
  .description("Removes every fault and releases every request, in any state.")
  .action(async (options: ApiOptions) => {
    const removed = await (await connect(options)).faults.reset();
    print(options, removed, () =>
      removed.length === 0
        ? "no fault was set"
        : removed.map((fault) => `removed ${evidence(fault)}`).join("\n"),
    );
  });

const kinds = new Command("kinds")
  .description(
    "Lists the kinds of faults, their options, and what a host sees of them. Needs no running device.",
  )
  .option("--json", "print JSON")
  .action((options: { json?: true }) => {
    const reports = describeFaultKinds();
    print(options, reports, () => kindsText(reports));
  });

export const command = new Command("fault")
  .description("Makes things go wrong on a running device: errors, delays and hangs, for chosen requests.")
  .addCommand(add)
  .addCommand(list)
  .addCommand(armCommand("arm", true, "Makes a fault act that was set with --disarmed."))
  .addCommand(armCommand("disarm", false, "Makes a fault idle; nothing is counted until it is armed."))
  .addCommand(release)
  .addCommand(remove)
  .addCommand(reset)
  .addCommand(kinds)
  .addHelpText(
    "after",
    `
Examples:
  blkforge serve hdd-7200 --listen 'nbd+unix:///?socket=/tmp/disk' --api unix:/tmp/blkforge.api &
  export BLKFORGE_API=unix:/tmp/blkforge.api
  blkforge fault add error --ops flush --nth 3
  blkforge fault list
  blkforge fault reset

Every fault counts the requests it matched and those it hit: see that it fired before you trust a test that passed.`,
  );

function armCommand(verb: string, isArmed: boolean, description: string): Command {
  return addApiOptions(new Command(verb))
    .description(description)
    .argument("<name>")
    .action(async (name: string, options: ApiOptions) => {
      const fault = await (await connect(options)).faults.arm(name, isArmed);
      print(options, fault, () => `${fault.name} is ${fault.state}`);
    });
}

/** The fault that `blkforge fault add` describes, in the one shape that HTTP and YAML use too. */
export function faultFromArguments(
  kind: string,
  pairs: readonly string[],
  options: AddOptions,
): WrittenFault {
  const trigger: Record<string, unknown> = {};
  if (options.ops !== undefined) trigger.ops = options.ops.split(",");
  if (options.range.length > 0) trigger.ranges = options.range.map(parseRange);
  for (const field of ["queue", "probability", "nth", "every", "after", "times", "seed"] as const) {
    const text = options[field];
    if (text !== undefined) trigger[field] = scalar(text);
  }
  if (options.disarmed) trigger.armed = false;
  return {
    kind,
    ...(options.name === undefined ? {} : { name: options.name }),
    trigger,
    options: Object.fromEntries(pairs.map(parsePair)),
  };
}

function parsePair(text: string): [name: string, value: unknown] {
  const match = /^([^=]+)=(.*)$/.exec(text);
  if (match !== null) return [match[1], scalar(match[2])];
  throw new BlkError(
    "BLK_E_USAGE",
    `"${text}" is not an option of a fault`,
    "Write name=value, such as delay=5ms; `blkforge fault kinds` lists them",
  );
}

function parseRange(text: string): { offset: string; length: string } {
  const match = /^([^+]+)\+([^+]+)$/.exec(text);
  if (match !== null) return { offset: match[1], length: match[2] };
  throw new BlkError("BLK_E_USAGE", `--range ${text} is not a range`, "Write offset+length, such as 1G+64M");
}

/** A number where one is written, as in YAML; sizes, durations and shares stay text. */
function scalar(text: string): number | string {
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

function addedText(fault: FaultReport): string {
  const { hostView } = fault;
  return [
    `${fault.name}: ${faultWords(fault)} (${fault.state}, seed ${fault.seed})`,
    `host sees over the kernel's NBD client: ${hostView["nbd-kernel"]}`,
    `host sees with an NBD client in user space: ${hostView["nbd-user"]}`,
    `host sees over ublk: ${hostView.ublk}`,
  ].join("\n");
}

function collect(value: string, earlier: string[]): string[] {
  return [...earlier, value];
}
