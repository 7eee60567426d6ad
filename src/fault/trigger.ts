/**
 * The trigger: which requests a fault acts on. Every kind of fault takes the same one.
 *
 * A request *matches* when it meets ops, ranges and queue while the fault is armed. Of the matches the first `after`
 * are passed over; from then on the fault *hits* every match, or by one of three alternatives the n-th (`nth`), each
 * n-th (`every`) or some by chance (`probability`), until `times` hits are used up. Counters tell both, since a fault
 * that never fired must not look like a passed test.
 *
 * The decision is made when a request arrives, in the order of arrival, and draws on a stream of the fault's own: same
 * seed and same arrivals, same decisions, whatever other faults are set.
 *
 * The vocabulary is gathered from those who proved it useful: nth from the kernel's fail-nth, every from scsi_debug's
 * every_nth, times from fault_attr, probability in nbdkit's three spellings, armed from dm-dust.
 */
import * as z from "zod";
import type { Random } from "../base/random.js";
import { Op, type Operation, operations, type RequestSlot, type RequestTable } from "../base/request.js";
import { parseSize } from "../base/units.js";
import { oneOf, size, strictFields, wholeNumber } from "./schema.js";

/** Ranges are searched one after the other for every request: a bound on that. */
const maximumRanges = 64;

const probability = z
  .union([z.number(), z.string()], { error: 'must be 0 to 1, or a share such as "10%" or "1:10"' })
  .refine((value) => !Number.isNaN(parseProbability(value)), {
    error: 'must be 0 to 1, or a share such as "10%" or "1:10"',
    abort: true,
  });

const fields = {
  ops: z
    .array(oneOf(operations), { error: "must be a list of operations" })
    .min(1, { error: "must name at least one operation" })
    .optional(),
  ranges: z
    .array(strictFields({ offset: size(), length: size(1) }), { error: "must be a list of {offset, length}" })
    .min(1, { error: "must hold at least one range" })
    .max(maximumRanges, { error: `must hold at most ${maximumRanges} ranges` })
    .optional(),
  queue: wholeNumber(0, 65535).optional(),
  probability: probability.optional(),
  nth: wholeNumber(1).optional(),
  every: wholeNumber(1).optional(),
  after: wholeNumber(0).default(0),
  times: wholeNumber(1).optional(),
  seed: wholeNumber(0).optional(),
  armed: z.boolean({ error: "must be true or false" }).default(true),
};

export const triggerSchema = strictFields(fields).superRefine((trigger, context) => {
  const chosen = (["probability", "nth", "every"] as const).filter((field) => trigger[field] !== undefined);
  if (chosen.length > 1) {
    context.addIssue({ code: "custom", message: `takes one of ${chosen.join(" and ")}, not both` });
  }
  if (trigger.ranges !== undefined && trigger.ops?.every((op) => op === "flush")) {
    context.addIssue({
      code: "custom",
      message: "can never match: a flush has no range. Drop ranges, or add other ops",
    });
  }
});

/** A trigger as it is written. */
export type TriggerInput = z.input<typeof triggerSchema>;

/** A trigger with its defaults filled in. */
export type TriggerSpec = z.output<typeof triggerSchema>;

/** A request a fault acted on. */
export interface FaultHit {
  timeNs: number;
  op: Operation;
  offsetBytes: number;
  lengthBytes: number;
  queue: number;
}

export class Trigger {
  isArmed: boolean;
  /** Requests that met ops, ranges and queue while armed. */
  matched = 0;
  /** Requests the fault acted on. */
  hits = 0;
  /** Bytes of the requests the fault acted on. */
  affectedBytes = 0;

  private readonly opMask: number;
  private readonly queue: number;
  private readonly rangeStarts: Float64Array;
  private readonly rangeEnds: Float64Array;
  private readonly after: number;
  private readonly times: number;
  private readonly nth: number;
  private readonly every: number;
  private readonly probability: number;
  private readonly first = new HitCells();
  private readonly last = new HitCells();

  /** @param kindOps the operations a trigger means that names none. @param random stream for `probability`. */
  constructor(
    readonly spec: TriggerSpec,
    kindOps: readonly Operation[],
    private readonly random: Random,
  ) {
    this.isArmed = spec.armed;
    const ranges = spec.ranges ?? [];
    this.rangeStarts = Float64Array.from(ranges, (range) => rangeBounds(range).startBytes);
    this.rangeEnds = Float64Array.from(ranges, (range) => rangeBounds(range).endBytes);
    let mask = 0;
    for (const op of spec.ops ?? kindOps) mask |= 1 << Op[op];
    // A flush covers no bytes, so no range can mean it.
    if (ranges.length > 0) mask &= ~(1 << Op.flush);
    this.opMask = mask;
    this.queue = spec.queue ?? -1;
    this.after = spec.after;
    this.times = spec.times ?? Number.POSITIVE_INFINITY;
    this.nth = spec.nth ?? 0;
    this.every = spec.every ?? 1;
    this.probability = spec.probability === undefined ? 1 : parseProbability(spec.probability);
  }

