import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { parse } from "yaml";
import { main } from "../../src/cli/main.js";
import { loadProfile, profileNames } from "../../src/profile/load.js";

afterEach(() => vi.restoreAllMocks());

/** Runs a command line; what it wrote, and its exit status. */
async function run(...args: string[]) {
  const written = { out: "", err: "" };
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    written.out += String(text);
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    written.err += String(text);
    return true;
  });
  const status = await main(["profiles", ...args]);
  vi.restoreAllMocks();
  return { ...written, status };
}

describe("blkforge profiles", () => {
  it("lists every profile with its size and description", async () => {
    const { out, status } = await run();
    expect(status).toBe(0);
    const [heading, ...lines] = out.trimEnd().split("\n");
    expect(heading).toMatch(/^PROFILE +SIZE {2}DESCRIPTION$/);
    expect(lines.map((line) => line.split(" ")[0])).toEqual(profileNames());
    expect(out).toMatch(/^instant +64G {2}Completes every request/m);
  });

  it("lists them as JSON", async () => {
    const list = JSON.parse((await run("--json")).out) as { name: string }[];
    expect(list.map(({ name }) => name)).toEqual(profileNames());
    expect(list).toContainEqual(
      expect.objectContaining({ name: "fixed", sizeBytes: 2 ** 36, model: "fixed" }),
    );
  });

  it("shows a profile as its file has it, comments and all", async () => {
    const file = join(import.meta.dirname, "../../devices/fixed.yaml");
    expect((await run("fixed")).out).toBe(readFileSync(file, "utf8"));
  });

  it("shows what settings and a size make of it, as YAML that gives the same profile", async () => {
    const { out } = await run("fixed", "--set", "latency.read=80us", "--size", "1T");
    expect(parse(out)).toMatchObject({ size: "1T", latency: { all: "1ms", read: "80us" } });
    const asJson = JSON.parse((await run("fixed", "--set", "latency.read=80us", "--json")).out);
    expect(asJson.document).toEqual(loadProfile("fixed", { settings: ["latency.read=80us"] }).document);
  });

  it("prints the JSON Schema", async () => {
    expect(JSON.parse((await run("--schema")).out)).toHaveProperty("$defs.fixed");
  });

  it("ends with status 2 and one line for a profile there is not", async () => {
    expect(await run("fxed")).toEqual({
      out: "",
      err: 'blkforge: BLK_E_PROFILE_UNKNOWN  there is no profile "fxed". Did you mean "fixed"? "blkforge profiles" lists all\n',
      status: 2,
    });
  });

  it("wants a profile for --set", async () => {
    expect(await run("--set", "latency=1ms")).toMatchObject({
      status: 2,
      err: expect.stringContaining("BLK_E_USAGE"),
    });
  });
});
