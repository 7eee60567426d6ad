import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Random } from "../../src/base/random.js";
import { type Operation, operations } from "../../src/base/request.js";
import { parseProbability, Trigger, type TriggerInput, triggerSchema } from "../../src/fault/trigger.js";
import { type Arrival, FaultBench } from "./support.js";

function newTrigger(input: TriggerInput, kindOps: readonly Operation[] = operations): Trigger {
  return new Trigger(triggerSchema.parse(input), kindOps, new Random(1, "test"));
}

/** Which of the arrivals the trigger fires on, by index. */
function firedOn(trigger: Trigger, arrivals: readonly Arrival[]): number[] {
  const bench = new FaultBench();
  return arrivals.flatMap((arrival, index) => {
    const slot = bench.place(arrival);
    const fires = trigger.fires(bench.requests, slot, index);
    bench.requests.release(slot);
    return fires ? [index] : [];
  });
}

/** The trigger's definition, said without counters: filter, skip, choose, limit. Chance is left out. */
function oracle(
  { ops, ranges, queue, after = 0, nth, every, times }: TriggerInput,
  arrivals: readonly Arrival[],
) {
  const overlaps = ({ op, offsetBytes = 0, lengthBytes = 0 }: Arrival) =>
    ranges === undefined ||
    (op !== "flush" &&
      ranges.some(({ offset, length }) => {
        // Two stretches overlap when they have a byte in common; small numbers, so the bytes are walked.
        for (let byte = offsetBytes; byte < offsetBytes + lengthBytes; byte++) {
          if (byte >= Number(offset) && byte < Number(offset) + Number(length)) return true;
        }
        return false;
      }));
  const matched = [...arrivals.entries()].filter(
    ([, arrival]) =>
      (ops?.includes(arrival.op) ?? true) &&
      (queue === undefined || arrival.queue === queue) &&
      overlaps(arrival),
  );
  const chosen = matched.slice(after).filter((_, index) => {
    if (nth !== undefined) return index + 1 === nth;
    return every === undefined || (index + 1) % every === 0;
  });
  return { matched: matched.length, hits: chosen.slice(0, times).map(([index]) => index) };
}

const arrival = fc.record({
  op: fc.constantFrom<Operation>(...operations),
  offsetBytes: fc.nat(40),
  lengthBytes: fc.integer({ min: 1, max: 12 }),
  queue: fc.nat(2),
});

const triggerInput: fc.Arbitrary<TriggerInput> = fc
  .record(
    {
      ops: fc.subarray([...operations], { minLength: 1 }),
      ranges: fc.array(fc.record({ offset: fc.nat(50), length: fc.integer({ min: 1, max: 10 }) }), {
        minLength: 1,
        maxLength: 3,
      }),
      queue: fc.nat(2),
      after: fc.nat(6),
      times: fc.integer({ min: 1, max: 4 }),
      choice: fc.oneof(
        fc.record({ nth: fc.integer({ min: 1, max: 6 }) }),
        fc.record({ every: fc.integer({ min: 1, max: 4 }) }),
      ),
    },
    { requiredKeys: [] },
  )
  .map(({ choice, ...rest }): TriggerInput => ({ ...rest, ...choice }))
  .filter((input) => triggerSchema.safeParse(input).success);

