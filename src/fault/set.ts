/**
 * The faults of one device: set, listed and removed while requests flow, and asked about each request as it arrives.
 *
 * Faults act in the order in which they were added. An error ends the chain, so the faults behind it neither see nor
 * count the request; delays add up; a request is held by the first fault that would hold it. With no fault set,
 * judging costs a comparison.
 *
 * The set decides, the device executes. For each request the device takes from the verdict the status, the delay and
 * the holder, and keeps the holder's id with the request: a request with a holder is not completed. When a fault lets
 * go, the set calls `onRelease` with that id, and the device completes what it holds for it (late, if its time has
 * passed) and forgets the holder of what the model still works on. Ids are never used again.
 */
import * as z from "zod";
import { BlkError } from "../base/errors.js";
import type { FaultExtent } from "../base/extent.js";
import { Random } from "../base/random.js";
import type { RequestSlot, RequestTable } from "../base/request.js";
import { Status } from "../base/status.js";
import { formatSize } from "../base/units.js";
import { type BoundFault, type FaultKind, FaultVerdict, noHolder } from "./define.js";
import type { HostView } from "./host-view.js";
import { faultKinds } from "./kinds.js";
import { faultInvalid, oneOf, strictFields, toFaultError } from "./schema.js";
import {
  type FaultHit,
  rangeBounds,
  Trigger,
  type TriggerInput,
  type TriggerSpec,
  triggerSchema,
} from "./trigger.js";

/** A fault as people write it, in YAML, over HTTP and (put together from arguments) on the command line. */
export interface FaultSpec {
  kind: string;
  /** Unique on the device; the kind and a number, such as "delay-1", unless given. */
  name?: string;
  trigger?: TriggerInput;
  options?: Record<string, unknown>;
}

/** A fault and what it has done. Its kind, name, trigger and options are a `FaultSpec` again. */
export interface FaultReport {
  name: string;
  kind: string;
  trigger: TriggerSpec;
  options: Readonly<Record<string, unknown>>;
  /** "spent": `times` or `nth` is used up, nothing more will be hit. */
  state: "armed" | "disarmed" | "spent";
  /** Seed of the fault's decisions: its own, or the device's. */
  seed: number;
  /** Requests that met ops, ranges and queue while the fault was armed. */
  matched: number;
  /** Requests the fault acted on. */
  hits: number;
  /** Requests it holds back at this moment. */
  held: number;
  /** Bytes of the requests it acted on. */
  affectedBytes: number;
  first: FaultHit | null;
  last: FaultHit | null;
  hostView: HostView;
}

export interface FaultSetOptions {
  /** The device's seed. */
  seed: number;
  requests: RequestTable;
  /** Size of the device: a range beyond it is refused, since it could never be hit. */
  sizeBytes: number;
  /** A fault has let go of everything it held; called before the method that caused it returns. */
  onRelease(holder: number): void;
  /** Faults at once; each costs a little on every request. */
  maxFaults?: number;
}

const nameMessage = "must be 1 to 64 letters, digits, dots, dashes or underscores";

const specSchema = strictFields({
  kind: oneOf(faultKinds.map((kind) => kind.name) as [string, ...string[]]),
  name: z
    .string({ error: nameMessage })
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, { error: nameMessage })
    .optional(),
  trigger: triggerSchema.prefault({}),
  options: z.record(z.string(), z.unknown(), { error: "must be an object" }).default({}),
});

/** A fault that is set. */
interface SetFault {
  readonly name: string;
  readonly kind: FaultKind;
  readonly bound: BoundFault;
  readonly trigger: Trigger;
  /** Stream of the kind's own draws, apart from the trigger's: another delay does not change who is delayed. */
  readonly random: Random;
  readonly seed: number;
  readonly holder: number;
  held: number;
}

export class FaultSet {
  /** Called when a fault has been set or taken away: set by who decides by `isEmpty`. */
  onChange: () => void = () => {};

