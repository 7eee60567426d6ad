/**
 * `defineFault`: a kind of fault in one declaration. Trigger, counters, seeding, validation, reports and the list of
 * `blkforge fault kinds` come from here, so a kind's file holds only what is particular to it.
 *
 * Hooks run on the path of every request that is hit. They allocate nothing: they are given a verdict to fill in.
 */
import * as z from "zod";
import type { Random } from "../base/random.js";
import type { Operation } from "../base/request.js";
import { Status } from "../base/status.js";
import type { HostView } from "./host-view.js";
import { faultInvalid, toFaultError } from "./schema.js";

/** Holder of a request that nobody holds. */
export const noHolder = -1;

/** What becomes of one request, as far as the faults are concerned. One object, filled in anew for every request. */
export class FaultVerdict {
  /** How the request shall end. Anything but ok ends the chain of faults. */
  status: Status = Status.ok;
  /** First byte of the device that the error concerns, when a range of the fault says so; -1 when it has no place. */
  errorOffsetBytes = -1;
  /** Time added to what the model says; delays of several faults add up. */
  delayNs = 0;
  /** Id of the fault that holds the request back, or `noHolder`. */
  holder = noHolder;
  /** Faults that acted on the request. */
  hits = 0;

  clear(): void {
    this.status = Status.ok;
    this.errorOffsetBytes = -1;
    this.delayNs = 0;
    this.holder = noHolder;
    this.hits = 0;
  }
}

export interface FaultDefinition<Options extends z.ZodObject, Prepared> {
  /** The kind's name in YAML, HTTP and on the command line. */
  name: string;
  /** One sentence, beginning with a verb: "completes requests with an error". */
  summary: string;
  /** Operations the kind can act on; a trigger that names none gets these. */
  ops: readonly Operation[];
  /** Schema of the options; it validates and does not transform. */
  options: Options;
  /** Conditions between options that the schema cannot say: the mistake as a sentence, or null. */
  check?(options: z.output<Options>): string | null;
  /** Turns the options into what the hooks need, once, when the fault is set. */
  prepare(options: z.output<Options>): Prepared;
  /** Acts on a request. Everything random comes from `random`, the fault's own stream. */
  onHit?(verdict: FaultVerdict, prepared: Prepared, random: Random): void;
  /** Whether requests that are hit stay with the fault until it is released. */
  holds?: boolean;
  /** What the host is given. */
  hostView(options: z.output<Options>): HostView;
  /** What the host is given, for the list of kinds: as `hostView`, in words that cover every option. */
  hostViewInGeneral: HostView;
}

/** A kind of fault, whatever its options are. */
export interface FaultKind {
  readonly name: string;
  readonly summary: string;
  readonly ops: readonly Operation[];
  readonly holds: boolean;
  readonly optionNames: readonly string[];
  readonly hostViewInGeneral: HostView;
  /** The options as a JSON Schema. */
  optionsSchema(): z.core.JSONSchema.BaseSchema;
  /** @throws BlkError BLK_E_FAULT_INVALID when the options are not what the kind takes. */
  bind(options: unknown): BoundFault;
}

/** A kind with its options: what acts on requests. */
export interface BoundFault {
  /** The options as they were given, defaults filled in. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly hostView: HostView;
  onHit(verdict: FaultVerdict, random: Random): void;
}

export function defineFault<Options extends z.ZodObject, Prepared>(
  definition: FaultDefinition<Options, Prepared>,
): FaultKind {
  return {
    name: definition.name,
    summary: definition.summary,
    ops: definition.ops,
    holds: definition.holds ?? false,
    optionNames: Object.keys(definition.options.shape),
    hostViewInGeneral: definition.hostViewInGeneral,

    optionsSchema() {
      return z.toJSONSchema(definition.options, { io: "input" });
    },

    bind(input) {
      const result = definition.options.safeParse(input);
      if (!result.success) throw toFaultError(result.error, input, ["options"]);
      const options = result.data;
      const mistake = definition.check?.(options) ?? null;
      if (mistake !== null) throw faultInvalid(`options ${mistake}`);
      const prepared = definition.prepare(options);
      return {
        options,
        hostView: definition.hostView(options),
        onHit: (verdict, random) => definition.onHit?.(verdict, prepared, random),
      };
    },
  };
}
