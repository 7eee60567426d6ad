import { describe, expect, it } from "vitest";
import { type HddParameters, hddSchema } from "../../../src/model/hdd/index.js";
import { meanSeekNs, seekTable } from "../../../src/model/hdd/seek-curve.js";
import { plainDrive, profileParameters } from "./drive.js";

type Seek = HddParameters["seek"];

const seekOf = (seek: Record<string, unknown>): Seek => plainDrive({ seek }).seek;

describe("seek curves", () => {
  // Computed independently of this code, for random pairs of cylinders; tolerance 0.1 %.
  it.each([
    ["quantum-atlas-10k", 10042, 5.599],
    ["quantum-atlas-3", 8057, 8.312],
    ["seagate-barracuda-st32171w", 5172, 9.325],
    ["hp-97560", 1962, 12.832],
  ])("%s has the mean random seek of its published curve", (profile, cylinders, expectedMs) => {
    const table = seekTable(profileParameters(profile).seek, cylinders);
    expect(meanSeekNs(table) / 1e6 / expectedMs).toBeCloseTo(1, 3);
  });

  it("HPL gives HP C2200A's mean random seek (tolerance 0.1 %)", () => {
    const seek = seekOf({ curve: "hpl", coefficients: [616, 3.45, 0.597, 10.8, 0.012, -1] });
    expect(meanSeekNs(seekTable(seek, 1449)) / 1e6 / 15.677).toBeCloseTo(1, 3);
  });

  it("HPL's sixth coefficient is the seek to the next cylinder, where it is not -1", () => {
    const table = seekTable(seekOf({ curve: "hpl", coefficients: [100, 3, 0.4, 8, 0.01, 2.5] }), 1000);
    expect(table[1]).toBe(2.5e6);
    expect(table[4]).toBeCloseTo(3.8e6, 3);
    expect(table[500]).toBeCloseTo(13e6, 3);
  });

  it("Lee's curve passes through minimum and maximum, and its mean is the average", () => {
    const table = seekTable(
      seekOf({ curve: "lee", minimum: "0.5ms", average: "8ms", maximum: "16ms" }),
      100_000,
    );
    expect(table[0]).toBe(0);
    expect(table[1]).toBe(0.5e6);
    expect(table[99_999] / 16e6).toBeCloseTo(1, 3);
    expect(meanSeekNs(table) / 8e6).toBeCloseTo(1, 3);
  });

  it("a linear curve passes through its three points", () => {
    const table = seekTable(
      seekOf({ curve: "linear", minimum: "1ms", average: "7ms", maximum: "14ms" }),
      3001,
    );
    expect([table[1], table[1000], table[3000]]).toEqual([1e6, 7e6, 14e6]);
    expect(table[2000]).toBeCloseTo(10.5e6, 3);
  });

  it("a constant curve costs the same at every distance but zero", () => {
    const table = seekTable(seekOf({ curve: "constant", average: "5ms" }), 10);
    expect([...table]).toEqual([0, ...Array(9).fill(5e6)]);
  });

  it("an extracted curve keeps measured points, falls where they fall, and holds its last value", () => {
    const points = [
      [1, "2ms"],
      [3, "1ms"],
      [10, "8ms"],
    ];
    const table = seekTable(seekOf({ curve: "extracted", points }), 20);
    expect([table[1], table[2], table[3], table[10], table[19]]).toEqual([2e6, 1.5e6, 1e6, 8e6, 8e6]);
  });

  it("hplplus10 replaces the first ten distances", () => {
    const first = ["1ms", "1.1ms", "1.2ms", "1.3ms", "1.4ms", "1.5ms", "1.6ms", "1.7ms", "1.8ms", "1.9ms"];
    const table = seekTable(
      seekOf({ curve: "hplplus10", first, coefficients: [100, 3, 0.4, 8, 0.01, -1] }),
      20,
    );
    expect(table[10]).toBe(1.9e6);
    expect(table[11]).toBeCloseTo((3 + 0.4 * Math.sqrt(11)) * 1e6, 3);
  });
});

describe("contradictions in a hard disk's parameters", () => {
  const complaints = (changes: Record<string, unknown>) => {
    const result = hddSchema.safeParse({
      rpm: 7200,
      heads: 2,
      seek: { curve: "lee", minimum: "1ms", average: "8ms", maximum: "16ms" },
      layout: { outerRate: "200MB/s", innerRate: "100MB/s" },
      ...changes,
    });
    return result.success
      ? []
      : result.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
  };
  const zone = (first: number, last: number, more = {}) => ({ first, last, sectorsPerTrack: 100, ...more });

  it("are absent from a plain drive", () => {
    expect(complaints({})).toEqual([]);
  });

  it.each([
    [
      { seek: { curve: "lee", minimum: "1ms", average: "0.5ms", maximum: "16ms" } },
      "seek.average: average seek (0.5 ms) is below minimum (1 ms)",
    ],
    [
      { seek: { curve: "lee", minimum: "1ms", average: "8ms", maximum: "7ms" } },
      "seek.maximum: maximum seek (7 ms) is below average (8 ms)",
    ],
    [
      {
        seek: {
          curve: "extracted",
          points: [
            [5, "1ms"],
            [5, "2ms"],
          ],
        },
      },
      "seek.points.1: distance 5 does not follow 5: distances must rise",
    ],
    [
      { layout: { zones: [zone(0, 10), zone(10, 20)] } },
      "layout.zones.1.first: zone from cylinder 10 overlaps the zone before it, which ends at cylinder 10",
    ],
    [{ layout: { zones: [zone(5, 3)] } }, "layout.zones.0.last: last cylinder 3 lies before the first, 5"],
    [
      { layout: { zones: [zone(0, 0, { slips: [200] })] } },
      "layout.zones.0.slips.0: sector 200 lies beyond the zone's 200 sectors",
    ],
    [
      { layout: { zones: [zone(0, 0, { empty: 150, spares: 50 })] } },
      "layout.zones.0.spares: empty and spare sectors leave nothing of the zone's 200 sectors",
    ],
    [
      { layout: { outerRate: "100MB/s", innerRate: "200MB/s" } },
      "layout.outerRate: is below innerRate: outer tracks are longer, hence faster",
    ],
    [{ layout: { outerRate: "100MB/s" } }, "layout.innerRate: is needed where no zones are listed"],
    [
      { layout: { zones: [zone(0, 9)], outerRate: "100MB/s" } },
      "layout.outerRate: contradicts the listed zones; give one or the other",
    ],
    [{ heads: 3, actuators: 2 }, "heads: 3 heads cannot be divided between 2 actuators"],
    [
      {
        power: [
          { after: "2s", recovery: "1s" },
          { after: "1s", recovery: "5s" },
        ],
      },
      "power.1.after: must be later than the state before it",
    ],
    [
      { cache: { write: { size: "1M", extentSize: "2M" } } },
      "cache.write.extentSize: a run of dirty blocks cannot be larger than the write cache",
    ],
  ])("%j is refused with the field's path and why", (changes, complaint) => {
    expect(complaints(changes)).toContain(complaint);
  });

  it("tells what a rate must look like", () => {
    expect(complaints({ layout: { outerRate: "fast", innerRate: "100MB/s" } })).toEqual([
      'layout.outerRate: "fast" is not a rate; write 210MB/s, 1.2GB/s or 180MiB/s',
    ]);
  });
});
