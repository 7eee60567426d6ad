/**
 * Keys of a hard disk in a profile: what data sheets, manuals and extraction tools publish, in their own words.
 *
 * Durations and sizes become nanoseconds and bytes, rates bytes per second. Contradictions between keys are refused
 * with the path of the key at fault. The terms are those of DiskSim 4 (diskmodel/doc/dm_param.tex and
 * src/modules/disk.modspec), spelled out; defaults describe a plain modern drive.
 */
import * as z from "zod";
import { byteSize, duration, byteRate as rate } from "../../base/schema.js";

const count = z.int().nonnegative();
const ratio = z.number().min(0).max(1);

const positiveDuration = duration.refine((ns) => ns > 0, { error: "must be longer than 0" });

const writeSettle = duration
  .describe("Added to every seek and head switch of a write: the head must be steadier to write than to read")
  .default(0);

const threePoints = {
  minimum: positiveDuration.describe("Seek to the next cylinder (track to track), for reads"),
  average: positiveDuration.describe("Average seek of the data sheet: mean over random pairs of cylinders"),
  maximum: positiveDuration.describe("Full stroke, from the outermost to the innermost cylinder"),
  writeSettle,
};

const hplCoefficients = z
  .tuple([z.number(), z.number(), z.number(), z.number(), z.number(), z.number()])
  .describe(
    "HPL coefficients V1..V6, V1 in cylinders, the others in ms: V2+V3*sqrt(d) below V1, V4+V5*d from V1, V6 for d=1 (-1: no such exception)",
  );

const seekSchema = z
  .discriminatedUnion("curve", [
    z.strictObject({
      curve: z.literal("lee").describe("Lee's curve through the three data-sheet values"),
      ...threePoints,
    }),
    z.strictObject({
      curve: z.literal("linear").describe("Straight lines through the three values"),
      ...threePoints,
    }),
    z.strictObject({
      curve: z.literal("constant").describe("The same time for every distance"),
      average: positiveDuration,
      writeSettle,
    }),
    z.strictObject({
      curve: z.literal("hpl").describe("Ruemmler and Wilkes' two-part curve (1994)"),
      coefficients: hplCoefficients,
      writeSettle,
    }),
    z.strictObject({
      curve: z.literal("hplplus10").describe("HPL, with the first ten distances as measured"),
      coefficients: hplCoefficients,
      first: z.array(positiveDuration).length(10).describe("Measured seeks over 1 to 10 cylinders"),
      writeSettle,
    }),
    z.strictObject({
      curve: z.literal("extracted").describe("A measured curve, linear between its points"),
      points: z
        .array(z.tuple([z.int().positive(), positiveDuration]))
        .min(1)
        .describe("Pairs of distance in cylinders and time; measured curves need not rise everywhere"),
      writeSettle,
    }),
  ])
  .describe("Time to move the arm, by distance");

const zoneSchema = z.strictObject({
  first: count.describe("First cylinder"),
  last: count.describe("Last cylinder, inclusive"),
  sectorsPerTrack: z.int().positive().describe("Physical sectors of 512 bytes on each track"),
  trackSkew: z
    .number()
    .nonnegative()
    .describe("Sectors by which each next track of a cylinder is turned")
    .default(0),
  cylinderSkew: z.number().nonnegative().describe("Sectors by which each next cylinder is turned").default(0),
  offset: z.number().nonnegative().describe("Angle of the zone's first sector, in sectors").default(0),
  empty: count.describe("Sectors at the zone's front that hold no data of the host").default(0),
  spares: count.describe("Spare sectors in the zone, or in each range with sparing: range").default(0),
  slips: z
    .array(count)
    .describe(
      "Defective sectors, counted from the zone's start, that the mapping skips; in the drive's own order",
    )
    .default([]),
  defects: z
    .array(z.tuple([count, count]))
    .describe("Remapped sectors: pairs of original and replacement, counted from the zone's start")
    .default([]),
});

