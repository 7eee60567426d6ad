/**
 * instant: every request completes at the moment it arrives.
 *
 * The device one compares others with: what it shows is the cost of the emulator and of everything above it. No
 * real device is like it; a RAM disk comes closest.
 */
import { operations, type RequestSlot, type RequestTable } from "../../base/request.js";
import type { CompletionSink, Model } from "../model.js";

export function createInstantModel({ requests }: { requests: RequestTable }): Model {
  return new InstantModel(requests.capacity);
}

class InstantModel implements Model {
  readonly isZeroFast = true;
  readonly constantLatenciesNs = new Float64Array(operations.length);
  /** A ring of what has arrived and not been reported. Arrivals never decrease, so arrival order is due order. */
  private readonly slots: Int32Array;
  private readonly arrivalsNs: Float64Array;
  private head = 0;
  private length = 0;

  /** @param capacity every request in flight has a place: the ring cannot overflow. */
  constructor(private readonly capacity: number) {
    this.slots = new Int32Array(capacity);
    this.arrivalsNs = new Float64Array(capacity);
  }

  arrive(slot: RequestSlot, nowNs: number): void {
    const tail = (this.head + this.length++) % this.capacity;
    this.slots[tail] = slot;
    this.arrivalsNs[tail] = nowNs;
  }

  /** Size is nothing to it. */
  grow(): void {}

  nextEventNs(): number {
    return this.length === 0 ? Number.POSITIVE_INFINITY : this.arrivalsNs[this.head];
  }

  advance(toNs: number, done: CompletionSink): void {
    while (this.length > 0 && this.arrivalsNs[this.head] <= toNs) {
      const { head } = this;
      this.head = (head + 1) % this.capacity;
      this.length--;
      done.complete(this.slots[head], this.arrivalsNs[head]);
    }
  }
}
