import { describe, expect, it } from "vitest";
import { closest, editDistance } from "../../src/base/suggest.js";

describe("suggestions", () => {
  it.each([
    ["latncy", "latency"],
    ["latnecy", "latency"],
    ["fxd", "fixed"],
    ["hdd7200", "hdd-7200"],
    ["HDD-7200", "hdd-7200"],
  ])("%s means %s", (given, meant) => {
    expect(closest(given, ["instant", "fixed", "latency", "hdd-7200"])).toBe(meant);
  });

  it("says nothing rather than something far off", () => {
    expect(closest("floppy", ["instant", "fixed", "rpm"])).toBeUndefined();
    expect(closest("x", [])).toBeUndefined();
  });

  it.each([
    ["", "abc", 3],
    ["kitten", "sitting", 3],
    ["ab", "ba", 1],
    ["same", "same", 0],
  ])("between %j and %j lie %d edits", (a, b, distance) => {
    expect(editDistance(a, b)).toBe(distance);
    expect(editDistance(b, a)).toBe(distance);
  });
});
