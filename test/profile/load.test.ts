import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BlkError } from "../../src/base/errors.js";
import { Op, operations } from "../../src/base/request.js";
import { modelNames } from "../../src/model/schemas.js";
import { loadProfile, type Profile, profileNames } from "../../src/profile/load.js";

/** As messages name them: "a", "b" or "c". */
const knownModels = modelNames
  .map((name) => JSON.stringify(name))
  .join(", ")
  .replace(/, ([^,]*)$/, " or $1");

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "blkforge-profile-"));
});

afterAll(() => rmSync(folder, { recursive: true }));

/** Writes a profile and returns its path. */
function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** Of the operations every device has. */
function latencies(profile: Profile): number[] {
  if (profile.model !== "fixed") throw new Error(`${profile.name} is not of model fixed`);
  return profile.parameters.latency.slice(0, Op.append);
}

/** The error `load` ends in, as a person sees it, the test's folder cut off. */
function complaint(load: () => unknown): string {
  try {
    load();
  } catch (error) {
    if (error instanceof BlkError) return error.toLine().replaceAll(`${folder}/`, "");
    throw error;
  }
  throw new Error("loading succeeded");
}

const complaintAbout = (text: string, settings: string[] = []) => {
  const path = file("x.yaml", text);
  return complaint(() => loadProfile(path, { settings }));
};

describe("every profile that comes along", () => {
  it.each(profileNames())("%s loads, is called as its file is, and describes itself", (name) => {
    const profile = loadProfile(name);
    expect(profile.name).toBe(name);
    expect(profile.description).not.toBe("");
    // A profile crosses to the device thread.
    expect(structuredClone(profile)).toEqual(profile);
  });
});

describe("a profile", () => {
  it("gives the properties of the device in bytes and nanoseconds", () => {
    expect(loadProfile("fixed")).toMatchObject({
      name: "fixed",
      model: "fixed",
      sizeBytes: 64 * 2 ** 30,
      logicalBlockBytes: 512,
      physicalBlockBytes: 4096,
      isRotational: false,
      hasVolatileCache: false,
      parameters: { latency: operations.map(() => 1e6) },
      zones: null,
    });
  });

  it("fills in what it does not say", () => {
    const profile = loadProfile(file("short.yaml", "model: instant\nsize: 1M\n"));
    expect(profile).toMatchObject({
      name: "short",
      description: "",
      logicalBlockBytes: 512,
      physicalBlockBytes: 512,
      isRotational: false,
      hasVolatileCache: false,
    });
  });

  it("is rotational by default if its model turns", () => {
    const path = file("disk.yaml", "extends: hdd-7200\n");
    expect(loadProfile(path).isRotational).toBe(true);
    expect(loadProfile(path, { settings: ["rotational=false"] }).isRotational).toBe(false);
  });

  it("takes its size from --size first, exactly", () => {
    expect(loadProfile("fixed", { size: "512" }).sizeBytes).toBe(512);
    expect(loadProfile("fixed", { size: "2G", settings: ["size=1G"] }).sizeBytes).toBe(2 ** 31);
    expect(loadProfile(file("sizeless.yaml", "model: instant\n"), { size: "1M" }).sizeBytes).toBe(2 ** 20);
  });

  it("is found by name, by path with a slash, and by the ending .yaml or .yml", () => {
    const path = file("mine.yml", "model: instant\nsize: 1M\n");
    expect(loadProfile(path).source).toBe(path);
    expect(complaint(() => loadProfile("nowhere.yml"))).toContain("BLK_E_PROFILE_UNREADABLE");
  });
});