  /** Whether nothing can be hit any more. */
  get isSpent(): boolean {
    return this.hits >= this.times || (this.nth > 0 && this.matched - this.after >= this.nth);
  }

  /** Whether a request may yet be hit. */
  get isLive(): boolean {
    return this.isArmed && !this.isSpent;
  }

  /** Operations that may be hit at this byte, as a mask of their codes. */
  opMaskAt(offsetBytes: number): number {
    const isWithin = this.rangeStarts.length === 0 || this.overlapsRange(offsetBytes, 1);
    return isWithin ? this.opMask : 0;
  }

  /** The next byte after `offsetBytes` at which a range begins or ends. */
  nextBoundary(offsetBytes: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.rangeStarts.length; i++) {
      if (this.rangeStarts[i] > offsetBytes) next = Math.min(next, this.rangeStarts[i]);
      if (this.rangeEnds[i] > offsetBytes) next = Math.min(next, this.rangeEnds[i]);
    }
    return next;
  }

  /** The first byte of the request that lies in a range; -1 when the trigger names no ranges. */
  firstRangeByte(requests: RequestTable, slot: RequestSlot): number {
    const offsetBytes = requests.offsetBytes[slot];
    const endBytes = offsetBytes + requests.lengthBytes[slot];
    let first = -1;
    for (let i = 0; i < this.rangeStarts.length; i++) {
      if (offsetBytes >= this.rangeEnds[i] || endBytes <= this.rangeStarts[i]) continue;
      const byte = Math.max(offsetBytes, this.rangeStarts[i]);
      if (first < 0 || byte < first) first = byte;
    }
    return first;
  }

  /** Whether the fault acts on this request, which arrives at `nowNs`. Counts. */
  fires(requests: RequestTable, slot: RequestSlot, nowNs: number): boolean {
    if (!this.isArmed) return false;
    if (((this.opMask >> requests.op[slot]) & 1) === 0) return false;
    if (this.queue >= 0 && requests.queue[slot] !== this.queue) return false;
    if (
      this.rangeStarts.length > 0 &&
      !this.overlapsRange(requests.offsetBytes[slot], requests.lengthBytes[slot])
    ) {
      return false;
    }
    const match = ++this.matched - this.after;
    if (match <= 0 || this.hits >= this.times) return false;
    if (this.nth > 0 ? match !== this.nth : match % this.every !== 0) return false;
    if (this.probability < 1 && this.random.next() >= this.probability) return false;
    if (this.hits++ === 0) this.first.note(requests, slot, nowNs);
    this.last.note(requests, slot, nowNs);
    this.affectedBytes += requests.lengthBytes[slot];
    return true;
  }

  firstHit(): FaultHit | null {
    return this.hits === 0 ? null : this.first.read();
  }

  lastHit(): FaultHit | null {
    return this.hits === 0 ? null : this.last.read();
  }

  private overlapsRange(offsetBytes: number, lengthBytes: number): boolean {
    const endBytes = offsetBytes + lengthBytes;
    for (let i = 0; i < this.rangeStarts.length; i++) {
      if (offsetBytes < this.rangeEnds[i] && endBytes > this.rangeStarts[i]) return true;
    }
    return false;
  }
}

/** Memory for one hit, written in place: a store into a typed array never allocates. */
class HitCells {
  private readonly cells = new Float64Array(5);

  note(requests: RequestTable, slot: RequestSlot, nowNs: number): void {
    this.cells[0] = nowNs;
    this.cells[1] = requests.op[slot];
    this.cells[2] = requests.offsetBytes[slot];
    this.cells[3] = requests.lengthBytes[slot];
    this.cells[4] = requests.queue[slot];
  }

  read(): FaultHit {
    const [timeNs, op, offsetBytes, lengthBytes, queue] = this.cells;
    return { timeNs, op: operations[op], offsetBytes, lengthBytes, queue };
  }
}

/** First byte of a range and the first byte after it. */
export function rangeBounds(range: { offset: number | string; length: number | string }): {
  startBytes: number;
  endBytes: number;
} {
  const startBytes = bytesOf(range.offset);
  return { startBytes, endBytes: startBytes + bytesOf(range.length) };
}

function bytesOf(size: number | string): number {
  return typeof size === "number" ? size : parseSize(size);
}

/** 0.1, "0.1", "10%" and "1:10" are the same; NaN for anything that is not a share. */
export function parseProbability(value: number | string): number {
  const share = typeof value === "number" ? value : parseShare(value);
  return share >= 0 && share <= 1 ? share : Number.NaN;
}

function parseShare(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(?:(%)|:(\d+(?:\.\d+)?))?$/.exec(text);
  if (match === null) return Number.NaN;
  if (match[2] !== undefined) return Number(match[1]) / 100;
  return Number(match[1]) / Number(match[3] ?? 1);
}