const layoutSchema = z
  .strictObject({
    outerRate: rate.describe("Sustained rate of the outermost zone; zones are then derived").optional(),
    innerRate: rate.describe("Sustained rate of the innermost zone").optional(),
    zoneCount: z.int().min(1).max(64).describe("Zones to derive between the two rates").default(20),
    zones: z
      .array(zoneSchema)
      .min(1)
      .max(256)
      .describe("The zone table of a real drive, outermost first")
      .optional(),
    mapping: z
      .enum(["cylinder", "serpentine"])
      .describe("cylinder: every cylinder from head 0; serpentine: heads up and down in turn")
      .default("cylinder"),
    sparing: z
      .enum(["none", "disk", "range", "zone"])
      .describe(
        "Where spare sectors lie: at the end of the disk, of each range of cylinders, or of each zone",
      )
      .default("none"),
    rangeCylinders: z.int().positive().describe("Cylinders in a range, with sparing: range").default(1),
  })
  .describe("Where blocks lie: derived from two rates, or a real drive's zone table");

const overheadOf = (what: string) =>
  z
    .union([duration, z.strictObject({ afterRead: duration, afterWrite: duration })])
    .transform((given) => (typeof given === "number" ? { afterRead: given, afterWrite: given } : given))
    .describe(
      `Controller time of ${what}; one duration, or afterRead and afterWrite by the previous command`,
    );

const overheadSchema = z
  .strictObject({
    readHit: overheadOf("a read served from the cache").prefault("100us"),
    readMiss: overheadOf("a read that needs the media").prefault("100us"),
    writeHit: overheadOf("a write that continues cached data").prefault("100us"),
    writeMiss: overheadOf("any other write").prefault("100us"),
    other: duration.describe("Controller time of a flush or trim").default(100_000),
    turnaround: duration
      .describe(
        "Firmware time between the end of a command's access and the choice of the next; late commands still take part",
      )
      .default(0),
    flush: duration.describe("Added to a flush that finds dirty data, beside writing it back").default(0),
  })
  .describe("What the controller spends on a command before data move");

const queueSchema = z
  .strictObject({
    depth: z
      .int()
      .min(1)
      .max(4096)
      .describe("Commands the drive takes at once (NCQ: 32); more wait in front of it")
      .default(32),
    policy: z
      .enum(["sptf", "elevator", "fcfs"])
      .describe("Which command goes next: shortest positioning time, the arm's sweep, or order of arrival")
      .default("sptf"),
    ageing: z
      .number()
      .nonnegative()
      .describe("How much one unit of waiting counts against one of positioning; 0 is pure SPTF")
      .default(0),
    maximumWait: duration.describe("A command that has waited this long goes first; 0 for never").default(0),
    flushQueued: z
      .boolean()
      .describe("Whether FLUSH queues with other commands (SAS); on SATA it waits for them, and they for it")
      .default(false),
  })
  .describe("Command queue");

const readAheadSchema = z
  .strictObject({
    mode: z
      .enum(["off", "track", "cylinder", "segment", "next-track"])
      .describe(
        "Read on after a read: to the end of the track, of the cylinder, until the segment is full, or to the end of the next track once a stream is seen",
      )
      .default("segment"),
    trigger: z
      .enum(["always", "sequential"])
      .describe("Read ahead after every read, or only after one that continues what a segment holds")
      .default("always"),
    maximum: byteSize.describe("Most to read ahead; the segment bounds it too").optional(),
    minimum: byteSize.describe("What to read ahead before the next command may move the arm").default(0),
    onIdleHit: z.boolean().describe("Whether a hit sets a finished read-ahead going again").default(true),
    overRequested: z
      .boolean()
      .describe("Whether read-ahead may replace the requested data in the segment")
      .default(true),
  })
  .describe("Read-ahead, which goes on while the drive is idle");