describe("extends", () => {
  it("changes what differs and keeps the rest, a scalar standing for the whole included", () => {
    const profile = loadProfile(file("mine.yaml", "extends: fixed\nlatency: { read: 80us }\n"));
    expect(latencies(profile)).toEqual([80_000, 1e6, 1e6, 1e6, 1e6]);
    expect(profile.name).toBe("mine");
    expect(profile.description).toBe(loadProfile("fixed").description);
  });

  it("follows relative paths from the file that names them, through several files", () => {
    mkdirSync(join(folder, "deep"), { recursive: true });
    file("base.yaml", "extends: fixed\nlatency: 5ms\nsize: 3G\n");
    file("deep/middle.yaml", "extends: ../base.yaml\nlatency: { write: 1us }\n");
    const profile = loadProfile(file("top.yaml", "extends: ./deep/middle.yaml\nsize: 4G\n"));
    expect(latencies(profile)).toEqual([5e6, 1000, 5e6, 5e6, 5e6]);
    expect(profile.sizeBytes).toBe(4 * 2 ** 30);
  });

  it("with another model keeps the common keys alone", () => {
    const profile = loadProfile(file("other.yaml", "extends: fixed\nmodel: instant\n"));
    expect(profile).toMatchObject({ model: "instant", physicalBlockBytes: 4096, parameters: {} });
  });

  it("removes a key with null", () => {
    const text = "extends: fixed\nlatency: { read: 1us }\nblockSize: null\n";
    expect(loadProfile(file("less.yaml", text)).physicalBlockBytes).toBe(512);
  });

  it("in a circle is refused, showing the circle", () => {
    file("a.yaml", "extends: ./b.yaml\n");
    file("b.yaml", "\nextends: ./a.yaml\n");
    const line = complaint(() => loadProfile(join(folder, "a.yaml")));
    expect(line).toContain("b.yaml:2:10: the profile extends itself: a.yaml -> b.yaml -> a.yaml");
  });

  it("of something unknown names the line", () => {
    expect(complaintAbout("extends: fxed\n")).toBe(
      'BLK_E_PROFILE_UNKNOWN  x.yaml:1:10: extends: there is no profile "fxed". Did you mean "fixed"? "blkforge profiles" lists all',
    );
    expect(complaintAbout("extends: ./no.yaml\n")).toContain("x.yaml:1:10: extends: cannot read the profile");
    expect(complaintAbout("extends: [fixed]\n")).toContain("x.yaml:1:10: extends must be the name or path");
  });
});

