import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { BlkError, errorKinds } from "../../src/base/errors.js";

test("every error code has its section in docs/errors.md, and every section its code", () => {
  const page = readFileSync(join(import.meta.dirname, "../../docs/errors.md"), "utf8");
  const sections = [...page.matchAll(/^### (BLK_E_\w+)$/gm)].map((match) => match[1]);
  expect(sections.toSorted()).toEqual(Object.keys(errorKinds).toSorted());
});

test("the section of a code stands under the exit status the code has", () => {
  const page = readFileSync(join(import.meta.dirname, "../../docs/errors.md"), "utf8");
  for (const part of page.split(/^## /m).slice(1)) {
    const status = Number(/exit status (\d)/.exec(part)?.[1]);
    for (const [, code] of part.matchAll(/^### (BLK_E_\w+)$/gm)) {
      expect(new BlkError(code as keyof typeof errorKinds, "").exitCode, code).toBe(status);
    }
  }
});

test("an error keeps its code, message and hint across a worker's port", () => {
  const error = new BlkError("BLK_E_SIZE", "no", "yes");
  const copy = BlkError.fromJSON(structuredClone(error.toJSON()));
  expect(copy.toLine()).toBe("BLK_E_SIZE  no. yes");
  expect(copy.exitCode).toBe(2);
});
