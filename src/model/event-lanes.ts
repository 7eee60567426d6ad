/**
 * Event queue for simulators most of whose events come in the order they are due: what takes the same time whenever it
 * begins ends in the order it began. Each kind of event of which that is so has a lane, first in, first out; an event
 * that would end before the last one of its lane, and those of other kinds, go to a heap.
 *
 * The order is that of the heap alone: by time, ties by insertion. A lane makes of the heap's logarithm a comparison.
 */
import { assert } from "../base/assert.js";
import { EventHeap } from "./event-heap.js";

const heapLane = -1;

export class EventLanes {
  /** Time of the earliest event; Infinity when there is none. */
  nextNs = Number.POSITIVE_INFINITY;
  private earliestLane = heapLane;
  private nextOrder = 0;
  private readonly heap: EventHeap;
  /** Rings of all lanes, one after the other. */
  private readonly timesNs: Float64Array;
  private readonly orders: Float64Array;
  private readonly events: Int32Array;
  private readonly mask: number;
  /** Place of the first and number of events, by lane; and the times of the first and of the last that was put in. */
  private readonly heads: Int32Array;
  private readonly lengths: Int32Array;
  private readonly headsNs: Float64Array;
  private readonly tailsNs: Float64Array;

  /**
   * @param capacity events waiting at once.
   * @param lanes kinds of event that have one: 0 up to this.
   * @param kindShift where in an event its kind begins.
   */
  constructor(
    capacity: number,
    private readonly lanes: number,
    private readonly kindShift: number,
  ) {
    this.heap = new EventHeap(capacity);
    const size = 2 ** Math.ceil(Math.log2(capacity));
    this.mask = size - 1;
    this.timesNs = new Float64Array(lanes * size);
    this.orders = new Float64Array(lanes * size);
    this.events = new Int32Array(lanes * size);
    this.heads = new Int32Array(lanes);
    this.lengths = new Int32Array(lanes);
    this.headsNs = new Float64Array(lanes).fill(Number.POSITIVE_INFINITY);
    this.tailsNs = new Float64Array(lanes);
  }

  push(timeNs: number, event: number): void {
    const order = this.nextOrder++;
    const lane = event >>> this.kindShift;
    if (lane < this.lanes && timeNs >= this.tailsNs[lane]) {
      const length = this.lengths[lane]++;
      assert(length <= this.mask, "a lane never holds more events than its capacity");
      const place = lane * (this.mask + 1) + ((this.heads[lane] + length) & this.mask);
      this.timesNs[place] = timeNs;
      this.orders[place] = order;
      this.events[place] = event;
      this.tailsNs[lane] = timeNs;
      if (length === 0) this.headsNs[lane] = timeNs;
      // The youngest of several at an instant comes last.
      if (timeNs < this.nextNs) {
        this.nextNs = timeNs;
        this.earliestLane = lane;
      }
    } else {
      this.heap.push(timeNs, event, order);
      if (timeNs < this.nextNs) {
        this.nextNs = timeNs;
        this.earliestLane = heapLane;
      }
    }
  }

  /** Removes the earliest event and returns it. There must be one. */
  pop(): number {
    const lane = this.earliestLane;
    let event: number;
    if (lane === heapLane) {
      event = this.heap.pop();
    } else {
      const first = lane * (this.mask + 1);
      const head = this.heads[lane];
      event = this.events[first + head];
      const next = (head + 1) & this.mask;
      this.heads[lane] = next;
      this.headsNs[lane] = --this.lengths[lane] === 0 ? Number.POSITIVE_INFINITY : this.timesNs[first + next];
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
    return lane === heapLane ? this.heap.firstOrder : this.orders[lane * (this.mask + 1) + this.heads[lane]];
  }
}
