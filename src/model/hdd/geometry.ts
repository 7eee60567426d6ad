/**
 * Geometry: from a logical block to cylinder, head and angle, as drives (and DiskSim's layout G1) place blocks.
 *
 * Zones hold tracks of equal length. Inside a zone blocks fill a cylinder head by head, then the next cylinder;
 * serpentine mapping reverses the heads on every second one. Slipped sectors are skipped, shifting all later blocks;
 * remapped ones live elsewhere. Each track starts turned against the one before by a skew, so that reading on after a
 * switch loses little. The order of these steps, and the ways to spare, follow DiskSim 4 (diskmodel/layout_g1).
 *
 * Where only a drive's rates are known, `deriveZones` makes a plausible zone table from them.
 */
import { BlkError } from "../../base/errors.js";
import type { HddParameters, LayoutParameters, ZoneParameters } from "./schema.js";

export const sectorBytes = 512;

export class Geometry {
  readonly cylinders: number;
  /** Blocks the zones hold, at least as many as the device exports. */
  readonly capacitySectors: number;

  // Where the last `locate` found its block.
  cylinder = 0;
  /** Surface. */
  head = 0;
  /** Position of the track among its cylinder's, in block order. */
  trackOfCylinder = 0;
  sectorsPerTrack = 1;
  /** Sector of the track, before skew. */
  sector = 0;
  /** Angle of the block's first edge from the index mark, in revolutions, 0 to 1. */
  angle = 0;
  /** Blocks from this one on that follow each other on the track without a gap. */
  run = 1;

  private readonly zones: Zone[];
  private readonly isSerpentine: boolean;
  private lastZone: Zone;

  constructor(
    zones: readonly ZoneParameters[],
    readonly heads: number,
    layout: LayoutParameters,
  ) {
    this.isSerpentine = layout.mapping === "serpentine";
    let firstSector = 0;
    this.zones = zones.map((zone) => {
      const placed = new Zone(zone, firstSector, heads, layout);
      firstSector = placed.endSector;
      return placed;
    });
    this.capacitySectors = firstSector;
    this.cylinders = zones[zones.length - 1].last + 1;
    this.lastZone = this.zones[0];
  }

  get zoneCount(): number {
    return this.zones.length;
  }

  /** First block of a zone, and the block after its last. */
  zoneRange(index: number): { first: number; end: number } {
    const zone = this.zones[index];
    return { first: zone.firstSector, end: zone.endSector };
  }

  /** Finds a block; the answer stands in the fields. */
  locate(block: number): void {
    let zone = this.lastZone;
    if (block < zone.firstSector || block >= zone.endSector) {
      zone = this.zoneOf(block);
      this.lastZone = zone;
    }
    const size = zone.sectorsPerTrack;
    let place = block - zone.firstSector + zone.empty;
    let cylinder = 0;
    if (zone.blocksPerRange > 0) {
      const range = Math.floor(place / zone.blocksPerRange);
      place -= range * zone.blocksPerRange;
      if (zone.slips.length > 0) place = zone.slipInRange(place, range);
      cylinder = range * zone.rangeCylinders;
    } else if (zone.slips.length > 0) {
      place = zone.slip(place);
    }
    let gapless = size;
    if (zone.defects.length > 0) {
      const original = cylinder * zone.sectorsPerCylinder + place;
      gapless = zone.untilDefect(original);
      if (gapless === 0) {
        gapless = 1;
        place = zone.replacementOf(original);
        cylinder = 0;
      }
    }
    const inside = Math.floor(place / zone.sectorsPerCylinder);
    cylinder += inside;
    place -= inside * zone.sectorsPerCylinder;
    const track = Math.floor(place / size);
    const sector = place - track * size;
    this.cylinder = zone.firstCylinder + cylinder;
    this.trackOfCylinder = track;
    this.head = this.isSerpentine && (cylinder & 1) === 1 ? this.heads - 1 - track : track;
    this.sectorsPerTrack = size;
    this.sector = sector;
    this.run = Math.min(size - sector, gapless);
    const skew =
      zone.offset +
      sector +
      (track + (this.heads - 1) * cylinder) * zone.trackSkew +
      cylinder * zone.cylinderSkew;
    // Faster than the remainder of floating-point numbers, and as exact for whole ones.
    this.angle = (skew - Math.floor(skew / size) * size) / size;
  }

  private zoneOf(block: number): Zone {
    const { zones } = this;
    let low = 0;
    let high = zones.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (block < zones[middle].endSector) high = middle;
      else low = middle + 1;
    }
    return zones[low];
  }
}

/** One zone, with all that does not depend on the block worked out. */
class Zone {
  readonly firstCylinder: number;
  readonly sectorsPerTrack: number;
  readonly sectorsPerCylinder: number;
  readonly trackSkew: number;
  readonly cylinderSkew: number;
  readonly offset: number;
  readonly empty: number;
  readonly endSector: number;
  /** Blocks in a range of cylinders that has spares of its own; 0 without ranges. */
  readonly blocksPerRange: number;
  readonly slips: Float64Array;
  /** Sorted originals of remapped sectors, each followed by its replacement. */
  readonly defects: Float64Array;
  readonly rangeCylinders: number;

