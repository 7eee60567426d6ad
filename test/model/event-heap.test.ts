import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EventHeap } from "../../src/model/event-heap.js";
import { EventLanes } from "../../src/model/event-lanes.js";

const kindShift = 10;

describe.each([
  { name: "the event heap", create: (capacity: number) => new EventHeap(capacity) },
  { name: "event lanes", create: (capacity: number) => new EventLanes(capacity, 2, kindShift) },
])("$name", ({ create }) => {
  it("gives events in order of time, ties in order of insertion, with pushes and pops interleaved", () => {
    // A time from a small range makes ties; null is a pop.
    const step = fc.option(fc.oneof(fc.nat(5), fc.double({ min: 0, max: 1e15, noNaN: true })), { freq: 3 });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
        const heap = create(Math.max(1, steps.length));
        const oracle: { timeNs: number; event: number }[] = [];
        for (const [number, timeNs] of steps.entries()) {
          // Two kinds with a lane each, and one without.
          const event = number | ((number % 3) << kindShift);
          if (timeNs !== null) {
            heap.push(timeNs, event);
            // After every entry that is not later: insertion order among equals.
            const at = oracle.findIndex((other) => other.timeNs > timeNs);
            oracle.splice(at === -1 ? oracle.length : at, 0, { timeNs, event });
          } else if (oracle.length > 0) {
            const expected = oracle.shift()!;
            expect(heap.nextNs).toBe(expected.timeNs);
            if (heap instanceof EventHeap) expect(heap.nextEvent).toBe(expected.event);
            expect(heap.pop()).toBe(expected.event);
          }
          if (heap instanceof EventHeap) expect(heap.size).toBe(oracle.length);
        }
        for (const { event } of oracle) expect(heap.pop()).toBe(event);
        expect(heap.nextNs).toBe(Number.POSITIVE_INFINITY);
      }),
      { numRuns: 300 },
    );
  });

  it("refuses more events than its capacity", () => {
    const heap = create(1);
    heap.push(1, 0);
    expect(() => heap.push(2, 1)).toThrow(/never holds more events than its capacity/);
  });

  it("refuses an event whose time is not a number", () => {
    expect(() => create(1).push(Number.NaN, 0)).toThrow(/an event has a time/);
  });
});
