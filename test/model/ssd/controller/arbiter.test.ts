import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { noSlot } from "../../../../src/base/request.js";
import { Arbiter } from "../../../../src/model/ssd/controller/arbiter.js";
import { arbitrationSchema } from "../../../../src/model/ssd/controller/schema.js";

const capacity = 64;

/** An arbiter whose queues are never empty: what is fetched from one is put back at its end. */
class Saturated {
  readonly counts: number[];
  private readonly arbiter: Arbiter;
  private readonly queueOf = new Int32Array(capacity);

  constructor(written: Record<string, unknown>, queues: number, depth = 4) {
    this.arbiter = new Arbiter(arbitrationSchema.parse({ queues, ...written }), capacity);
    this.counts = new Array<number>(queues).fill(0);
    for (let slot = 0; slot < queues * depth; slot++) {
      this.queueOf[slot] = slot % queues;
      this.arbiter.push(slot, slot % queues);
    }
  }

  fetch(): number {
    const slot = this.arbiter.next();
    const queue = this.queueOf[slot];
    this.counts[queue]++;
    this.arbiter.push(slot, queue);
    return queue;
  }

  order(count: number): string {
    return Array.from({ length: count }, () => this.fetch()).join("");
  }
}

describe("round robin", () => {
  it("takes 2^burst commands of each queue in turn", () => {
    expect(new Saturated({ burst: 0 }, 3).order(7)).toBe("0120120");
    expect(new Saturated({ burst: 1 }, 3).order(13)).toBe("0011220011220");
    expect(new Saturated({ burst: 2 }, 2).order(16)).toBe("0000111100001111");
  });

  it("without a limit stays with a queue until it is empty", () => {
    const arbiter = new Arbiter(arbitrationSchema.parse({ queues: 2, burst: 7 }), 8);
    for (const [slot, queue] of [0, 1, 0, 1, 0].entries()) arbiter.push(slot, queue);
    expect(Array.from({ length: 6 }, () => arbiter.next())).toEqual([0, 2, 4, 1, 3, noSlot]);
  });

  it("keeps commands of one queue in order, and loses none, whatever comes when", () => {
    const steps = fc.array(fc.oneof(fc.nat(3), fc.constant("fetch" as const)), { maxLength: 200 });
    const settings = fc.record({
      burst: fc.nat(7),
      mechanism: fc.constantFrom("round-robin", "weighted"),
      classes: fc.array(fc.constantFrom("urgent", "high", "medium", "low"), { maxLength: 4 }),
    });
    fc.assert(
      fc.property(steps, settings, (script, written) => {
        const arbiter = new Arbiter(arbitrationSchema.parse({ queues: 4, ...written }), 256);
        const waiting: number[][] = [[], [], [], []];
        let slots = 0;
        const fetch = () => {
          const slot = arbiter.next();
          const total = waiting.reduce((sum, queue) => sum + queue.length, 0);
          if (slot === noSlot) expect(total).toBe(0);
          else expect(waiting.find((queue) => queue[0] === slot)?.shift()).toBe(slot);
        };
        for (const step of script) {
          if (step === "fetch") fetch();
          else {
            waiting[step].push(slots);
            arbiter.push(slots++, step);
          }
          expect(arbiter.length).toBe(waiting.reduce((sum, queue) => sum + queue.length, 0));
          expect(waiting.map((_, queue) => arbiter.lengthOf(queue))).toEqual(
            waiting.map((queue) => queue.length),
          );
        }
        while (arbiter.length > 0) fetch();
        expect(arbiter.next()).toBe(noSlot);
      }),
    );
  });

  it("lets a host with more queues share the device's", () => {
    const arbiter = new Arbiter(arbitrationSchema.parse({ queues: 2 }), 4);
    arbiter.push(0, 5);
    expect(arbiter.lengthOf(1)).toBe(1);
  });
});

describe("weighted round robin", () => {
  const classes = ["high", "medium", "low"];

  it("serves a round in the order high, medium, low, with zero-based weights", () => {
    const saturated = new Saturated(
      { mechanism: "weighted", classes, weights: { high: 2, medium: 1, low: 0 } },
      3,
    );
    expect(saturated.order(12)).toBe("000112000112");
  });

  it("gives each class its share within 1 % under saturation, and queues of a class equal parts of it", () => {
    const weights = { high: 15, medium: 7, low: 1 };
    const saturated = new Saturated(
      { mechanism: "weighted", burst: 2, weights, classes: [...classes, ...classes] },
      6,
    );
    const total = 26_000;
    for (let i = 0; i < total; i++) saturated.fetch();
    // 16 : 8 : 2 of 26, two queues each.
    for (const [queue, share] of [16, 8, 2, 16, 8, 2].entries()) {
      const expected = (total * share) / 26 / 2;
      expect(Math.abs(saturated.counts[queue] - expected) / expected).toBeLessThan(0.01);
    }
  });

  it("starves everything else while an urgent queue holds commands", () => {
    const saturated = new Saturated(
      { mechanism: "weighted", classes: ["urgent", "high", "urgent", "low"], weights: { high: 255 } },
      4,
    );
    for (let i = 0; i < 1000; i++) saturated.fetch();
    expect(saturated.counts).toEqual([500, 0, 500, 0]);
  });

  it("lets the others have the share of a class that holds nothing", () => {
    const arbiter = new Arbiter(
      arbitrationSchema.parse({ queues: 3, mechanism: "weighted", classes, weights: { high: 9 } }),
      8,
    );
    for (let slot = 0; slot < 4; slot++) arbiter.push(slot, 1 + (slot % 2));
    expect(Array.from({ length: 5 }, () => arbiter.next())).toEqual([0, 1, 2, 3, noSlot]);
  });

  it("ends a burst with the share of the class", () => {
    const saturated = new Saturated(
      { mechanism: "weighted", burst: 2, classes: ["high", "high", "low"], weights: { high: 1 } },
      3,
    );
    expect(saturated.order(9)).toBe("002112002");
  });
});
