/**
 * Event queue of the simulators: a 4-ary heap on typed arrays. Nothing is allocated per event.
 *
 * Events at the same instant come out in the order they went in, so a run is repeatable. Four children per node
 * halve the height of a binary heap and keep siblings in one cache line.
 */
import { assert } from "../base/assert.js";

export class EventHeap {
  private readonly timesNs: Float64Array;
  /** Order of insertion, which breaks ties. */
  private readonly orders: Float64Array;
  private readonly events: Int32Array;
  private length = 0;
  private ordered = 0;

  /** @param capacity events waiting at once; going over it is a bug of the caller. */
  constructor(readonly capacity: number) {
    this.timesNs = new Float64Array(capacity);
    this.orders = new Float64Array(capacity);
    this.events = new Int32Array(capacity);
  }

  get size(): number {
    return this.length;
  }

  /** Time of the earliest event; Infinity when empty. */
  get nextNs(): number {
    return this.length === 0 ? Number.POSITIVE_INFINITY : this.timesNs[0];
  }

  /** The earliest event, which stays in the heap. */
  get nextEvent(): number {
    return this.events[0];
  }

  /** Order of the earliest event among those of its instant. */
  get firstOrder(): number {
    return this.orders[0];
  }

  /** @param order where the caller counts, in several queues: later ones have higher numbers. */
  push(timeNs: number, event: number, order: number = this.ordered++): void {
    assert(this.length < this.capacity, "an event heap never holds more events than its capacity");
    // NaN compares as nothing: the heap would lose its order, and the event would never be due.
    assert(!Number.isNaN(timeNs), "an event has a time");
    const { timesNs, orders, events } = this;
    let hole = this.length++;
    while (hole > 0) {
      const parent = (hole - 1) >> 2;
      // A new event is the youngest, so it moves up only past strictly later ones.
      if (timesNs[parent] <= timeNs) break;
      timesNs[hole] = timesNs[parent];
      orders[hole] = orders[parent];
      events[hole] = events[parent];
      hole = parent;
    }
    timesNs[hole] = timeNs;
    orders[hole] = order;
    events[hole] = event;
  }

  /** Removes the earliest event and returns it. The heap must not be empty. */
  pop(): number {
    const { timesNs, orders, events } = this;
    const earliest = events[0];
    const last = --this.length;
    const timeNs = timesNs[last];
    const order = orders[last];
    const event = events[last];
    let hole = 0;
    for (;;) {
      const firstChild = 4 * hole + 1;
      if (firstChild >= last) break;
      const childrenEnd = Math.min(firstChild + 4, last);
      let best = firstChild;
      for (let child = firstChild + 1; child < childrenEnd; child++) {
        if (
          timesNs[child] < timesNs[best] ||
          (timesNs[child] === timesNs[best] && orders[child] < orders[best])
        ) {
          best = child;
        }
      }
      if (timesNs[best] > timeNs || (timesNs[best] === timeNs && orders[best] > order)) break;
      timesNs[hole] = timesNs[best];
      orders[hole] = orders[best];
      events[hole] = events[best];
      hole = best;
    }
    timesNs[hole] = timeNs;
    orders[hole] = order;
    events[hole] = event;
    return earliest;
  }
}