const cacheSchema = z
  .strictObject({
    segments: z.int().min(0).max(256).describe("Read segments; 0 turns the read cache off").default(16),
    segmentSize: byteSize.describe("Bytes in a segment").default(2 ** 20),
    readAhead: readAheadSchema.prefault({}),
    freeBlocks: z
      .boolean()
      .describe("Keep the sectors that pass the head before the wanted ones")
      .default(true),
    zeroLatencyRead: z
      .boolean()
      .describe("Read sectors in the order they pass, not in block order")
      .default(true),
    zeroLatencyWrite: z.boolean().describe("Write sectors in the order they pass").default(true),
    readHitsOnWrites: z.boolean().describe("Whether written data can be read from the cache").default(true),
    write: z
      .strictObject({
        size: byteSize
          .describe("Dirty bytes the cache holds; a write beyond waits for room")
          .default(16 * 2 ** 20),
        extents: z
          .int()
          .min(1)
          .max(2 ** 20)
          .describe("Separate runs of dirty blocks it can track; neighbours merge into one run")
          .default(4096),
        extentSize: byteSize.describe("Largest run neighbouring writes merge into").default(2 ** 20),
      })
      .prefault({}),
  })
  .describe("The drive's buffer. Whether writes are cached at all says the common key writeCache");

const destageSchema = z
  .strictObject({
    order: z
      .enum(["sptf", "elevator", "fifo"])
      .describe("Order of writing back: shortest positioning among neighbours of the arm, one sweep, or age")
      .default("sptf"),
    window: z.int().min(1).max(256).describe("Dirty runs that sptf compares").default(32),
    delay: duration.describe("Idle time before writing back begins").default(50_000_000),
    highWater: ratio
      .describe("Fraction of the write cache from which writing back competes with reads")
      .default(0.5),
  })
  .describe("How cached writes reach the media");

const retriesSchema = z
  .strictObject({
    rate: ratio.describe("Probability that an access to the media needs retries").default(0),
    revolutions: z
      .int()
      .min(1)
      .max(1000)
      .describe("Most revolutions a retry takes, uniform from 1")
      .default(8),
  })
  .describe("Recoverable errors: the sector is read again, a revolution each time");

const powerSchema = z
  .array(
    z.strictObject({
      after: positiveDuration.describe("Idle time after which the drive enters the state"),
      recovery: positiveDuration.describe("Time back to ready: loading the heads, or spinning up"),
    }),
  )
  .max(8)
  .describe("Power states entered when idle, from light to deep (heads unloaded, spun down); none by default")
  .default([]);

const smrSchema = z
  .strictObject({
    cacheSize: byteSize.describe("Persistent cache on the media that takes random writes"),
    mapEntries: z
      .int()
      .min(16)
      .max(2 ** 20)
      .describe("Runs of blocks the cache's map holds: it is full when they are used up, however small"),
    bandSizeOuter: byteSize.describe("Shingled band at the outer diameter"),
    bandSizeInner: byteSize.describe("Shingled band at the inner diameter"),
    cleanAfter: duration.describe("Idle time before cleaning begins").default(1_200_000_000),
    highWater: ratio.describe("Fullness from which bands are cleaned between commands").default(0.98),
    journalEvery: count.describe("Writes to the cache between two saves of its map; 0 for none").default(0),
    journalTime: duration.describe("Time one save takes").default(0),
  })
  .describe("Drive-managed shingled recording");

/** The model's own keys, for merging with the keys common to all profiles. */
export const hddShape = {
  rpm: z.number().min(100).max(100_000).describe("Revolutions per minute"),
  rpmTolerance: ratio.describe("Each drive's speed is drawn once, uniform within this fraction").default(0),
  heads: z.int().min(1).max(64).describe("Data surfaces, of all actuators together"),
  actuators: z
    .union([z.literal(1), z.literal(2)])
    .describe("Arms that move on their own; with 2 each serves one half of the blocks with half the heads")
    .default(1),
  seek: seekSchema,
  headSwitch: duration
    .describe("Time to change to another surface of the cylinder; overlaps with the seek")
    .default(0),
  layout: layoutSchema,
  interface: z
    .strictObject({ rate: rate.describe("Data rate between drive and host").prefault("600MB/s") })
    .prefault({}),
  overhead: overheadSchema.prefault({}),
  queue: queueSchema.prefault({}),
  cache: cacheSchema.prefault({}),
  destage: destageSchema.prefault({}),
  retries: retriesSchema.prefault({}),
  power: powerSchema,
  smr: smrSchema.optional(),
};

const hddObject = z.strictObject(hddShape);