describe("a trigger fires as its definition says", () => {
  test("for every combination of conditions and every order of arrivals", () => {
    fc.assert(
      fc.property(triggerInput, fc.array(arrival, { maxLength: 60 }), (input, arrivals) => {
        const trigger = newTrigger(input);
        const fired = firedOn(trigger, arrivals);
        const expected = oracle(input, arrivals);
        expect(fired).toEqual(expected.hits);
        expect(trigger.matched).toBe(expected.matched);
        expect(trigger.hits).toBe(expected.hits.length);
        expect(trigger.firstHit()?.timeNs).toBe(expected.hits.at(0));
        expect(trigger.lastHit()?.timeNs).toBe(expected.hits.at(-1));
        const bytes = expected.hits.reduce((sum, index) => sum + (arrivals[index].lengthBytes ?? 0), 0);
        expect(trigger.affectedBytes).toBe(bytes);
      }),
      { numRuns: 500 },
    );
  });

  test("a spent trigger never fires again, and says so", () => {
    fc.assert(
      fc.property(triggerInput, fc.array(arrival, { maxLength: 60 }), (input, arrivals) => {
        const trigger = newTrigger(input);
        firedOn(trigger, arrivals);
        fc.pre(trigger.isSpent);
        expect(firedOn(trigger, arrivals)).toEqual([]);
      }),
    );
  });

  test("without ops it means those of the kind", () => {
    const arrivals = operations.map((op): Arrival => ({ op }));
    expect(firedOn(newTrigger({}, ["read", "flush"]), arrivals)).toEqual([0, 2]);
  });

  test("with ranges it never means a flush, which covers no bytes", () => {
    const everything = [{ offset: 0, length: "1P" }];
    const arrivals: Arrival[] = [{ op: "flush" }, { op: "write" }];
    expect(firedOn(newTrigger({ ranges: everything }), arrivals)).toEqual([1]);
  });

  test("ranges are exact to the byte, far out on a large device", () => {
    const offset = 2 ** 44;
    const trigger = () => newTrigger({ ranges: [{ offset: "16T", length: 1 }] });
    const at = (offsetBytes: number, lengthBytes: number): Arrival[] => [
      { op: "read", offsetBytes, lengthBytes },
    ];
    expect(firedOn(trigger(), at(offset - 512, 512))).toEqual([]);
    expect(firedOn(trigger(), at(offset - 512, 513))).toEqual([0]);
    expect(firedOn(trigger(), at(offset, 1))).toEqual([0]);
    expect(firedOn(trigger(), at(offset + 1, 512))).toEqual([]);
  });
});

describe("probability", () => {
  test.each([
    [0.1, 0.1],
    ["0.1", 0.1],
    ["10%", 0.1],
    ["0.5%", 0.005],
    ["1:10", 0.1],
    [0, 0],
    [1, 1],
    ["100%", 1],
  ])("%s is %d", (written, share) => {
    expect(parseProbability(written)).toBeCloseTo(share, 12);
  });

  test.each(["", "ten", "-1", "101%", "2:1", "1:0", "0:0", "1:10%", 1.01, -0.1, Number.NaN])(
    "%s is no share",
    (written) => {
      expect(parseProbability(written)).toBeNaN();
    },
  );

  // Seed 1. A binomial's deviation beyond 4.5 sigma has a chance under 1e-5; the seed is fixed, so there is no flake.
  test.each(["1:1000", "1%", "10%", 0.5, 0.9])(
    "hits the share of requests that was asked for: %s",
    (probability) => {
      const requests = 200_000;
      const trigger = newTrigger({ probability });
      const bench = new FaultBench();
      const slot = bench.place({ op: "read" });
      for (let i = 0; i < requests; i++) trigger.fires(bench.requests, slot, i);

      const share = parseProbability(probability);
      const sigma = Math.sqrt(requests * share * (1 - share));
      expect(trigger.matched).toBe(requests);
      expect(Math.abs(trigger.hits - requests * share)).toBeLessThan(4.5 * sigma);
    },
  );

  test("0 never fires and 1 always does", () => {
    const arrivals = Array.from({ length: 1000 }, (): Arrival => ({ op: "write" }));
    expect(firedOn(newTrigger({ probability: 0 }), arrivals)).toHaveLength(0);
    expect(firedOn(newTrigger({ probability: 1 }), arrivals)).toHaveLength(1000);
  });

  test("hits are independent: a run of them is as long as chance makes it", () => {
    const trigger = newTrigger({ probability: 0.5 });
    const bench = new FaultBench();
    const slot = bench.place({ op: "read" });
    const pairs = 100_000;
    let both = 0;
    for (let i = 0; i < pairs; i++) {
      const first = trigger.fires(bench.requests, slot, i);
      if (trigger.fires(bench.requests, slot, i) && first) both++;
    }
    // Seed 1. A quarter of the pairs, within 4.5 sigma of the binomial.
    expect(Math.abs(both - pairs / 4)).toBeLessThan(4.5 * Math.sqrt(pairs * 0.25 * 0.75));
  });
});
