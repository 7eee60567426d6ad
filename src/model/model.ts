/**
 * The contract of every device model: *when* does a request complete?
 *
 * A model is a pure discrete-event simulator. It never reads a clock: it is told when a request arrives, tells when
 * its next internal event is, and is advanced. So the same model runs live and on the virtual clock, and the same
 * arrivals give bit-identical completion times in both, however late the host woke up.
 *
 * All times are nanoseconds since power-on, in a float64 (exact to 104 days). A model knows nothing of bytes,
 * transports or faults.
 */
import type { HealthLog } from "../base/health.js";
import type { RequestSlot } from "../base/request.js";

/** Receives the completions a model reports, each with its due time. Due times never decrease. */
export interface CompletionSink {
  complete(slot: RequestSlot, dueNs: number): void;
}

export interface Model {
  /** Whether zeroing is always done sooner than writing as many bytes; it is not where this is left out. */
  readonly isZeroFast?: boolean;

  /**
   * For a model that completes every request a constant time after its arrival, whatever else is going on: that time, by
   * operation code. Such a model need not even be asked, and others have none.
   */
  readonly constantLatenciesNs?: Float64Array;

  /**
   * A request reaches the device. `nowNs` never decreases, and the model has been advanced to it before.
   * The request's fields stay unchanged in the request table until its completion.
   */
  arrive(slot: RequestSlot, nowNs: number): void;

  /**
   * The device has grown. A model without this method has its capacity for life, as a hard disk has: it is laid out
   * over platters.
   */
  grow?(sizeBytes: number): void;

  /** When something next happens inside; Infinity when nothing is going on. */
  nextEventNs(): number;

  /** Runs every internal event up to and including `toNs`, in order, at its own instant; reports what completes. */
  advance(toNs: number, done: CompletionSink): void;

  /**
   * What the device would say of its own health, from what it really did; left out by models of devices that keep no
   * such log. Asking changes nothing. `nowNs` is not before what the model has been advanced to.
   */
  health?(nowNs: number): HealthLog;

  /**
   * State of the model worth seeing beside the counters (credits left, say): names carry their unit. Asking changes
   * nothing. `nowNs` is as for `health`.
   */
  report?(nowNs: number): ModelReport;
}

export type ModelReport = Record<string, number>;
