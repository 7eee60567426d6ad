import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
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

describe("blkforge profiles fit", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "blkforge-fit-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it("prints a profile that loads, with the name and size that were asked for", async () => {
    const file = join(folder, "my run.json");
    const clat_ns = {
      N: 1000,
      min: 50_000,
      max: 900_000,
      percentile: { "50.000000": 80_000, "99.000000": 200_000 },
    };
    writeFileSync(file, JSON.stringify({ jobs: [{ read: { clat_ns } }] }));
    const { out, status } = await run("fit", file, "--size", "1G");
    expect(status).toBe(0);
    const profile = join(folder, "fitted.yaml");
    writeFileSync(profile, out);
    expect(loadProfile(profile)).toMatchObject({ name: "my-run", model: "distribution", sizeBytes: 2 ** 30 });
  });

  it("says why a file is no fio run", async () => {
    const file = join(folder, "run.json");
    writeFileSync(file, "[]");
    const { err, status } = await run("fit", file);
    expect(err).toMatch(/^blkforge: BLK_E_FILE {2}.*run\.json is not the JSON of a fio run/);
    expect(status).toBe(2);
  });
});
