/**
 * What drives a simulation: something that issues requests on virtual time and may wait for their completion before
 * it issues the next. Workloads and traces are both sources; the engine knows no difference.
 */
import type { RequestSlot } from "../base/request.js";

export interface RequestSource {
  /** What statistics are kept apart for: the jobs of a workload. One group or more. */
  readonly groups: readonly string[];

  /**
   * When it next wants to issue a request. May lie in the past when the device's table was full. Infinity while it only
   * waits for completions, and for good when it is finished.
   */
  nextIssueNs(): number;

  /** Fills op, flags, queue, offset and length of `slot` with its next request, which reaches the device at `nowNs`. */
  issue(slot: RequestSlot, nowNs: number): void;

  /** The request in `slot` is complete. The slot is released after this returns. */
  complete(slot: RequestSlot, nowNs: number): void;

  /** Index into `groups`; asked while the request is in flight. */
  groupOf(slot: RequestSlot): number;

  /** From when on a group's completions count: after its ramp-up. */
  measureFromNs(group: number): number;
}
