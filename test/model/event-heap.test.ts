import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EventHeap } from "../../src/model/event-heap.js";

describe("the event heap", () => {
  it("gives events in order of time, ties in order of insertion, with pushes and pops interleaved", () => {
    // A time from a small range makes ties; null is a pop.
    const step = fc.option(fc.oneof(fc.nat(5), fc.double({ min: 0, max: 1e15, noNaN: true })), { freq: 3 });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
        const heap = new EventHeap(Math.max(1, steps.length));
        const oracle: { timeNs: number; event: number }[] = [];
        for (const [event, timeNs] of steps.entries()) {
          if (timeNs !== null) {
            heap.push(timeNs, event);
            // After every entry that is not later: insertion order among equals.
            const at = oracle.findIndex((other) => other.timeNs > timeNs);
            oracle.splice(at === -1 ? oracle.length : at, 0, { timeNs, event });
          } else if (oracle.length > 0) {
            const expected = oracle.shift()!;
            expect(heap.nextNs).toBe(expected.timeNs);
            expect(heap.nextEvent).toBe(expected.event);
            expect(heap.pop()).toBe(expected.event);
          }
          expect(heap.size).toBe(oracle.length);
        }
        for (const { event } of oracle) expect(heap.pop()).toBe(event);
        expect(heap.nextNs).toBe(Number.POSITIVE_INFINITY);
      }),
      { numRuns: 300 },
    );
  });

  it("refuses more events than its capacity", () => {
    const heap = new EventHeap(1);
    heap.push(1, 0);
    expect(() => heap.push(2, 1)).toThrow(/never holds more events than its capacity/);
  });

  it("refuses an event whose time is not a number", () => {
    expect(() => new EventHeap(1).push(Number.NaN, 0)).toThrow(/an event has a time/);
  });
});