  private readonly requests: RequestTable;
  private readonly seed: number;
  private sizeBytes: number;
  private readonly maxFaults: number;
  private readonly onRelease: (holder: number) => void;
  private readonly verdict = new FaultVerdict();
  private readonly faults: SetFault[] = [];
  private nextHolder = 0;

  constructor({ seed, requests, sizeBytes, onRelease, maxFaults = 64 }: FaultSetOptions) {
    this.seed = seed;
    this.requests = requests;
    this.sizeBytes = sizeBytes;
    this.onRelease = onRelease;
    this.maxFaults = maxFaults;
  }

  /**
   * What becomes of a request that arrives at `nowNs`. To be called once per request, in the order of arrival.
   * The verdict is valid until the next call.
   */
  judge(slot: RequestSlot, nowNs: number): Readonly<FaultVerdict> {
    const { verdict, faults } = this;
    if (verdict.hits !== 0) verdict.clear();
    for (let i = 0; i < faults.length; i++) {
      const fault = faults[i];
      if (fault.kind.holds && verdict.holder !== noHolder) continue;
      if (!fault.trigger.fires(this.requests, slot, nowNs)) continue;
      verdict.hits++;
      if (fault.kind.holds) {
        verdict.holder = fault.holder;
        fault.held++;
      }
      fault.bound.onHit(verdict, fault.random);
      if (verdict.status === Status.ok) continue;
      verdict.errorOffsetBytes = fault.trigger.firstRangeByte(this.requests, slot);
      break;
    }
    return verdict;
  }

  /** Whether no fault is set, armed or not: then every verdict is the same. */
  get isEmpty(): boolean {
    return this.faults.length === 0;
  }

  /** The device has grown: ranges may reach as far. */
  grow(sizeBytes: number): void {
    this.sizeBytes = sizeBytes;
  }

  /**
   * Sets a fault; it acts from the next request on. Takes anything: what is not a `FaultSpec` is refused.
   *
   * @throws BlkError BLK_E_FAULT_INVALID, with the path of the field; BLK_E_FAULT_EXISTS; BLK_E_FAULT_LIMIT.
   */
  add(spec: unknown): FaultReport {
    const result = specSchema.safeParse(spec);
    if (!result.success) throw toFaultError(result.error, spec);
    const { trigger, options } = result.data;
    const kind = faultKinds.find(({ name }) => name === result.data.kind)!;
    const bound = kind.bind(options);
    this.checkRanges(trigger);
    const name = result.data.name ?? this.freeName(kind);
    if (this.indexOf(name) >= 0) {
      throw new BlkError(
        "BLK_E_FAULT_EXISTS",
        `a fault "${name}" is set already`,
        "Choose another name, or remove the old one first",
      );
    }
    if (this.faults.length >= this.maxFaults) {
      throw new BlkError(
        "BLK_E_FAULT_LIMIT",
        `${this.maxFaults} faults are set, and a device takes no more`,
        "Remove one that is spent",
      );
    }
    // A seed of its own makes a fault's decisions independent of its name and of the device.
    const stream = trigger.seed === undefined ? `fault/${name}` : "fault";
    const seed = trigger.seed ?? this.seed;
    const fault: SetFault = {
      name,
      kind,
      bound,
      trigger: new Trigger(trigger, kind.ops, new Random(seed, `${stream}/trigger`)),
      random: new Random(seed, `${stream}/options`),
      seed,
      holder: this.nextHolder++,
      held: 0,
    };
    this.faults.push(fault);
    this.onChange();
    return report(fault);
  }

  /** Every fault that is set, in the order in which they act. */
  list(): FaultReport[] {
    return this.faults.map(report);
  }

  get(name: string): FaultReport {
    return report(this.find(name));
  }

