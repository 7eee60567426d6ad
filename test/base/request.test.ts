import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { noSlot, Op, operations, RequestTable } from "../../src/base/request.js";

describe("the request table", () => {
  it("hands out every slot once, low ones first, and none when full", () => {
    const table = new RequestTable(4);
    expect([table.acquire(), table.acquire(), table.acquire(), table.acquire()]).toEqual([0, 1, 2, 3]);
    expect(table.isFull).toBe(true);
    expect(table.acquire()).toBe(noSlot);
    table.release(2);
    expect(table.isFull).toBe(false);
    expect(table.acquire()).toBe(2);
  });

  it("never has one slot in two hands, whatever the order of acquiring and releasing", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.array(fc.nat(40), { maxLength: 200 }),
        (capacity, steps) => {
          const table = new RequestTable(capacity);
          const held: number[] = [];
          for (const step of steps) {
            if (step < 20 && held.length > 0) {
              table.release(held.splice(step % held.length, 1)[0]);
            } else {
              const slot = table.acquire();
              if (held.length === capacity) expect(slot).toBe(noSlot);
              else {
                expect(held).not.toContain(slot);
                expect(slot).toBeGreaterThanOrEqual(0);
                expect(slot).toBeLessThan(capacity);
                held.push(slot);
              }
            }
            expect(table.inFlight).toBe(held.length);
          }
        },
      ),
    );
  });

  it("gives a slot with its status reset", () => {
    const table = new RequestTable(1);
    const slot = table.acquire();
    table.status[slot] = 3;
    table.release(slot);
    expect(table.status[table.acquire()]).toBe(0);
  });

  it("codes each operation by its place in the list of names", () => {
    expect(operations.map((name) => Op[name])).toEqual([...operations.keys()]);
  });

  it("holds offsets beyond 2^32 exactly", () => {
    const table = new RequestTable(1);
    table.offsetBytes[0] = Number.MAX_SAFE_INTEGER;
    expect(table.offsetBytes[0]).toBe(Number.MAX_SAFE_INTEGER);
  });
});
