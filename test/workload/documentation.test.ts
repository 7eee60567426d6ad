import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { traceFormats } from "../../src/trace/open.js";
import {
  meaninglessOptions,
  optionAliases,
  refusedOptions,
  supportedOptions,
} from "../../src/workload/options.js";

const page = readFileSync(join(import.meta.dirname, "../../docs/simulate.md"), "utf8");

describe("docs/simulate.md", () => {
  test("names every job option and trace format there is", () => {
    const names = [
      ...Object.keys(supportedOptions),
      ...Object.keys(optionAliases),
      ...meaninglessOptions,
      ...Object.keys(refusedOptions),
      ...traceFormats.map(({ name }) => name),
    ];
    expect(names.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
  });
});
