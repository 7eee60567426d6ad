/**
 * What a test needs from the machine. Where it is missing the test is skipped with the reason; in CI (`CI=true`) a
 * missing component is a failure, because nobody would notice the skip.
 */
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { describe, type TestAPI, test } from "vitest";

const isCi = process.env.CI === "true";

/** Whether `program` can be run: looks through PATH and the system directories users often lack there. */
export function hasProgram(program: string): boolean {
  const directories = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return directories.some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** `describe` for tests that drive real programs. */
export function describeWith(programs: string[], title: string, body: () => void): void {
  const missing = programs.filter((program) => !hasProgram(program));
  if (missing.length === 0) describe(title, body);
  else if (isCi) {
    describe(title, () => {
      test("has the programs it drives", () => {
        throw new Error(`missing in CI: ${missing.join(", ")}`);
      });
    });
  } else describe.skip(`${title} (needs ${missing.join(", ")}: npm test installs them as root)`, body);
}

/** `test` for what only root may do; a reason in the title where it is skipped. */
export function testAsRoot(title: string, body: () => void | Promise<void>, timeoutMs?: number): void {
  const isRoot = process.getuid?.() === 0;
  if (isRoot) test(title, body, timeoutMs);
  else (test.skip as TestAPI)(`${title} (needs root)`, body);
}