describe("--set", () => {
  const set = (...settings: string[]) => loadProfile("fixed", { settings });

  it("changes all operations, or one", () => {
    expect(latencies(set("latency=2ms"))).toEqual([2e6, 2e6, 2e6, 2e6, 2e6]);
    expect(latencies(set("latency.flush=2ms"))).toEqual([1e6, 1e6, 2e6, 1e6, 1e6]);
    expect(latencies(set("latency=0"))).toEqual([0, 0, 0, 0, 0]);
  });

  it("lets the particular setting win over the general one in either order", () => {
    const expected = [100_000, 2e6, 2e6, 2e6, 2e6];
    expect(latencies(set("latency=2ms", "latency.read=100us"))).toEqual(expected);
    expect(latencies(set("latency.read=100us", "latency=2ms"))).toEqual(expected);
  });

  it("lets the last of two settings of one path win", () => {
    expect(latencies(set("latency=2ms", "latency=3ms"))[0]).toBe(3e6);
  });

  it("reads values as YAML scalars, and lists and mappings in their brackets", () => {
    const profile = set(
      "writeCache=true",
      "description=fast: a disk",
      "blockSize={logical: 4K, physical: 8K}",
    );
    expect(profile).toMatchObject({
      hasVolatileCache: true,
      description: "fast: a disk",
      logicalBlockBytes: 4096,
      physicalBlockBytes: 8192,
    });
  });

  it("takes one block size for both", () => {
    expect(set("blockSize=4K")).toMatchObject({ logicalBlockBytes: 4096, physicalBlockBytes: 4096 });
  });

  it("can change the model, which drops the other model's keys", () => {
    expect(set("model=instant")).toMatchObject({ model: "instant", parameters: {}, sizeBytes: 2 ** 36 });
    expect(latencies(loadProfile("instant", { settings: ["latency.read=1s", "model=fixed"] }))[0]).toBe(1e9);
  });

  it("can choose another form, keeping what both forms have", () => {
    const profile = loadProfile("hdd-7200", { settings: ["seek.curve=linear"] });
    expect(profile).toMatchObject({ parameters: { seek: { curve: "linear", average: 8e6 } } });
    const constant = loadProfile("hdd-7200", { settings: ["seek.curve=constant"] });
    expect(constant.document.seek).toEqual({ curve: "constant", average: "8ms", writeSettle: "0.5ms" });
  });

  it("says what collection can keep reads away from, coarse or fine", () => {
    const profile = loadProfile("nvme", { settings: ["gc.blocking=plane"] });
    expect(profile).toMatchObject({ parameters: { gc: { blocking: "plane" } } });
    expect(complaint(() => loadProfile("nvme", { settings: ["gc.blocking=block"] }))).toMatch(
      /BLK_E_SETTING .*"none", "plane", "die" or "channel", not "block".*one plane of a die at a time/,
    );
  });

  it.each([
    ["latncy=1ms", 'BLK_E_SETTING  --set latncy=1ms: the profile has no "latncy". Did you mean "latency"?'],
    [
      "latency.raed=1ms",
      'BLK_E_SETTING  --set latency.raed=1ms: "latency" has no "raed". Did you mean "latency.read"?',
    ],
    [
      "latency.read=10x",
      'BLK_E_SETTING  --set latency.read=10x: latency.read: "10x" is not a duration; write a number and a unit: 100us, 1.5ms, 2s',
    ],
    [
      "latency=5",
      "BLK_E_SETTING  --set latency=5: latency: 5 is not a duration; write a number and a unit: 100us, 1.5ms, 2s",
    ],
    [
      "latency=null",
      "BLK_E_SETTING  --set latency=null: latency is missing. Time from arrival to completion: one duration, or one per operation",
    ],
    [
      "latency.read.x=1",
      'BLK_E_SETTING  --set latency.read.x=1: "latency.read" has nothing below it. Set "latency.read" itself',
    ],
    [
      "model=instnt",
      `BLK_E_SETTING  --set model=instnt: model must be ${knownModels}, not "instnt". What decides when requests complete`,
    ],
    [
      "slow=[{kind: episodes}]",
      "BLK_E_SETTING  --set slow=[{kind: episodes}]: slow.0.between is missing. From the end of one to the beginning of the next",
    ],
    [
      "rotational=maybe",
      'BLK_E_SETTING  --set rotational=maybe: rotational must be true or false, not "maybe". Whether the kernel shall take it for a turning disk',
    ],
    [
      "blockSize.logical=1000",
      "BLK_E_SETTING  --set blockSize.logical=1000: blockSize.logical must be a power of two from 512 to 64K, not 1000",
    ],
    [
      "blockSize={logical: 8K, physical: 4K}",
      "BLK_E_SETTING  --set blockSize={logical: 8K, physical: 4K}: blockSize.physical must not be smaller than the logical block",
    ],
    [
      "latency",
      'BLK_E_SETTING  "latency" is not a setting. Write path=value: latency=1ms, latency.read=100us',
    ],
    ["=1", 'BLK_E_SETTING  "=1" is not a setting. Write path=value: latency=1ms, latency.read=100us'],
    ["a..b=1", 'BLK_E_SETTING  "a..b=1" is not a setting. Write path=value: latency=1ms, latency.read=100us'],
  ])("%s is refused in one sentence", (setting, line) => {
    expect(complaint(() => set(setting))).toBe(line);
  });

  it.each(["__proto__.x=1", "constructor=1", "latency.__proto__=1ms", "toString.x=1", "extends=instant"])(
    "%s is an unknown path like any other",
    (setting) => {
      expect(complaint(() => set(setting))).toMatch(/^BLK_E_SETTING {2}--set .* has no "/);
    },
  );
});

describe("a mistake in a file", () => {
  it("in its syntax is shown with line, column and a caret", () => {
    expect(complaintAbout("model: fixed\nlatency: a: b\n")).toBe(
      "BLK_E_PROFILE_SYNTAX  x.yaml:2:10 is not YAML: Nested mappings are not allowed in compact mappings. " +
        "Correct this line:\n\n    latency: a: b\n             ^",
    );
    expect(complaintAbout("model: fixed\n\nmodel: instant\n")).toContain("x.yaml:3:1 is not YAML");
    expect(complaintAbout("model: fixed\nlatency: *there\n")).toContain("x.yaml:2:10 is not YAML");
    expect(complaintAbout("---\nmodel: fixed\n---\nmodel: fixed\n")).toContain("x.yaml:3:1 is not YAML");
  });

  it.each([
    ["", "x.yaml holds nothing"],
    ["- 1\n", "x.yaml holds no mapping"],
    ["size: 1G\n", "x.yaml: model is missing"],
    ["model: fixd\n", `x.yaml:1:8: model must be ${knownModels}, not "fixd"`],
    ["model: fixed\nlatency: 1ms\n", "x.yaml: size is missing"],
    [
      "model: fixed\nsize: 1G\nlatncy: 1ms\n",
      'x.yaml:3:1: a profile of model "fixed" has no "latncy" (and 1 more)',
    ],
    ["extends: fixed\nlatency:\n  raed: 1ms\n", 'x.yaml:3:3: "latency" has no "raed". Did you mean "read"?'],
    ["extends: fixed\nlatency:\n  read: 1x\n", 'x.yaml:3:9: latency.read: "1x" is not a duration'],
    ["extends: fixed\nsize: 1.5G\n", 'x.yaml:2:7: size: "1.5G" is not a size'],
    ["extends: fixed\nsize: 9000P\n", 'x.yaml:2:7: size: size "9000P" is over the largest possible'],
    ["extends: fixed\nname: a b\n", "x.yaml:2:7: name: a name is made of letters"],
    [
      "extends: hdd-7200\nseek: { average: 0.1ms }\n",
      "x.yaml:2:18: seek.average: average seek (0.1 ms) is below",
    ],
    ["extends: hdd-7200\npower: [{ after: 1s }]\n", "x.yaml:2:9: power.0.recovery is missing"],
  ])("%j names field, line and column", (text, line) => {
    expect(complaintAbout(text)).toContain(`BLK_E_PROFILE_INVALID  ${line}`);
  });

  it("is looked for where it stands, in the file that is extended too", () => {
    file("wrong.yaml", "model: fixed\nsize: 1G\nlatency: soon\n");
    expect(complaintAbout("extends: ./wrong.yaml\n")).toContain(
      'wrong.yaml:3:10: latency: "soon" is not a duration',
    );
  });

  it("is blamed on the setting that made it, not on the file", () => {
    expect(complaintAbout("extends: fixed\nlatency: 1ms\n", ["latency=1x"])).toContain(
      "--set latency=1x: latency",
    );
  });
});

describe("the size", () => {
  it.each([
    ["513", "Nearest: 512 or 1K"],
    ["0", "Nearest: 512"],
    ["1", "Nearest: 512"],
  ])("%s is no multiple of the block, and the nearest that are get named", (size, hint) => {
    const line = complaint(() => loadProfile("fixed", { size }));
    expect(line).toMatch(
      /^BLK_E_SIZE {2}size \d+ is not a positive multiple of the 512-byte logical block\. /,
    );
    expect(line).toContain(hint);
  });

  it("counts in blocks of the profile", () => {
    const settings = ["blockSize=4K"];
    expect(complaint(() => loadProfile("fixed", { size: "4608", settings }))).toContain("Nearest: 4K or 8K");
  });

  it("that is none is told before anything is read", () => {
    expect(complaint(() => loadProfile("no-such", { size: "10X" }))).toBe(
      'BLK_E_SIZE  "10X" is not a size. Write bytes or binary units: 512, 10M, 2G, 1T',
    );
  });
});

describe("a file that cannot be read", () => {
  it("says why", () => {
    expect(complaint(() => loadProfile("./no-such.yaml"))).toContain("no-such.yaml: there is no such file");
    expect(complaint(() => loadProfile(`${folder}/`))).toContain("it is a directory");
  });

  it("by name suggests the nearest, or lists all", () => {
    expect(complaint(() => loadProfile("hdd7200"))).toContain('Did you mean "hdd-7200"?');
    expect(complaint(() => loadProfile("floppy"))).toContain("Known: ");
  });
});