  /**
   * The range of the device as runs in which armed faults may hit the same operations, in order and without gaps. What
   * a fault's other conditions (count, probability, queue) say of the next request is not asked.
   */
  *extents(offsetBytes: number, lengthBytes: number): Generator<FaultExtent> {
    const endBytes = offsetBytes + lengthBytes;
    const triggers = this.faults.map(({ trigger }) => trigger).filter((trigger) => trigger.isLive);
    for (let from = offsetBytes; from < endBytes; ) {
      let opMask = 0;
      let to = endBytes;
      for (const trigger of triggers) {
        opMask |= trigger.opMaskAt(from);
        to = Math.min(to, trigger.nextBoundary(from));
      }
      yield { offsetBytes: from, lengthBytes: to - from, opMask };
      from = to;
    }
  }

  /** Arms a fault, or makes it idle: while it is idle nothing is counted. */
  arm(name: string, isArmed: boolean): FaultReport {
    const fault = this.find(name);
    fault.trigger.isArmed = isArmed;
    return report(fault);
  }

  /** Lets go of what the fault holds; it stays set. Answers with the report from before, `held` included. */
  release(name: string): FaultReport {
    const fault = this.find(name);
    if (!fault.kind.holds) {
      throw faultInvalid(`fault "${name}" is of kind ${fault.kind.name}, which holds nothing to release`);
    }
    const before = report(fault);
    this.letGo(fault);
    return before;
  }

  /** Takes the fault away and lets go of what it holds. Answers with its last report. */
  remove(name: string): FaultReport {
    const fault = this.find(name);
    this.faults.splice(this.faults.indexOf(fault), 1);
    this.onChange();
    const last = report(fault);
    this.letGo(fault);
    return last;
  }

  /** Takes every fault away and lets go of everything; answers with their last reports. Never fails. */
  reset(): FaultReport[] {
    const removed = this.faults.splice(0);
    this.onChange();
    const reports = removed.map(report);
    for (const fault of removed) this.letGo(fault);
    return reports;
  }

  /** The device no longer keeps one request for `holder`: whoever sent it has gone. */
  forget(holder: number): void {
    const fault = this.faults.find((candidate) => candidate.holder === holder);
    if (fault !== undefined) fault.held--;
  }

  private letGo(fault: SetFault): void {
    if (fault.held === 0) return;
    fault.held = 0;
    this.onRelease(fault.holder);
  }

  private indexOf(name: string): number {
    return this.faults.findIndex((fault) => fault.name === name);
  }

  private find(name: string): SetFault {
    const index = this.indexOf(name);
    if (index >= 0) return this.faults[index];
    const names = this.faults.map((fault) => fault.name);
    throw new BlkError(
      "BLK_E_FAULT_UNKNOWN",
      `no fault "${name}" is set`,
      names.length === 0 ? "No fault is set at all" : `There is ${names.join(", ")}`,
    );
  }

  private freeName(kind: FaultKind): string {
    for (let number = 1; ; number++) {
      const name = `${kind.name}-${number}`;
      if (this.indexOf(name) < 0) return name;
    }
  }

  private checkRanges(trigger: TriggerSpec): void {
    trigger.ranges?.forEach((range, index) => {
      const { startBytes, endBytes } = rangeBounds(range);
      if (endBytes <= this.sizeBytes) return;
      throw faultInvalid(
        `trigger.ranges.${index} covers bytes ${startBytes} to ${endBytes}, but the device ends at ${formatSize(this.sizeBytes)}`,
      );
    });
  }
}

function report(fault: SetFault): FaultReport {
  const { trigger, bound } = fault;
  return {
    name: fault.name,
    kind: fault.kind.name,
    trigger: trigger.spec,
    options: bound.options,
    state: trigger.isSpent ? "spent" : trigger.isArmed ? "armed" : "disarmed",
    seed: fault.seed,
    matched: trigger.matched,
    hits: trigger.hits,
    held: fault.held,
    affectedBytes: trigger.affectedBytes,
    first: trigger.firstHit(),
    last: trigger.lastHit(),
    hostView: bound.hostView,
  };
}
