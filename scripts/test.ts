/**
 * `npm test`: sets up what the tests need, runs every suite, and closes with one line over all of them.
 *
 * Suites: check (format, lint, types, dependency rule), unit (nothing needed), validation (models against measured
 * drives, and their memory), acceptance (real NBD clients), kernel (a VM), newer-kernel (some of those tests again, on a Linux newer
 * than most have, where Debian has one). Name some to run only these: `npm run test:unit`. A test that cannot run here says why and counts as skipped;
 * in CI (`CI=true`) a missing component fails instead, since nobody would read the reason.
 */
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { BlkError, ExitCode } from "../src/base/errors.js";
import { Cache } from "../src/lab/cache.js";
import { findKernel } from "../src/lab/kernel.js";
import { ensurePackages } from "../src/lab/packages.js";

interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

const root = resolve(import.meta.dirname, "..");
const suites = ["check", "unit", "validation", "acceptance", "kernel", "newer-kernel"] as const;
type Suite = (typeof suites)[number];

/** Of 2026: what ublk drivers have learnt since the lab's own kernel, and that errors are still the same. */
const newerKernel = "7";
const newerKernelTests = [
  "test/kernel/ublk-features.test.ts",
  "test/kernel/ublk-errno.test.ts",
  "test/kernel/ublk-zoned.test.ts",
];

const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !suites.includes(name as Suite));
if (unknown.length > 0) {
  console.error(`No suite is called ${unknown.join(", ")}. Suites: ${suites.join(", ")}`);
  process.exit(2);
}
const selected = suites.filter((suite) => chosen.length === 0 || chosen.includes(suite));

const total: Tally = { passed: 0, failed: 0, skipped: 0 };
// Commands under test run from dist, as users' do.
if (command("node", ["scripts/build.mjs"]).status !== 0) {
  console.error("The build failed, so no test was run.");
  process.exit(1);
}
await installClients();
for (const suite of selected) {
  const startedMs = Date.now();
  const tally = await run(suite);
  const seconds = Math.round((Date.now() - startedMs) / 1000);
  console.log(`\n${suite}: ${describe(tally)} in ${seconds} s\n`);
  total.passed += tally.passed;
  total.failed += tally.failed;
  total.skipped += tally.skipped;
}
console.log(describe(total));
process.exitCode = total.failed === 0 ? 0 : 1;

async function installClients(): Promise<void> {
  const components = selected.flatMap((suite) =>
    suite === "kernel" || suite === "newer-kernel"
      ? (["vm", "fileSystems"] as const)
      : suite === "acceptance"
        ? (["clients"] as const)
        : [],
  );
  if (components.length === 0) return;
  try {
    await ensurePackages(components, { yes: true, onProgress: (what) => console.log(what) });
  } catch (error) {
    if (!(error instanceof BlkError)) throw error;
    // The tests that need them say so, each for itself.
    console.error(error.toLine());
  }
}

async function run(suite: Suite): Promise<Tally> {
  if (suite === "check" || suite === "validation") return runScripts(suite);
  if (suite !== "newer-kernel") return runVitest(suite);
  try {
    await findKernel(new Cache(), newerKernel, { onProgress: (what) => console.log(what) });
  } catch (error) {
    if (!(error instanceof BlkError)) throw error;
    console.error(error.toLine());
    // There is none to be had: no fault of ours. One that is there and cannot be fetched is worth a look.
    const isNone = error.code === "BLK_E_KERNEL";
    return { passed: 0, failed: isNone ? 0 : 1, skipped: isNone ? newerKernelTests.length : 0 };
  }
  return runVitest("kernel", newerKernelTests, { BLKFORGE_KERNEL: newerKernel });
}

/** Scripts that judge for themselves, each counted as one test. */
function runScripts(suite: "check" | "validation"): Tally {
  const scripts =
    suite === "check"
      ? [["check"]]
      : [
          ["validate:hdd", "--check"],
          ["validate:profiles", "--check"],
          ["bench:hdd", "--check"],
          ["bench:models", "--check"],
        ];
  const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
  for (const [name, ...args] of scripts) {
    const { status } = command("npm", ["run", "--silent", name, "--", ...args]);
    if (status === 0) tally.passed++;
    // The measured traces are not part of the package; the script has said so.
    else if (status === ExitCode.environment) tally.skipped++;
    else tally.failed++;
  }
  return tally;
}

function runVitest(
  suite: Suite,
  files: readonly string[] = [],
  environment: Record<string, string> = {},
): Tally {
  const directory = mkdtempSync(join(tmpdir(), "blkforge-test-"));
  const report = join(directory, "report.json");
  try {
    const reporters = ["--reporter", "default", "--reporter", "json", `--outputFile.json=${report}`];
    const { status } = command(
      "npx",
      ["vitest", "run", "--project", suite, ...reporters, ...files],
      environment,
    );
    const result = JSON.parse(readFileSync(report, "utf8")) as Record<string, number>;
    const tally = {
      passed: result.numPassedTests,
      failed: result.numFailedTests,
      skipped: result.numPendingTests + result.numTodoTests,
    };
    // A suite that died (a file that does not load, an unhandled error) fails even when no test did.
    if (status !== 0 && tally.failed === 0) tally.failed = Math.max(1, result.numFailedTestSuites);
    return tally;
  } catch (error) {
    console.error(`The ${suite} suite left no report: ${String(error)}`);
    return { passed: 0, failed: 1, skipped: 0 };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function command(
  name: string,
  args: string[],
  environment: Record<string, string> = {},
): SpawnSyncReturns<Buffer> {
  const env = { ...process.env, ...environment };
  return spawnSync(name, args, { cwd: root, env, stdio: ["ignore", "inherit", "inherit"] });
}

function describe({ passed, failed, skipped }: Tally): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}
