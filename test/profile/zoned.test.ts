import { describe, expect, test } from "vitest";
import { loadProfile } from "../../src/profile/load.js";

const zoned = (size: string, ...settings: string[]) =>
  loadProfile("instant", { size, settings: ["zoned.zoneSize=1M", ...settings] }).zones;

describe("the key zoned", () => {
  test("fills in what it does not say", () => {
    expect(zoned("8M")).toEqual({
      zoneBytes: 1 << 20,
      capacityBytes: 1 << 20,
      conventionalCount: 0,
      maxOpen: 0,
      maxActive: 0,
      maxAppendBytes: 512 << 10,
      readOnly: [],
      offline: [],
    });
  });

  test("takes a share of the zones as conventional ones", () => {
    expect(zoned("200M", "zoned.conventional=1%")?.conventionalCount).toBe(2);
    expect(zoned("200M", "zoned.conventional=3")?.conventionalCount).toBe(3);
  });

  test("takes a limit that no host can reach for none, as Linux refuses one above the number of zones", () => {
    expect(zoned("8M", "zoned.maxOpen=8", "zoned.maxActive=9")).toMatchObject({ maxOpen: 0, maxActive: 0 });
    expect(zoned("8M", "zoned.maxOpen=7", "zoned.maxActive=7")).toMatchObject({ maxOpen: 7, maxActive: 7 });
  });

  test.each([
    ["zoned.zoneSize=3M", /zoned\.zoneSize must be a power of two/],
    ["zoned.capacity=2M", /zoned\.capacity must be more than 0 and not more than zoneSize/],
    ["zoned.capacity=1000", /zoned\.capacity must be whole blocks/],
    ["zoned.conventional=8", /zoned\.conventional must leave some of the 8 zones sequential/],
    ["zoned.conventional=many", /zoned\.conventional must be a number of zones or a share/],
    ["zoned.offline=[8]", /zoned\.offline must name sequential zones, 0 to 7, not 8/],
    ["zoned.maxAppend=1K", /zoned\.maxAppend must be 4K or more/],
  ])("refuses %s", (setting, message) => {
    expect(() => zoned("8M", setting)).toThrowError(message);
  });

  test("refuses more open zones than active ones", () => {
    expect(() => zoned("8M", "zoned.maxOpen=3", "zoned.maxActive=2")).toThrowError(
      /not be more than maxActive/,
    );
  });

  test("refuses a size that is not whole zones, and too many zones", () => {
    expect(() => zoned("7700K")).toThrowError(/not a whole number of zones of 1M/);
    expect(() => zoned("2T")).toThrowError(/more than 1048576/);
  });
});

test("the SMR disk has 1 % conventional zones at any size", () => {
  expect(loadProfile("smr-host-managed").zones).toMatchObject({ conventionalCount: 521, maxOpen: 128 });
  expect(loadProfile("smr-host-managed", { size: "1T" }).zones).toMatchObject({ conventionalCount: 40 });
});
