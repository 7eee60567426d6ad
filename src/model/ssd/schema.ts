/**
 * Keys of a solid-state drive in a profile: flash, translation layer, buffer and controller, in the words of data
 * sheets and of the simulators (MQSim's ssdconfig.xml, NVMeVirt's ssd_config.h, FEMU's ftl.h).
 *
 * Durations and sizes become nanoseconds and bytes, rates bytes per second. Defaults describe a plain NVMe drive with
 * TLC flash. Contradictions between keys are refused with the path of the key at fault.
 */
import * as z from "zod";
import { byteRate, byteSize, duration } from "../../base/schema.js";
import { arbitrationSchema, coalescingSchema, linkSchema, thermalSchema } from "./controller/schema.js";

const count = z.int().nonnegative();
const ratio = z.number().min(0).max(1);
const positiveDuration = duration.refine((ns) => ns > 0, { error: "must be longer than 0" });

/** Bits, hence logical pages, in a cell. */
export const cellBits = { slc: 1, mlc: 2, tlc: 3, qlc: 4 } as const;

const suspendSchema = z
  .strictObject({
    program: count.max(255).describe("Times one program may be suspended for reads; 0 for never").default(0),
    erase: count.max(255).describe("Times one erase may be suspended for reads; 0 for never").default(0),
    time: duration.describe("From the decision to suspend until the die can read").default(20_000),
    resume: duration.describe("Added when the suspended operation goes on").default(20_000),
  })
  .describe("Program and erase suspend: reads need not wait for an operation of milliseconds");

const slcModeSchema = z
  .strictObject({
    read: positiveDuration.describe("Sensing a page written in SLC mode").default(30_000),
    program: positiveDuration.describe("Programming one page per plane in SLC mode").default(200_000),
  })
  .describe("Times of blocks used with one bit per cell, for an SLC cache");

const flashSchema = z
  .strictObject({
    channels: z.int().min(1).max(64).describe("Channels between controller and flash").default(8),
    diesPerChannel: z.int().min(1).max(64).describe("Dies that share a channel").default(4),
    planes: z.int().min(1).max(8).describe("Planes of a die, programmed and erased together").default(2),
    pagesPerBlock: z
      .int()
      .min(1)
      .max(65_536)
      .describe("Pages of a block, of all types; fewer are used on a device too small for whole blocks")
      .default(768),
    pageSize: byteSize.describe("Bytes of a flash page; a multiple of 4K").default(16_384),
    cell: z.enum(["slc", "mlc", "tlc", "qlc"]).describe("Bits per cell: 1, 2, 3 or 4").default("tlc"),
    read: z
      .union([positiveDuration, z.array(positiveDuration).min(1).max(4)])
      .describe("Sensing a page (tR): one time, or one for each page type from LSB on")
      .prefault(["56us", "77us", "106us"]),
    program: positiveDuration
      .describe("One-shot program of all page types of a wordline, on all planes at once")
      .default(1_500_000),
    erase: positiveDuration.describe("Erasing a block on all planes at once").default(5_000_000),
    channelRate: byteRate.describe("Data rate of a channel").prefault("1200MB/s"),
    command: duration.describe("Command and address cycles of each channel transfer").default(0),
    dieWatts: z
      .number()
      .nonnegative()
      .describe("Power of a die at work, beside what the drive draws at rest; for thermal")
      .default(0.05),
    independentPlanes: z
      .boolean()
      .describe("Whether each plane can read on its own while the others do")
      .default(false),
    cacheRead: z
      .boolean()
      .describe("Whether a die senses its next page while the last is still being transferred")
      .default(true),
    maximumReadsAhead: z
      .int()
      .min(1)
      .max(65_535)
      .describe("Reads that may overtake one waiting program or erase of their die")
      .default(64),
    suspend: suspendSchema.prefault({}),
    slcMode: slcModeSchema.prefault({}),
  })
  .describe("The flash array");

const ftlSchema = z
  .strictObject({
    overProvisioning: z
      .number()
      .positive()
      .max(10)
      .describe("Flash beyond the capacity: 0.07 means 107 % of it is there")
      .default(0.07),
    streams: z
      .enum(["one", "separate", "lifetime"])
      .describe(
        "Write frontiers: one for all; host and collection apart; or host data also apart by how long their predecessor lived (SepBIT)",
      )
      .default("separate"),
  })
  .describe("Flash translation layer: page mapping in units of 4K");