export type HddParameters = z.output<typeof hddObject>;
export type SeekParameters = HddParameters["seek"];
export type LayoutParameters = HddParameters["layout"];
export type ZoneParameters = NonNullable<LayoutParameters["zones"]>[number];

/** A hard disk's parameters, every contradiction refused at its path. */
export const hddSchema = hddObject.superRefine((drive, context) => {
  const refuse = (path: (string | number)[], message: string) =>
    context.addIssue({ code: "custom", path, message });
  refuseSeek(drive.seek, refuse);
  refuseLayout(drive, refuse);
  drive.power.forEach((state, i) => {
    if (i > 0 && state.after <= drive.power[i - 1].after)
      refuse(["power", i, "after"], "must be later than the state before it");
  });
  if (drive.heads % drive.actuators !== 0)
    refuse(["heads"], `${drive.heads} heads cannot be divided between ${drive.actuators} actuators`);
  if (drive.smr !== undefined && drive.actuators !== 1)
    refuse(["smr"], "shingled drives are modelled with one actuator only; set actuators to 1");
  if (drive.cache.write.extentSize > drive.cache.write.size)
    refuse(["cache", "write", "extentSize"], "a run of dirty blocks cannot be larger than the write cache");
});

type Refuse = (path: (string | number)[], message: string) => void;

function refuseSeek(seek: SeekParameters, refuse: Refuse): void {
  if (seek.curve === "lee" || seek.curve === "linear") {
    const { minimum, average, maximum } = seek;
    if (average < minimum)
      refuse(["seek", "average"], `average seek (${ms(average)}) is below minimum (${ms(minimum)})`);
    if (maximum < average)
      refuse(["seek", "maximum"], `maximum seek (${ms(maximum)}) is below average (${ms(average)})`);
  }
  if (seek.curve === "extracted") {
    seek.points.forEach(([distance], i) => {
      if (i > 0 && distance <= seek.points[i - 1][0])
        refuse(
          ["seek", "points", i],
          `distance ${distance} does not follow ${seek.points[i - 1][0]}: distances must rise`,
        );
    });
  }
}

function refuseLayout({ layout, heads, actuators }: HddParameters, refuse: Refuse): void {
  const { zones, outerRate, innerRate } = layout;
  if (zones === undefined) {
    if (outerRate === undefined) refuse(["layout", "outerRate"], "is needed where no zones are listed");
    if (innerRate === undefined) refuse(["layout", "innerRate"], "is needed where no zones are listed");
    if (outerRate !== undefined && innerRate !== undefined && outerRate < innerRate)
      refuse(["layout", "outerRate"], "is below innerRate: outer tracks are longer, hence faster");
    return;
  }
  if (outerRate !== undefined)
    refuse(["layout", "outerRate"], "contradicts the listed zones; give one or the other");
  if (innerRate !== undefined)
    refuse(["layout", "innerRate"], "contradicts the listed zones; give one or the other");
  zones.forEach((zone, i) => {
    const path = ["layout", "zones", i];
    if (zone.last < zone.first) {
      refuse([...path, "last"], `last cylinder ${zone.last} lies before the first, ${zone.first}`);
      return;
    }
    if (i > 0 && zone.first <= zones[i - 1].last)
      refuse(
        [...path, "first"],
        `zone from cylinder ${zone.first} overlaps the zone before it, which ends at cylinder ${zones[i - 1].last}`,
      );
    const sectors = ((zone.last - zone.first + 1) * heads * zone.sectorsPerTrack) / actuators;
    if (zone.empty + zone.spares >= sectors)
      refuse([...path, "spares"], `empty and spare sectors leave nothing of the zone's ${sectors} sectors`);
    for (const [key, sector] of [
      ...zone.slips.map((slip, k) => [["slips", k], slip] as const),
      ...zone.defects.flatMap(([from, to], k) => [
        [["defects", k, 0], from] as const,
        [["defects", k, 1], to] as const,
      ]),
    ]) {
      if (sector >= sectors)
        refuse([...path, ...key], `sector ${sector} lies beyond the zone's ${sectors} sectors`);
    }
  });
}

function ms(ns: number): string {
  return `${ns / 1e6} ms`;
}
