import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createGeometry, Geometry, sectorBytes } from "../../../src/model/hdd/geometry.js";
import type { HddParameters } from "../../../src/model/hdd/index.js";
import { Mechanics } from "../../../src/model/hdd/mechanics.js";
import { seekTable } from "../../../src/model/hdd/seek-curve.js";
import { plainDrive, profileParameters } from "./drive.js";

const drives = [
  { profile: "quantum-atlas-10k", files: "atlas10k", blocks: 17_938_986, capacity: 17_966_953 },
  { profile: "quantum-atlas-3", files: "atlas_III", blocks: 17_783_250, capacity: 17_797_944 },
  { profile: "seagate-barracuda-st32171w", files: "barracuda", blocks: 4_110_000, capacity: 4_217_670 },
] as const;

const data = new URL("../../../../shared/data/disksim/", import.meta.url);
const hasData = existsSync(data);

function geometryOf(parameters: HddParameters): Geometry {
  return new Geometry(parameters.layout.zones!, parameters.heads, parameters.layout);
}

interface Place {
  cylinder: number;
  head: number;
  angle: number;
}

/** DiskSim's mapping read from its own parameter file, step by step and without regard to speed: the oracle. */
class DiskSimLayout {
  private readonly heads: number;
  private readonly mapping: number;
  private readonly sparing: number;
  private readonly range: number;
  private readonly zones: { [key: string]: number }[];
  private readonly slips: number[][];

  constructor(text: string) {
    const clean = text.replace(/#.*/g, "");
    const value = (key: string, from = clean) =>
      Number(new RegExp(`${key}\\s*=\\s*([\\d.]+)`).exec(from)![1]);
    this.heads = value("Number of data surfaces");
    this.mapping = value("LBN-to-PBN mapping scheme");
    this.sparing = value("Sparing scheme used");
    this.range = value("Rangesize for sparing");
    const blocks = clean.split("dm_layout_g1_zone").slice(1);
    this.zones = blocks.map((zone) => ({
      first: value("First cylinder number", zone),
      last: value("Last cylinder number", zone),
      sectors: value("Blocks per track", zone),
      offset: value("Offset of first block", zone),
      empty: value("Empty space at zone front", zone),
      trackSkew: value("Skew for track switch", zone),
      cylinderSkew: value("Skew for cylinder switch", zone),
      spares: value("Number of spares", zone),
    }));
    this.slips = blocks.map((zone) =>
      (/slips\s*=\s*\[([^\]]*)\]/.exec(zone)![1].match(/\d+/g) ?? []).map(Number),
    );
  }

  place(block: number): Place {
    let start = 0;
    for (let i = 0; ; i++) {
      const zone = this.zones[i];
      const slips = this.slips[i];
      const cylinders = zone.last - zone.first + 1;
      let spares = slips.length;
      if (this.sparing === 9) spares = zone.spares;
      if (this.sparing === 8) spares = zone.spares * Math.floor(cylinders / this.range);
      const size = cylinders * this.heads * zone.sectors - zone.empty - spares;
      if (block >= start + size) {
        start += size;
        continue;
      }
      let place = block - start + zone.empty;
      let base = 0;
      let counted = slips;
      if (this.sparing === 8) {
        const rangeSectors = this.range * this.heads * zone.sectors;
        const range = Math.floor(place / (rangeSectors - zone.spares));
        place %= rangeSectors - zone.spares;
        base = range * this.range;
        counted = slips
          .filter((slip) => Math.floor(slip / rangeSectors) === range)
          .map((slip) => slip - range * rangeSectors);
      }
      let count = 0;
      for (const slip of counted) if (slip <= place + count) count++;
      place += count;
      const cylinder = base + Math.floor(place / (this.heads * zone.sectors));
      const order = Math.floor((place % (this.heads * zone.sectors)) / zone.sectors);
      const sector = place % zone.sectors;
      const turned =
        zone.offset +
        sector +
        (order + (this.heads - 1) * cylinder) * zone.trackSkew +
        cylinder * zone.cylinderSkew;
      return {
        cylinder: zone.first + cylinder,
        head: this.mapping === 1 && cylinder % 2 === 1 ? this.heads - 1 - order : order,
        angle: (turned % zone.sectors) / zone.sectors,
      };
    }
  }
}

