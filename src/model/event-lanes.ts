/**
 * Event queue for simulators most of whose events come in the order they are due: what takes the same time whenever it
 * begins ends in the order it began. Each kind of event of which that is so has a lane, first in, first out; an event
 * that would end before the last one of its lane, and those of other kinds, go to a heap.
 *
 * The order is that of the heap alone: by time, ties by insertion. A lane makes of the heap's logarithm a comparison.
 */
import { assert } from "../base/assert.js";
import { EventHeap } from "./event-heap.js";

/** No lane: the heap. */
export const heapLane = -1;

/**
 * Events a lane holds, at most: what fits in a cache that is near, for a ring goes through all of its memory. Further ones go
 * to the heap.
 */
const mostInLane = 128;

export class EventLanes {
  /** Time of the earliest event; Infinity when there is none. */
  nextNs = Number.POSITIVE_INFINITY;
  private earliestLane = heapLane;
  private nextOrder = 0;
  private readonly heap: EventHeap;
  /** Rings of all lanes, one after the other: of each event the time and the order, and the event. */
  private readonly keys: Float64Array;
  private readonly events: Int32Array;
  private readonly mask: number;
  private readonly ringShift: number;
  /** Place of the first and number of events, by lane; and the times of the first and of the last that was put in. */
  private readonly heads: Int32Array;
  private readonly lengths: Int32Array;
  private readonly headsNs: Float64Array;
  private readonly tailsNs: Float64Array;

  /**
   * @param capacity events waiting at once.
   * @param orderlyKinds kinds of event that have a lane of this number: 0 up to this.
   * @param kindShift where in an event its kind begins.
   * @param furtherLanes lanes after these, for `pushTo`.
   */
  constructor(
    capacity: number,
    private readonly orderlyKinds: number,
    private readonly kindShift: number,
    furtherLanes = 0,
  ) {
    const lanes = orderlyKinds + furtherLanes;
    this.heap = new EventHeap(capacity);
    this.ringShift = Math.ceil(Math.log2(Math.min(capacity, mostInLane)));
    const size = 2 ** this.ringShift;
    this.mask = size - 1;
    this.keys = new Float64Array(2 * lanes * size);
    this.events = new Int32Array(lanes * size);
    this.heads = new Int32Array(lanes);
    this.lengths = new Int32Array(lanes);
    this.headsNs = new Float64Array(lanes).fill(Number.POSITIVE_INFINITY);
    this.tailsNs = new Float64Array(lanes);
  }

  push(timeNs: number, event: number): void {
    const kind = event >>> this.kindShift;
    this.pushTo(kind < this.orderlyKinds ? kind : heapLane, timeNs, event);
  }

  /** @param lane of events that mostly end in the order they began, or `heapLane`. */
  pushTo(lane: number, timeNs: number, event: number): void {
    const order = this.nextOrder++;
    let usedLane = heapLane;
    if (lane !== heapLane && timeNs >= this.tailsNs[lane] && this.lengths[lane] <= this.mask) {
      const length = this.lengths[lane]++;
      const place = (lane << this.ringShift) + ((this.heads[lane] + length) & this.mask);
      const { keys } = this;
      keys[2 * place] = timeNs;
      keys[2 * place + 1] = order;
      this.events[place] = event;
      this.tailsNs[lane] = timeNs;
      if (length === 0) this.headsNs[lane] = timeNs;
      usedLane = lane;
    } else {
      const isFull = lane !== heapLane && this.lengths[lane] > this.mask;
      assert(
        !isFull || this.heap.capacity > mostInLane,
        "a lane of a small queue never holds more events than its capacity",
      );
      this.heap.push(timeNs, event, order);
    }
    // The youngest of several at an instant comes last.
    if (timeNs < this.nextNs) {
      this.nextNs = timeNs;
      this.earliestLane = usedLane;
    }
  }

  /** Removes the earliest event and returns it. There must be one. */
  pop(): number {
    const lane = this.earliestLane;
    let event: number;
    if (lane === heapLane) {
      event = this.heap.pop();
    } else {
      const first = lane << this.ringShift;
      const head = this.heads[lane];
      event = this.events[first + head];
      const next = (head + 1) & this.mask;
      this.heads[lane] = next;
      this.headsNs[lane] =
        --this.lengths[lane] === 0 ? Number.POSITIVE_INFINITY : this.keys[2 * (first + next)];
    }
    this.findEarliest();
    return event;
  }

  private findEarliest(): void {
    const { headsNs, heap } = this;
    let earliestNs = heap.nextNs;
    let earliest = heapLane;
    for (let lane = 0; lane < headsNs.length; lane++) {
      const timeNs = headsNs[lane];
      if (timeNs > earliestNs || timeNs === Number.POSITIVE_INFINITY) continue;
      if (timeNs === earliestNs && this.firstOrder(lane) > this.firstOrder(earliest)) continue;
      earliestNs = timeNs;
      earliest = lane;
    }
    this.nextNs = earliestNs;
    this.earliestLane = earliest;
  }

  private firstOrder(lane: number): number {
    return lane === heapLane
      ? this.heap.firstOrder
      : this.keys[2 * ((lane << this.ringShift) + this.heads[lane]) + 1];
  }
}
