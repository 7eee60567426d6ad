/**
 * Keys of an NVMe controller, or of the SATA one where it has the same parts: queues and their arbitration, interrupt
 * coalescing, the link to the host, heat.
 *
 * Fields that hosts set by features (01h, 08h, 10h) are encoded here as there, so that what `nvme get-feature` prints
 * can be copied.
 */
import * as z from "zod";
import { duration } from "../../../base/schema.js";

const zeroBased = z.int().min(0).max(255);

export const arbitrationSchema = z
  .strictObject({
    queues: z
      .int()
      .min(1)
      .max(1024)
      .describe("Submission queues of the device; a host with more hardware queues shares them")
      .default(64),
    mechanism: z
      .enum(["round-robin", "weighted"])
      .describe(
        "round-robin: all queues alike, as Linux has it; weighted: by class, urgent before all others",
      )
      .default("round-robin"),
    burst: z
      .int()
      .min(0)
      .max(7)
      .describe("Commands of one queue in a row: 2 to this power, 7 for no limit (feature 01h, AB)")
      .default(0),
    weights: z
      .strictObject({
        high: zeroBased.describe("Commands of class high per round, less one (feature 01h, HPW)").default(0),
        medium: zeroBased.describe("Of class medium (MPW)").default(0),
        low: zeroBased.describe("Of class low (LPW)").default(0),
      })
      .prefault({}),
    classes: z
      .array(z.enum(["urgent", "high", "medium", "low"]))
      .max(1024)
      .describe("Class of each queue from queue 0 on, with weighted; medium for those not listed")
      .default([]),
  })
  .describe("Submission queues and how the controller takes turns among them");

export type ArbitrationParameters = z.output<typeof arbitrationSchema>;

export const coalescingSchema = z
  .strictObject({
    threshold: zeroBased
      .describe("Completions that fire an interrupt, less one (feature 08h, THR)")
      .default(0),
    time: zeroBased
      .describe(
        "Longest wait of a completion, in units of 100 us; 0 turns coalescing off (feature 08h, TIME)",
      )
      .default(0),
  })
  .describe("Interrupt coalescing");

export type CoalescingParameters = z.output<typeof coalescingSchema>;

const chunk = {
  chunkSize: z
    .int()
    .min(512)
    .max(2 ** 20)
    .describe("Bytes that move at once: transfers of several commands take turns in such pieces")
    .default(4096),
  latency: duration
    .describe("From the end of a transfer until the other side has noticed: doorbells, DMA set-up, interrupt")
    .default(0),
};

export const linkSchema = z
  .discriminatedUnion("kind", [
    z.strictObject({
      kind: z.literal("pcie").describe("PCI Express: each direction has its own wires"),
      generation: z.int().min(1).max(5).describe("1 to 5: 2.5, 5, 8, 16 or 32 GT/s").default(3),
      lanes: z
        .union([z.literal(1), z.literal(2), z.literal(4), z.literal(8), z.literal(16)])
        .describe("Width")
        .default(4),
      maxPayload: z
        .union([z.literal(128), z.literal(256), z.literal(512)])
        .describe("Data bytes of a packet (Max_Payload_Size); hosts set 128 or 256")
        .default(256),
      ...chunk,
    }),
    z.strictObject({
      kind: z.literal("sata").describe("Serial ATA: one frame at a time, in either direction"),
      gigabits: z
        .union([z.literal(1.5), z.literal(3), z.literal(6)])
        .describe("Line rate, Gb/s")
        .default(6),
      ...chunk,
    }),
  ])
  .describe("Link to the host");

export type LinkParameters = z.output<typeof linkSchema>;

const celsius = z.number().min(-40).max(200);
const fraction = z.number().gt(0).max(1);

const thermalObject = z.strictObject({
  ambient: celsius.describe("Temperature of the air around the device, degrees Celsius").default(30),
  resistance: z.number().positive().describe("Warming per watt when settled, K/W").default(8),
  timeConstant: duration
    .refine((ns) => ns > 0, { error: "must be longer than 0" })
    .describe("Time in which the distance to the settled temperature shrinks to 37 %")
    .default(120_000_000_000),
  idlePower: z.number().nonnegative().describe("Watts at rest").default(1),
  light: z
    .strictObject({
      at: celsius
        .describe("Temperature of light throttling, degrees Celsius (feature 10h, TMT1)")
        .default(80),
      speed: fraction.describe("Share of dies that stay active").default(0.6),
    })
    .prefault({}),
  heavy: z
    .strictObject({
      at: celsius.describe("Temperature of heavy throttling (TMT2)").default(85),
      speed: fraction.describe("Share of dies that stay active").default(0.2),
    })
    .prefault({}),
  hysteresis: z
    .number()
    .positive()
    .max(50)
    .describe("How far it must cool below a threshold before that throttling ends, K")
    .default(3),
  warning: celsius.describe("From here the health log counts warning time (WCTEMP)").default(82),
  critical: celsius.describe("From here it counts critical time (CCTEMP)").default(90),
});

/** Heat and throttling, contradictions refused. */
export const thermalSchema = thermalObject
  .superRefine(({ light, heavy, hysteresis, warning, critical, ambient, idlePower, resistance }, context) => {
    const refuse = (path: string[], message: string) => context.addIssue({ code: "custom", path, message });
    if (heavy.at <= light.at) refuse(["heavy", "at"], `must be above light throttling, ${light.at} degrees`);
    if (heavy.speed > light.speed)
      refuse(["heavy", "speed"], "must not be above the speed of light throttling");
    const restingAt = ambient + idlePower * resistance;
    if (light.at - hysteresis <= restingAt)
      refuse(["hysteresis"], `throttling would never end: at rest it settles at ${restingAt} degrees`);
    if (critical < warning)
      refuse(["critical"], `must not be below the warning temperature, ${warning} degrees`);
  })
  .describe("Warming and thermal throttling: a body with one thermal resistance and one capacity");

export type ThermalParameters = z.output<typeof thermalSchema>;