const gcSchema = z
  .strictObject({
    policy: z
      .enum(["greedy", "cost-benefit", "d-choices", "fifo"])
      .describe(
        "Which block is collected: least valid, best ratio of gain and age to cost, least valid of some drawn, or oldest",
      )
      .default("greedy"),
    choices: z.int().min(1).max(1024).describe("Blocks drawn by d-choices").default(10),
    background: z
      .int()
      .min(2)
      .max(65_536)
      .describe("Free superblocks below which collection runs beside the host")
      .default(6),
    forced: z
      .int()
      .min(1)
      .max(65_536)
      .describe("Free superblocks below which collection is no longer paced; with one left, writes wait")
      .default(2),
    pacing: z
      .union([z.literal("auto"), z.number().nonnegative()])
      .describe(
        "Pages copied per page the host writes, above forced; auto keeps free space level, 0 is unpaced",
      )
      .default("auto"),
    idleAfter: duration.describe("Idle time after which collection runs ahead; 0 for never").default(0),
    idleTarget: count.describe("Free superblocks up to which idle time is used").default(12),
    blocking: z
      .enum(["none", "plane", "die", "channel"])
      .describe(
        "What collection keeps host reads away from (TTFLASH, FAST'17): a die or channel as long as it has work there; or one plane of a die at a time, until its operation there ends, on dies whose planes are taken to be independent. That takes it as many turns as there are planes",
      )
      .default("none"),
  })
  .describe("Garbage collection");

const writeBufferSchema = z
  .strictObject({
    size: byteSize
      .describe("Data of the host the controller holds until they are programmed")
      .default(2 ** 23),
    powerLossProtection: z
      .boolean()
      .describe("Whether the buffer survives a power cut: then FLUSH and FUA cost nothing")
      .default(false),
    acknowledge: z
      .enum(["early", "late"])
      .describe("A write is complete when it is in the buffer, or when it is programmed")
      .default("early"),
    atomicUnit: byteSize
      .describe(
        "Bytes that a power cut leaves all written or not at all (AWUPF); reported, for whoever cuts power: the model itself does not",
      )
      .default(4096),
    flush: duration.describe("Added to a FLUSH or FUA write that must drain the buffer").default(0),
  })
  .describe("Write buffer");

const firmwareSchema = z
  .strictObject({
    read: duration.describe("Controller time of a read, passed in parallel with others").default(8_000),
    write: duration.describe("Controller time of a write").default(8_000),
    flush: duration.describe("Controller time of a flush").default(5_000),
    trim: duration.describe("Controller time of a trim or write-zeroes").default(20_000),
    command: z
      .union([duration, z.strictObject({ read: duration, write: duration })])
      .transform((given) => (typeof given === "number" ? { read: given, write: given } : given))
      .describe("Time a command takes of the controller alone, one after the other: 1/IOPS at best")
      .prefault("1us"),
    throughput: z
      .strictObject({ read: byteRate, write: byteRate })
      .describe(
        "Data the controller moves at most (its memory, ECC), where that is less than link and channels",
      )
      .optional(),
  })
  .describe("What the controller spends on a command");

const queueSchema = z
  .strictObject({
    depth: z.int().min(1).max(65_536).describe("Commands in work at once (NCQ: 32)").default(1024),
    flushQueued: z
      .boolean()
      .describe("Whether FLUSH queues with other commands; on SATA it waits for them, and they for it")
      .default(true),
    maximumTransfer: byteSize
      .describe("Largest command (MDTS); larger requests count as several, as the host splits them")
      .default(2 ** 20),
    arbitration: arbitrationSchema.prefault({}),
    coalescing: coalescingSchema.prefault({}),
  })
  .describe("Commands in the drive, and how they get there and back");

const slcCacheSchema = z
  .strictObject({
    static: byteSize.describe("SLC cache that is always there").default(0),
    dynamic: byteSize.describe("SLC cache beside it, as far as free flash allows").default(0),
    full: z
      .enum(["direct", "fold"])
      .describe("When it is full, writes go past it, or wait until some of it is folded into dense cells")
      .default("direct"),
    foldAfter: duration.describe("Idle time after which it is folded; 0 for never").default(1_000_000_000),
  })
  .describe("SLC cache: flash used with one bit per cell that takes writes first");

const mapCacheSchema = z
  .strictObject({
    size: byteSize
      .describe(
        "Mapping the controller can hold, 4 bytes for each 4K; the rest is read from flash when needed",
      )
      .default(32 * 2 ** 20),
    hit: duration
      .describe(
        "Time to look up what it holds: next to nothing in its own memory, about 1us in the host's (HMB)",
      )
      .default(0),
  })
  .describe("Mapping cache of drives without memory for the whole mapping; left out for drives that have it");

