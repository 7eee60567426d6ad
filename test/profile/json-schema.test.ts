import { describe, expect, it } from "vitest";
import * as z from "zod";
import { modelNames } from "../../src/model/schemas.js";
import { profileJsonSchema } from "../../src/profile/json-schema.js";
import { loadProfile, profileNames } from "../../src/profile/load.js";

type JsonSchema = Parameters<typeof z.fromJSONSchema>[0];

const published = JSON.parse(JSON.stringify(profileJsonSchema())) as { $defs: Record<string, JsonSchema> };

/** Reads one definition back with zod's own reader of JSON Schema; `if`/`then`/`else` at the top are not among what it reads. */
function accepts(definition: string, document: unknown): boolean {
  return z.fromJSONSchema(published.$defs[definition]).safeParse(document).success;
}

describe("the published JSON Schema", () => {
  it("has each model complete, and as what an extending profile may say", () => {
    expect(Object.keys(published.$defs).sort()).toEqual(
      modelNames.flatMap((model) => [model, `${model}-extended`]).sort(),
    );
  });

  it.each(profileNames())("accepts %s", (name) => {
    const { model, document } = loadProfile(name);
    expect(accepts(model, document)).toBe(true);
    expect(accepts(`${model}-extended`, document)).toBe(true);
  });

  it("accepts both forms of what has a short one", () => {
    const base = { model: "fixed", size: "1G" };
    expect(accepts("fixed", { ...base, latency: "1ms" })).toBe(true);
    expect(accepts("fixed", { ...base, latency: { read: "1ms" } })).toBe(true);
    expect(accepts("fixed", { ...base, latency: "1ms", blockSize: 4096 })).toBe(true);
  });

  it("refuses a misspelt key, a missing key and a value without its unit", () => {
    const base = { model: "fixed", size: "1G", latency: "1ms" };
    expect(accepts("fixed", base)).toBe(true);
    expect(accepts("fixed", { ...base, latncy: "1ms" })).toBe(false);
    expect(accepts("fixed", { model: "fixed", size: "1G" })).toBe(false);
    expect(accepts("fixed", { ...base, latency: 5 })).toBe(false);
    expect(accepts("fixed", { ...base, latency: { raed: "1ms" } })).toBe(false);
  });

  it("asks nothing of a profile that extends another, but knows its keys", () => {
    expect(accepts("fixed-extended", { extends: "fixed" })).toBe(true);
    expect(accepts("hdd-extended", { extends: "hdd-7200", seek: { curve: "lee", average: "9ms" } })).toBe(
      true,
    );
    expect(accepts("fixed-extended", { extends: "fixed", latncy: "1ms" })).toBe(false);
  });

  it("explains every key at the top, or everything below it", () => {
    const isExplained = ({ description, properties }: Property): boolean =>
      description !== undefined || (properties !== undefined && Object.values(properties).every(isExplained));
    for (const model of modelNames) {
      const { properties = {} } = published.$defs[model] as Property;
      const unexplained = Object.keys(properties).filter((key) => !isExplained(properties[key]));
      expect(unexplained.map((key) => `${model}: ${key}`)).toEqual([]);
    }
  });
});

interface Property {
  description?: string;
  properties?: Record<string, Property>;
}
