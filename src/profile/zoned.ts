/**
 * The key `zoned` of a profile: a host-managed zoned device, as shingled disks (ZBC, ZAC) and ZNS drives are.
 *
 * Sequential zones are written at their write pointer and nowhere else; `src/zone/` has the rules.
 */
import * as z from "zod";
import type { $ZodIssue } from "zod/v4/core";
import { BlkError } from "../base/errors.js";
import { byteSize, quote } from "../base/schema.js";
import { formatSize } from "../base/units.js";
import type { ZoneLayout } from "../base/zone.js";

/** Each zone costs 17 bytes of memory, and Linux asks for all of them at once. */
const maximumZones = 1 << 20;

const percentPattern = /^(\d+(?:\.\d+)?)%$/;

const zoneSize = byteSize.refine((bytes) => bytes >= 65536 && Number.isInteger(Math.log2(bytes)), {
  // Linux takes no other (blk_revalidate_disk_zones in block/blk-zoned.c).
  error: ({ input }) => `must be a power of two of 64K or more, not ${quote(input)}`,
});

const zoneCount = z.int().nonnegative();

const notAShare = ({ input }: { input?: unknown }): string =>
  `must be a number of zones or a share such as 1%, not ${quote(input)}`;

const numbers = z.array(z.int().nonnegative());

export const zonedSchema = z
  .strictObject({
    zoneSize: zoneSize.describe("Distance from zone to zone"),
    capacity: byteSize.describe("What a sequential zone holds; the zone's size by default").optional(),
    conventional: z
      .union([zoneCount, z.string().regex(percentPattern, { error: notAShare })], { error: notAShare })
      .describe("Zones at the beginning that can be written anywhere: a number, or a share of all")
      .default(0),
    maxOpen: zoneCount.describe("Zones that may be open at a time; 0: any number").default(0),
    maxActive: zoneCount
      .describe("Zones that may be open or closed, that is partly written, at a time; 0: any number")
      .default(0),
    maxAppend: byteSize
      .refine((bytes) => bytes >= 4096, { error: "must be 4K or more" })
      .describe("Longest zone append")
      .default(512 * 1024),
    readOnly: numbers.describe("Numbers of zones that can be read only, as they wear out").default([]),
    offline: numbers.describe("Numbers of zones that can be neither read nor written").default([]),
  })
  .refine(({ zoneSize, capacity }) => capacity === undefined || (capacity > 0 && capacity <= zoneSize), {
    error: "must be more than 0 and not more than zoneSize",
    path: ["capacity"],
  })
  .refine(({ maxOpen, maxActive }) => maxActive === 0 || maxOpen <= maxActive, {
    error: "must not be more than maxActive: open zones are active",
    path: ["maxOpen"],
  });

/** What the keys mean for a device of this size, and what is wrong with them there. */
export function resolveZones(
  zoned: z.output<typeof zonedSchema>,
  { sizeBytes, blockBytes }: { sizeBytes: number; blockBytes: number },
): { layout: ZoneLayout; issues: $ZodIssue[] } {
  const { zoneSize: zoneBytes, capacity = zoneBytes, conventional, maxAppend, readOnly, offline } = zoned;
  checkZoneCount(sizeBytes, zoneBytes);
  const count = sizeBytes / zoneBytes;
  const conventionalCount =
    typeof conventional === "number"
      ? conventional
      : Math.floor((count * Number(percentPattern.exec(conventional)?.[1])) / 100);
  const sequentialCount = count - conventionalCount;

  const issues: $ZodIssue[] = [];
  const refuse = (key: string, input: unknown, message: string): void => {
    issues.push({ code: "custom", path: ["zoned", key], input, message });
  };
  if (capacity % blockBytes !== 0)
    refuse("capacity", capacity, `must be whole blocks of ${blockBytes} bytes`);
  if (sequentialCount < 1)
    refuse("conventional", conventional, `must leave some of the ${count} zones sequential`);
  for (const [key, zones] of Object.entries({ readOnly, offline })) {
    const wrong = zones.find((zone) => zone < conventionalCount || zone >= count);
    if (wrong === undefined) continue;
    refuse(key, zones, `must name sequential zones, ${conventionalCount} to ${count - 1}, not ${wrong}`);
  }
  // A limit that cannot be reached is none; Linux takes no limit above the number of zones.
  const limit = (most: number): number => (most >= sequentialCount ? 0 : most);
  return {
    layout: {
      zoneBytes,
      capacityBytes: capacity,
      conventionalCount,
      maxOpen: limit(zoned.maxOpen),
      maxActive: limit(zoned.maxActive),
      maxAppendBytes: Math.min(maxAppend, capacity),
      readOnly,
      offline,
    },
    issues,
  };
}

function checkZoneCount(sizeBytes: number, zoneBytes: number): void {
  if (sizeBytes % zoneBytes !== 0) {
    const below = Math.floor(sizeBytes / zoneBytes) * zoneBytes;
    const nearest = [below, below + zoneBytes].filter((bytes) => bytes > 0).map(formatSize);
    throw new BlkError(
      "BLK_E_SIZE",
      `size ${formatSize(sizeBytes)} is not a whole number of zones of ${formatSize(zoneBytes)}`,
      `Nearest: ${nearest.join(" or ")}`,
    );
  }
  if (sizeBytes / zoneBytes > maximumZones) {
    throw new BlkError(
      "BLK_E_SIZE",
      `size ${formatSize(sizeBytes)} makes ${sizeBytes / zoneBytes} zones of ${formatSize(zoneBytes)}, more than ${maximumZones}`,
      "Choose a smaller --size, or a larger zoned.zoneSize",
    );
  }
}