const wearSchema = z
  .strictObject({
    cycles: count.describe("Program/erase cycles behind every block at power-on").default(0),
    rated: z.int().positive().describe("Cycles the flash is rated for; 100 % used").default(3000),
    levelling: count
      .describe(
        "Difference of cycles from which long-lived data are moved off little-worn blocks; 0 for never",
      )
      .default(100),
    programFailure: ratio.describe("Probability that a program fails: its block goes bad").default(0),
    eraseFailure: ratio
      .describe("Probability that an erase of a die's share fails: its block goes bad")
      .default(0),
    spares: count
      .describe("Spare blocks that take the place of bad ones; then superblocks are lost")
      .default(256),
  })
  .describe("Wear, wear levelling and bad blocks");

const retrySchema = z
  .strictObject({
    rate: ratio
      .describe("Probability that a read of the host needs another try, and each try one more")
      .default(0),
    cyclesPerStep: count
      .describe("Program/erase cycles after which every read needs one more step; 0 for never")
      .default(0),
    maximum: z.int().min(0).max(64).describe("Steps a read takes at most").default(4),
    time: duration.describe("Time of a step").default(60_000),
  })
  .describe("Read retry: sensing again with other thresholds, more often the more the flash is worn");

const powerSchema = z
  .array(
    z.strictObject({
      after: positiveDuration.describe("Idle time after which the drive enters the state"),
      recovery: positiveDuration.describe("Exit latency"),
    }),
  )
  .max(8)
  .describe("Power states entered when idle (APST), from light to deep; none by default")
  .default([]);

const directSchema = z
  .strictObject({
    units: z.int().min(1).max(1024).describe("Accesses that can go on at once"),
    unitSize: byteSize.describe("Bytes next to each other in one unit").default(4096),
    read: positiveDuration.describe("Reading up to unitSize"),
    write: positiveDuration.describe("Writing up to unitSize"),
    delay: z
      .strictObject({
        rate: ratio.describe("Probability that an access is delayed"),
        mean: positiveDuration.describe("Mean of the delay, which is exponential"),
      })
      .optional(),
  })
  .describe("A medium written in place (3D XPoint) instead of flash: parallel units, no translation layer");

const preconditionSchema = z
  .strictObject({
    state: z
      .enum(["fresh", "sequential", "random"])
      .describe("Never written; filled in order; or overwritten at random until nothing changes any more")
      .default("fresh"),
    fill: ratio.describe("Share of the capacity that holds data").default(1),
  })
  .describe("State the drive is in at power-on, computed, not written");

/** The model's own keys, for merging with the keys common to all profiles. */
export const ssdShape = {
  flash: flashSchema.prefault({}),
  ftl: ftlSchema.prefault({}),
  gc: gcSchema.prefault({}),
  writeBuffer: writeBufferSchema.prefault({}),
  firmware: firmwareSchema.prefault({}),
  queue: queueSchema.prefault({}),
  link: linkSchema.prefault({ kind: "pcie" }),
  slcCache: slcCacheSchema.prefault({}),
  mapCache: mapCacheSchema.optional(),
  wear: wearSchema.prefault({}),
  retry: retrySchema.prefault({}),
  power: powerSchema,
  thermal: thermalSchema.optional(),
  direct: directSchema.optional(),
  precondition: preconditionSchema.prefault({}),
};

const ssdObject = z.strictObject(ssdShape);

export type SsdParameters = z.output<typeof ssdObject>;

/** A solid-state drive's parameters, every contradiction refused at its path. */
export const ssdSchema = ssdObject.superRefine(({ flash, gc, power }, context) => {
  const refuse = (path: (string | number)[], message: string) =>
    context.addIssue({ code: "custom", path, message });
  const bits = cellBits[flash.cell];
  if (flash.pageSize < 4096 || flash.pageSize > 2 ** 17 || flash.pageSize % 4096 !== 0)
    refuse(["flash", "pageSize"], `${flash.pageSize} is not a multiple of 4K up to 128K`);
  if (flash.pagesPerBlock % bits !== 0)
    refuse(
      ["flash", "pagesPerBlock"],
      `${flash.pagesPerBlock} pages are no whole wordlines of ${bits} pages`,
    );
  if (Array.isArray(flash.read) && flash.read.length !== 1 && flash.read.length !== bits)
    refuse(["flash", "read"], `${flash.read.length} times given, but ${flash.cell} has ${bits} page types`);
  power.forEach((state, i) => {
    if (i > 0 && state.after <= power[i - 1].after)
      refuse(["power", i, "after"], "must be later than the state before it");
  });
  if (gc.forced >= gc.background) refuse(["gc", "forced"], "must be below gc.background");
});
