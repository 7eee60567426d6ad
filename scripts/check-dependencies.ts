/**
 * The dependency rule between folders, checked: imports point one way (docs/architecture.md, "Dependencies").
 * Part of `npm run check`; prints each import that breaks the rule and exits 1.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

/** What each folder of src may import, beside itself and `base`, which imports nothing. */
const allowed: Record<string, readonly string[]> = {
  base: [],
  model: [],
  store: [],
  fault: [],
  linux: [],
  zone: [],
  nbd: ["linux"],
  trace: [],
  ublk: ["linux"],
  // The schema of a profile is the common part plus each model's own.
  profile: ["model"],
  workload: [],
  simulate: ["model", "profile", "trace", "workload"],
  device: ["fault", "model", "nbd", "profile", "store", "trace", "ublk", "zone"],
  control: ["device", "fault"],
  lab: [],
  cli: [
    "control",
    "device",
    "fault",
    "lab",
    "linux",
    "model",
    "nbd",
    "profile",
    "simulate",
    "store",
    "trace",
    "ublk",
    "workload",
  ],
};

const src = resolve(import.meta.dirname, "../src");
let broken = 0;

for (const entry of readdirSync(src, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || !entry.name.endsWith(".ts")) continue;
  const file = join(entry.parentPath, entry.name);
  const from = folderOf(file);
  for (const specifier of importsOf(readFileSync(file, "utf8"))) {
    if (!specifier.startsWith(".")) continue;
    const to = folderOf(resolve(dirname(file), specifier));
    if (to === from || to === "base") continue;
    if (!(from in allowed))
      complain(file, `folder "${from}" is not in the rule: add it with what it may import`);
    else if (!allowed[from].includes(to))
      complain(file, `imports ${specifier}; ${from} may not import ${to}`);
  }
}

console.log(
  broken === 0 ? "dependencies between folders: ok" : `${broken} imports break the dependency rule`,
);
process.exitCode = broken === 0 ? 0 : 1;

function folderOf(file: string): string {
  return relative(src, file).split("/")[0];
}

function importsOf(text: string): string[] {
  return [...text.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].map((match) => match[1]);
}

function complain(file: string, what: string): void {
  broken++;
  console.error(`${relative(src, file)}: ${what}`);
}