  constructor(
    zone: ZoneParameters,
    readonly firstSector: number,
    heads: number,
    { sparing, rangeCylinders }: LayoutParameters,
  ) {
    this.firstCylinder = zone.first;
    this.sectorsPerTrack = zone.sectorsPerTrack;
    this.sectorsPerCylinder = zone.sectorsPerTrack * heads;
    this.trackSkew = zone.trackSkew;
    this.cylinderSkew = zone.cylinderSkew;
    this.offset = zone.offset;
    this.empty = zone.empty;
    this.slips = Float64Array.from(zone.slips);
    this.defects = Float64Array.from([...zone.defects].sort((a, b) => a[0] - b[0]).flat());
    this.rangeCylinders = rangeCylinders;
    const cylinders = zone.last - zone.first + 1;
    let spares = 0;
    if (sparing === "disk") spares = zone.slips.length;
    if (sparing === "zone") spares = zone.spares;
    if (sparing === "range") spares = zone.spares * Math.floor(cylinders / rangeCylinders);
    this.endSector = firstSector + cylinders * this.sectorsPerCylinder - zone.empty - spares;
    this.blocksPerRange = sparing === "range" ? rangeCylinders * this.sectorsPerCylinder - zone.spares : 0;
  }

  /** Each slip at or below the place, counting the slips before it, moves it by one; in the drive's own order. */
  slip(place: number): number {
    const { slips } = this;
    let moved = place;
    for (let i = 0; i < slips.length; i++) if (slips[i] <= moved) moved++;
    return moved;
  }

  slipInRange(place: number, range: number): number {
    const { slips } = this;
    const size = this.rangeCylinders * this.sectorsPerCylinder;
    const start = range * size;
    let moved = place;
    for (let i = 0; i < slips.length; i++) {
      const slip = slips[i] - start;
      if (slip >= 0 && slip < size && slip <= moved) moved++;
    }
    return moved;
  }

  /** Sectors from `place` to the next remapped one; 0 when it is one itself. */
  untilDefect(place: number): number {
    const { defects } = this;
    for (let i = 0; i < defects.length; i += 2) if (defects[i] >= place) return defects[i] - place;
    return Number.POSITIVE_INFINITY;
  }

  replacementOf(place: number): number {
    const { defects } = this;
    for (let i = 0; i < defects.length; i += 2) if (defects[i] === place) return defects[i + 1];
    return place;
  }
}

/** The geometry of each actuator of a drive of this size. */
export function createGeometry(parameters: HddParameters, sizeBytes: number): Geometry {
  const { layout, actuators } = parameters;
  const heads = parameters.heads / actuators;
  const sectors = Math.ceil(sizeBytes / sectorBytes / actuators);
  const geometry = new Geometry(layout.zones ?? deriveZones(parameters, heads, sectors), heads, layout);
  if (geometry.capacitySectors < sectors) {
    const capacityBytes = geometry.capacitySectors * sectorBytes * actuators;
    throw new BlkError(
      "BLK_E_SIZE",
      `size ${sizeBytes} is more than the ${capacityBytes} bytes that layout.zones holds`,
      "Choose a smaller --size, or add zones",
    );
  }
  return geometry;
}

/**
 * A zone table for the sustained rates of a data sheet: zones of equal width, rates falling evenly with the radius,
 * skews that just cover a head switch and a one-cylinder seek, writes included.
 *
 * The number of cylinders follows from the size, so a small device is a small drive with full-stroke seeks as slow as
 * the big one's, rather than the outer edge of it.
 */
export function deriveZones(parameters: HddParameters, heads: number, sectors: number): ZoneParameters[] {
  const { layout, rpm, headSwitch, seek } = parameters;
  const revolutionNs = 60e9 / rpm;
  const nextCylinderNs = seek.curve === "lee" || seek.curve === "linear" ? seek.minimum : headSwitch;
  const trackSkew = ((headSwitch + seek.writeSettle) / revolutionNs) % 1;
  const cylinderSkew = (Math.max(headSwitch, nextCylinderNs) + seek.writeSettle) / revolutionNs;
  // A cylinder of H tracks takes H revolutions and its switches; the published rate has both in it.
  const revolutionsPerTrack = (heads + (heads - 1) * trackSkew + cylinderSkew) / heads;
  const sectorsAt = (bytesPerSecond: number) =>
    Math.max(8, Math.round((bytesPerSecond / sectorBytes) * (revolutionNs / 1e9) * revolutionsPerTrack));
  const outer = sectorsAt(layout.outerRate!);
  const inner = sectorsAt(layout.innerRate!);

  const cylinders = Math.max(1, Math.ceil(sectors / (heads * ((outer + inner) / 2))));
  const zoneCount = Math.min(layout.zoneCount, cylinders);
  const zones: ZoneParameters[] = [];
  let first = 0;
  let held = 0;
  for (let i = 0; i < zoneCount; i++) {
    const fraction = zoneCount === 1 ? 0 : i / (zoneCount - 1);
    const sectorsPerTrack = Math.round(outer + (inner - outer) * fraction);
    let last = Math.floor(((i + 1) * cylinders) / zoneCount) - 1;
    // Rounding may leave the zones a little short of the size: the innermost one makes up for it.
    if (i === zoneCount - 1)
      last = Math.max(last, first + Math.ceil((sectors - held) / (heads * sectorsPerTrack)) - 1);
    held += (last - first + 1) * heads * sectorsPerTrack;
    zones.push({
      first,
      last,
      sectorsPerTrack,
      trackSkew: Math.ceil(trackSkew * sectorsPerTrack),
      cylinderSkew: Math.ceil(cylinderSkew * sectorsPerTrack),
      offset: 0,
      empty: 0,
      spares: 0,
      slips: [],
      defects: [],
    });
    first = last + 1;
  }
  return zones;
}
