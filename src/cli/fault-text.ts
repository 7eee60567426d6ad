/** Faults and their kinds in words for people. */
import type * as z from "zod";
import { formatTable } from "../base/table.js";
import type { FaultKindReport } from "../fault/kinds.js";
import type { FaultReport } from "../fault/set.js";
import type { TriggerSpec } from "../fault/trigger.js";

/** One line per fault: what it did, then what it does and when. */
export function faultTable(faults: readonly FaultReport[]): string {
  if (faults.length === 0) return "no fault is set";
  const counters = formatTable([
    ["fault", "state", "matched", "hits", "held"],
    ...faults.map(({ name, state, matched, hits, held }) => [
      name,
      state,
      ...[matched, hits, held].map(String),
    ]),
  ]).split("\n");
  // The words are of very different lengths, so they stand last, to the left.
  return counters
    .map((line, row) => `${line}  ${row === 0 ? "does" : faultWords(faults[row - 1])}`)
    .join("\n");
}

/** A fault in a phrase: `delay delay=5ms on flush, nth 3`. */
export function faultWords({ kind, options, trigger }: FaultReport): string {
  const pairs = Object.entries(options).map(([name, value]) => `${name}=${value}`);
  const conditions = triggerWords(trigger);
  return [kind, ...pairs].join(" ") + (conditions === "" ? "" : ` on ${conditions}`);
}

/** What a fault did, for a goodbye. */
export function evidence({ name, matched, hits, held }: FaultReport): string {
  return `${name}: matched ${matched}, hits ${hits}${held > 0 ? `, released ${held}` : ""}`;
}

function triggerWords({ ops, ranges, queue, nth, every, probability, after, times }: TriggerSpec): string {
  const requests = (ops ?? ["all"]).join(" ");
  const where = (ranges ?? []).map(({ offset, length }) => `${offset}+${length}`).join(" ");
  const words = [where === "" ? requests : `${requests} in ${where}`];
  if (queue !== undefined) words.push(`queue ${queue}`);
  if (nth !== undefined) words.push(`nth ${nth}`);
  if (every !== undefined) words.push(`every ${every}`);
  if (probability !== undefined) words.push(`probability ${probability}`);
  if (after > 0) words.push(`after ${after}`);
  if (times !== undefined) words.push(`times ${times}`);
  return words.join(", ");
}

/** Each kind with its options, and what the host sees of it. */
export function kindsText(kinds: readonly FaultKindReport[]): string {
  return kinds.map(kindText).join("\n\n");
}

function kindText({ name, summary, ops, options, hostView }: FaultKindReport): string {
  const properties = Object.entries(options.properties ?? {}).map(
    ([option, schema]): [string, z.core.JSONSchema.BaseSchema] => [
      option,
      typeof schema === "boolean" ? {} : schema,
    ],
  );
  const lines = [`${name}: ${summary}`, `  operations   ${ops.join(" ")}`];
  for (const [option, schema] of properties) lines.push(`  ${option.padEnd(12)} ${optionText(schema)}`);
  lines.push(
    `  host sees    over the kernel's NBD client: ${hostView["nbd-kernel"]}`,
    `               with an NBD client in user space: ${hostView["nbd-user"]}`,
    `               over ublk: ${hostView.ublk}`,
  );
  return lines.join("\n");
}

function optionText({ description, enum: names, default: preset }: z.core.JSONSchema.BaseSchema): string {
  const words = [description ?? ""];
  if (names !== undefined) words.push(`${names.length > 1 ? "one of " : ""}${names.join(", ")}`);
  if (preset !== undefined) words.push(`${preset} unless given`);
  return words.join("; ");
}