describe("geometry", () => {
  it.each(drives)("$profile holds as many blocks as DiskSim's layout", ({ profile, capacity }) => {
    expect(geometryOf(profileParameters(profile)).capacitySectors).toBe(capacity);
  });

  describe.skipIf(!hasData)(
    "against DiskSim's own parameter files (skipped where they are not at hand)",
    () => {
      it.each(drives)("$profile places every block where DiskSim does", ({ profile, files, blocks }) => {
        const oracle = new DiskSimLayout(readFileSync(new URL(`${files}.model`, data), "utf8"));
        const geometry = geometryOf(profileParameters(profile));
        fc.assert(
          fc.property(fc.integer({ min: 0, max: blocks - 1 }), (block) => {
            geometry.locate(block);
            const { cylinder, head, angle } = geometry;
            expect({ cylinder, head, angle }).toEqual(oracle.place(block));
          }),
          { numRuns: 3000, seed: 1 },
        );
      });

      it.each(drives)("$profile has the seek curve of the file", ({ profile, files }) => {
        const { seek } = profileParameters(profile);
        const lines = readFileSync(new URL(`${files}.seek`, data), "utf8")
          .trim()
          .split("\n")
          .slice(1);
        const measured = lines.map((line) => line.split(",").map(Number));
        expect(
          seek.curve === "extracted" && seek.points.map(([distance, ns]) => [distance, ns / 1e6]),
        ).toEqual(measured);
      });
    },
  );

  it("gives every block a place of its own, and runs that stay on the track", () => {
    const zones = [
      {
        first: 0,
        last: 2,
        sectorsPerTrack: 20,
        trackSkew: 3,
        cylinderSkew: 5,
        spares: 4,
        slips: [7, 7, 30, 119],
      },
      { first: 4, last: 5, sectorsPerTrack: 15, empty: 11, spares: 2, slips: [12], defects: [[40, 59]] },
    ];
    const parameters = plainDrive({ heads: 2, layout: { zones, mapping: "serpentine", sparing: "zone" } });
    const geometry = geometryOf(parameters);
    const seen = new Set<string>();
    for (let block = 0; block < geometry.capacitySectors; block++) {
      geometry.locate(block);
      expect(geometry.sector + geometry.run).toBeLessThanOrEqual(geometry.sectorsPerTrack);
      expect(geometry.angle).toBeGreaterThanOrEqual(0);
      expect(geometry.angle).toBeLessThan(1);
      seen.add(`${geometry.cylinder}/${geometry.head}/${geometry.sector}`);
    }
    expect(seen.size).toBe(geometry.capacitySectors);
  });

  it("sends a remapped sector to its replacement, and ends runs before it", () => {
    const zones = [{ first: 0, last: 0, sectorsPerTrack: 20, spares: 2, defects: [[5, 19]] }];
    const geometry = geometryOf(plainDrive({ heads: 1, layout: { zones, sparing: "zone" } }));
    geometry.locate(2);
    expect(geometry.run).toBe(3);
    geometry.locate(5);
    expect([geometry.sector, geometry.run]).toEqual([19, 1]);
    geometry.locate(6);
    expect(geometry.sector).toBe(6);
  });

  it("refuses a size beyond the listed zones", () => {
    const parameters = profileParameters("seagate-barracuda-st32171w");
    expect(() => createGeometry(parameters, 2 ** 40)).toThrow(/more than the 2159447040 bytes/);
  });
});

describe("media rate", () => {
  /** Sustained rate of reading a zone's tracks one after the other, MB/s, through the mechanics alone. */
  function sustainedRate(parameters: HddParameters, geometry: Geometry, zone: number): number {
    const mechanics = new Mechanics({
      geometry,
      revolutionNs: 60e9 / parameters.rpm,
      seekNs: seekTable(parameters.seek, geometry.cylinders),
      headSwitchNs: parameters.headSwitch,
      writeSettleNs: 0,
      hasZeroLatencyRead: false,
      hasZeroLatencyWrite: false,
    });
    const { first, end } = geometry.zoneRange(zone);
    geometry.locate(first);
    // Whole cylinders, many of them: a cylinder's end is not counted without its switch.
    const cylinder = geometry.sectorsPerTrack * geometry.heads;
    const cylinders = Math.min(100, Math.floor((end - first) / cylinder) - 1);
    const warmNs = mechanics.access(first, cylinder, false, 0);
    const endNs = mechanics.access(first + cylinder, cylinders * cylinder, false, warmNs);
    return ((cylinders * cylinder * sectorBytes) / (endNs - warmNs)) * 1e3;
  }

  // SPT*512*rpm/60 * H*SPT / (H*SPT + (H-1)*track skew + cylinder skew), computed by hand; tolerance 0.5 %.
  it.each([
    ["quantum-atlas-10k", 23.544, 16.128],
    ["quantum-atlas-3", 12.124, 7.962],
    ["seagate-barracuda-st32171w", 9.405, 6.042],
    ["hp-97560", 2.198, 2.198],
  ])("%s sustains what its layout and skews allow, outside and inside", (profile, outer, inner) => {
    const parameters = profileParameters(profile);
    // The formula knows no spares: Barracuda's, in every range of cylinders, take another 1.6 %.
    const zones = parameters.layout.zones!.map((zone) => ({ ...zone, slips: [] }));
    const geometry = new Geometry(zones, parameters.heads, { ...parameters.layout, sparing: "none" });
    expect(sustainedRate(parameters, geometry, 0) / outer).toBeGreaterThan(0.995);
    expect(sustainedRate(parameters, geometry, 0) / outer).toBeLessThan(1.005);
    const last = geometry.zoneCount - 1;
    expect(sustainedRate(parameters, geometry, last) / inner).toBeGreaterThan(0.995);
    expect(sustainedRate(parameters, geometry, last) / inner).toBeLessThan(1.005);
  });

  it.each([2 ** 30, 10 * 2 ** 30, 4 * 2 ** 40])(
    "derived zones of a %d byte drive keep the given rates (1 %)",
    (size) => {
      const parameters = profileParameters("hdd-7200");
      const geometry = createGeometry(parameters, size);
      expect(geometry.capacitySectors * sectorBytes).toBeGreaterThanOrEqual(size);
      expect(geometry.capacitySectors * sectorBytes).toBeLessThan(size * 1.02);
      expect(sustainedRate(parameters, geometry, 0) / 210).toBeGreaterThan(0.99);
      expect(sustainedRate(parameters, geometry, 0) / 210).toBeLessThan(1.01);
      const last = geometry.zoneCount - 1;
      expect(sustainedRate(parameters, geometry, last) / 100).toBeGreaterThan(0.99);
      expect(sustainedRate(parameters, geometry, last) / 100).toBeLessThan(1.01);
    },
  );
});
