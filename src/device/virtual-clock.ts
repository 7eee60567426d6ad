/**
 * A clock that moves only when told to: as fast as the processor allows, and the same in every run.
 *
 * A simulation is a loop over arrivals, `advanceTo(arrival)` and submit, with a `run()` at the end; deadlines that come
 * in between are met exactly on time.
 */
import { assert } from "../base/assert.js";
import type { Clock } from "./clock.js";

/** Deadlines met without time moving on: more than any device has requests in flight means it never will. */
const standstillLimit = 1_000_000;

export class VirtualClock implements Clock {
  onDeadline: () => void = () => {};
  /** Never called: nothing is cold here. */
  onRehearsal: () => void = () => {};

  private currentNs: number;
  private deadlineNs = Number.POSITIVE_INFINITY;

  constructor(startNs = 0) {
    this.currentNs = startNs;
  }

  nowNs(): number {
    return this.currentNs;
  }

  arm(deadlineNs: number): void {
    this.deadlineNs = deadlineNs;
  }

  /** The armed deadline; Infinity when there is none. */
  get nextDeadlineNs(): number {
    return this.deadlineNs;
  }

  /** Meets every deadline up to and including `toNs`, those armed on the way too, and leaves the time at `toNs`. */
  advanceTo(toNs: number): void {
    assert(toNs >= this.currentNs, "virtual time never goes back");
    this.meetDeadlines(toNs);
    this.currentNs = toNs;
  }

  /** Runs until nothing is armed any more, or until the next deadline is after `limitNs`. The time stays at the last one met. */
  run(limitNs = Number.POSITIVE_INFINITY): void {
    this.meetDeadlines(limitNs);
  }

  close(): void {
    this.deadlineNs = Number.POSITIVE_INFINITY;
  }

  private meetDeadlines(untilNs: number): void {
    let standstill = 0;
    while (this.deadlineNs <= untilNs && this.deadlineNs !== Number.POSITIVE_INFINITY) {
      if (this.deadlineNs > this.currentNs) {
        this.currentNs = this.deadlineNs;
        standstill = 0;
      }
      assert(++standstill <= standstillLimit, "a device makes progress in time");
      this.deadlineNs = Number.POSITIVE_INFINITY;
      this.onDeadline();
    }
  }
}
