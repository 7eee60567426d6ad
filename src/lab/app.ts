/**
 * blkforge itself for the guest: the built package with the packages it needs to run, and nothing used to build it.
 */
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { BlkError } from "../base/errors.js";
import { type CpioEntry, fileEntry } from "./cpio.js";
import { guestPaths } from "./guest-init.js";

/** Parts of this package that are needed at run time. */
const packageParts = ["package.json", "bin", "dist", "devices", "build/Release", "prebuilds"];

/** What packages ship for people and for compilers. */
const unusedFile = /\.(map|md|markdown|ts|mts|cts|cc|cpp|c|h|o|a|d)$/i;

/** The root of this package, whether it runs from `src` or from `dist`. */
export function packageRoot(): string {
  return realpathSync(fileURLToPath(new URL("../../", import.meta.url)));
}

/** The archive entries for blkforge in `/app`, and `blkforge` on the guest's PATH. */
export function appEntries(root: string = packageRoot()): CpioEntry[] {
  if (!existsSync(join(root, "dist/cli/main.js"))) {
    throw new BlkError(
      "BLK_E_VM",
      "blkforge is not built, so it cannot be put into the guest",
      "Run: npm run build",
    );
  }
  const app = guestPaths.app.slice(1);
  const entries: CpioEntry[] = [];
  for (const part of packageParts) {
    if (existsSync(join(root, part))) addTree(entries, join(root, part), `${app}/${part}`);
  }
  for (const [folder, path] of productionPackages(root)) addTree(entries, folder, `${app}/${path}`);
  const launcher = `#!/bin/sh\nexec node ${guestPaths.app}/bin/blkforge.js "$@"\n`;
  entries.push({
    kind: "file",
    path: "usr/bin/blkforge",
    content: Buffer.from(launcher),
    isExecutable: true,
  });
  return entries;
}

/**
 * The packages the one at `root` needs to run, found as Node finds them: each folder with its path in the guest.
 * A package that was installed beside this one (blkforge as somebody's dependency) moves into this one's node_modules.
 */
export function productionPackages(root: string): Map<string, string> {
  const found = new Map<string, string>();
  const visit = (folder: string): void => {
    const manifest: unknown = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const { dependencies = {}, optionalDependencies = {} } = manifest as Record<
      string,
      Record<string, string>
    >;
    for (const name of [...Object.keys(dependencies), ...Object.keys(optionalDependencies)]) {
      const needed = resolvePackage(folder, name);
      // An optional dependency may be missing; a required one that is missing fails in the guest as it would here.
      if (needed === undefined || found.has(needed)) continue;
      const inside = relative(root, needed);
      found.set(needed, inside.startsWith("..") ? needed.slice(needed.indexOf("node_modules/")) : inside);
      visit(needed);
    }
  };
  visit(root);
  return found;
}

function resolvePackage(from: string, name: string): string | undefined {
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, "node_modules", name);
    if (existsSync(join(candidate, "package.json"))) return candidate;
    if (folder === dirname(folder)) return undefined;
  }
}

function addTree(entries: CpioEntry[], source: string, path: string): void {
  if (!statSync(source).isDirectory()) {
    entries.push(fileEntry(path, source, false));
    return;
  }
  for (const name of readdirSync(source).sort()) {
    // Nested packages are found by the walk over dependencies, if they are needed at all.
    if (name === "node_modules" || name.startsWith(".") || unusedFile.test(name)) continue;
    addTree(entries, join(source, name), `${path}/${name}`);
  }
}
