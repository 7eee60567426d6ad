/** `blkforge doctor`: what this machine lacks for each way of use, and the command that mends it. */
import { Command, Option } from "commander";
import { ExitCode } from "../base/errors.js";
import { type Check, checkMachine, type Use, uses, useTitles } from "./doctor-checks.js";
import { gatherFacts } from "./doctor-facts.js";

interface DoctorOptions {
  for: Use;
  json?: boolean;
}

export const command = new Command("doctor")
  .description(
    "Say what this machine lacks for each way of using blkforge, with the exact command that mends it. Changes nothing.\n\n" +
      "Exits 0 when nothing is missing for serving over NBD (or for what --for names), 3 otherwise.",
  )
  .addOption(
    new Option("--for <use>", "the way of use that decides the exit status")
      .choices([...uses])
      .default("serve"),
  )
  .option("--json", "print JSON")
  .addHelpText(
    "after",
    `
Examples:
  blkforge doctor
  blkforge doctor --for attach || sudo modprobe nbd
  blkforge doctor --json | jq '.checks[] | select(.state == "missing") | .remedy'`,
  )
  .action(doctor);

async function doctor(options: DoctorOptions): Promise<void> {
  const checks = checkMachine(await gatherFacts());
  const isReady = (use: Use): boolean =>
    checks.every((check) => check.use !== use || check.state !== "missing");
  if (options.json) {
    const ready = Object.fromEntries(uses.map((use) => [use, isReady(use)]));
    process.stdout.write(`${JSON.stringify({ schemaVersion: 1, ready, checks }, null, 2)}\n`);
  } else {
    const sections = uses.map((use) => section(use, isReady(use), checks));
    process.stdout.write(`${sections.join("\n\n")}\n`);
  }
  process.exitCode = isReady(options.for) ? ExitCode.ok : ExitCode.environment;
}

function section(use: Use, isReady: boolean, checks: readonly Check[]): string {
  const lines = checks.filter((check) => check.use === use).map(line);
  return [`${isReady ? "ready  " : "lacking"}  ${useTitles[use]}`, ...lines].join("\n");
}

function line({ name, state, found, remedy }: Check): string {
  const mark = { ok: "ok", missing: "MISSING", advice: "advice" }[state];
  const first = `  ${mark.padEnd(7)}  ${name.padEnd(18)} ${found}`;
  return remedy === null ? first : `${first}\n${" ".repeat(11)}-> ${remedy}`;
}
