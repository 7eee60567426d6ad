/**
 * The end of a command's way through a controller: completions in order of time, to interrupt coalescing and from there to
 * the host; and with them the order in which a drive's events and its interrupts happen.
 */
import type { RequestSlot, RequestTable } from "../../../base/request.js";
import type { CompletionSink } from "../../model.js";
import { Ring } from "../../ring.js";
import type { SsdParameters } from "../schema.js";
import { Coalescing } from "./coalescing.js";

/** What goes on in a drive, event by event. */
export interface SteppedDrive {
  /** Time of the next event; Infinity when nothing is going on. */
  readonly nextStepNs: number;
  /** Does the next event, at its own instant. */
  step(): void;
}

export class Completions {
  private readonly coalescing: Coalescing;
  private readonly completed: Ring;
  private readonly completedNs: Float64Array;

  constructor(
    { coalescing, arbitration }: SsdParameters["queue"],
    private readonly requests: RequestTable,
  ) {
    const { capacity } = requests;
    this.coalescing = new Coalescing(coalescing, arbitration.queues, capacity);
    this.completed = new Ring(capacity);
    this.completedNs = new Float64Array(capacity);
  }

  /** A command is complete. The host learns of it in `advance`. */
  push(slot: RequestSlot, nowNs: number): void {
    this.completedNs[slot] = nowNs;
    this.completed.push(slot);
  }

  /** When the drive, whose next event is at `stepNs`, has something to do or to tell. */
  nextEventNs(stepNs: number): number {
    if (this.completed.length > 0) return this.completedNs[this.completed.first];
    return Math.min(stepNs, this.coalescing.nextEventNs());
  }

  /** Runs a drive's events up to and including `toNs`, and reports what the host learns of by then. */
  advance(drive: SteppedDrive, toNs: number, done: CompletionSink): void {
    const { completed, completedNs, coalescing, requests } = this;
    for (;;) {
      while (completed.length > 0) {
        const slot = completed.shift();
        coalescing.post(slot, requests.queue[slot], completedNs[slot], done);
      }
      const eventNs = drive.nextStepNs;
      const interruptNs = coalescing.nextEventNs();
      if (interruptNs <= toNs && interruptNs < eventNs) coalescing.advance(interruptNs, done);
      else if (eventNs <= toNs) drive.step();
      else return;
    }
  }
}
