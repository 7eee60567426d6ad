import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Op, operations, RequestTable } from "../../../src/base/request.js";
import { createModel } from "../../../src/model/create.js";
import type { ModelSpec } from "../../../src/model/schemas.js";
import { fixedSchema } from "../../../src/model/simple/schema.js";

interface Arrival {
  atNs: number;
  op: number;
}

interface Completion {
  /** Number of the arrival. */
  request: number;
  dueNs: number;
}

const fixed = (latency: unknown): ModelSpec => ({
  model: "fixed",
  parameters: fixedSchema.parse({ latency }),
});
const instant: ModelSpec = { model: "instant", parameters: {} };

/** Runs arrivals through a model, advanced to each arrival and to every instant of `extraNs` besides. */
function run(
  profile: ModelSpec,
  arrivals: readonly Arrival[],
  extraNs: readonly number[] = [],
): Completion[] {
  const requests = new RequestTable(Math.max(1, arrivals.length));
  const model = createModel({ profile, requests, seed: 1, sizeBytes: 2 ** 30 });
  const completions: Completion[] = [];
  const sink = {
    complete(slot: number, dueNs: number) {
      completions.push({ request: slot, dueNs });
    },
  };
  const pending = extraNs.toSorted((a, b) => b - a);
  arrivals.forEach(({ atNs, op }) => {
    while (pending.length > 0 && pending[pending.length - 1] < atNs) model.advance(pending.pop()!, sink);
    model.advance(atNs, sink);
    const slot = requests.acquire();
    requests.op[slot] = op;
    requests.arrivalNs[slot] = atNs;
    model.arrive(slot, atNs);
  });
  while (pending.length > 0) model.advance(pending.pop()!, sink);
  model.advance(Number.MAX_VALUE, sink);
  expect(model.nextEventNs()).toBe(Number.POSITIVE_INFINITY);
  return completions;
}

/** Arrivals in order of time, bursts at one instant among them. */
const arrivalLists = fc
  .array(
    fc.record({
      gapNs: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 3e6, noNaN: true })),
      op: fc.nat(operations.length - 1),
    }),
    { minLength: 1, maxLength: 60 },
  )
  .map((steps) => {
    let atNs = 0;
    return steps.map(({ gapNs, op }): Arrival => {
      atNs += gapNs;
      return { atNs, op };
    });
  });

const extraAdvances = fc.array(fc.double({ min: 0, max: 3e8, noNaN: true }), { maxLength: 60 });

const profiles = fc.oneof(
  fc.constant(instant),
  fc
    .record({ read: fc.nat(3000), write: fc.nat(3000), all: fc.nat(3000) })
    .map(({ read, write, all }) => fixed({ all: `${all}us`, read: `${read}us`, write: `${write}us` })),
);

describe("the simple models", () => {
  it("make every request due exactly its latency after its arrival, at any queue depth", () => {
    fc.assert(
      fc.property(profiles, arrivalLists, (profile, arrivals) => {
        const expected = arrivals
          .map(({ atNs, op }, request) => ({
            request,
            dueNs: atNs + (profile.model === "fixed" ? profile.parameters.latency[op] : 0),
          }))
          // A stable sort: ties stay in order of arrival.
          .sort((a, b) => a.dueNs - b.dueNs);
        expect(run(profile, arrivals)).toEqual(expected);
      }),
    );
  });

  it("decide bit for bit the same however time is sliced", () => {
    fc.assert(
      fc.property(profiles, arrivalLists, extraAdvances, (profile, arrivals, extraNs) => {
        expect(run(profile, arrivals, extraNs)).toEqual(run(profile, arrivals));
      }),
    );
  });

  it("have nothing to report before the next event they announced, and something at it", () => {
    const requests = new RequestTable(2);
    const model = createModel({ profile: fixed("1ms"), requests, seed: 1, sizeBytes: 2 ** 30 });
    const due: number[] = [];
    const sink = { complete: (_slot: number, dueNs: number) => due.push(dueNs) };
    expect(model.nextEventNs()).toBe(Number.POSITIVE_INFINITY);
    model.arrive(requests.acquire(), 500);
    expect(model.nextEventNs()).toBe(1_000_500);
    model.advance(1_000_499, sink);
    expect(due).toEqual([]);
    model.advance(1_000_500, sink);
    expect(due).toEqual([1_000_500]);
  });

  it("serve 256 requests at once as fast as one", () => {
    const arrivals = Array.from({ length: 256 }, () => ({ atNs: 7, op: Op.read }));
    expect(run(fixed("1ms"), arrivals).every(({ dueNs }) => dueNs === 1_000_007)).toBe(true);
  });

  it("go on working when slots are reused far beyond the table's capacity", () => {
    for (const profile of [instant, fixed("10us")]) {
      const requests = new RequestTable(3);
      const model = createModel({ profile, requests, seed: 1, sizeBytes: 2 ** 30 });
      let completed = 0;
      const sink = {
        complete(slot: number) {
          requests.release(slot);
          completed++;
        },
      };
      for (let i = 0; i < 1000; i++) {
        const nowNs = i * 5000;
        model.advance(nowNs, sink);
        const slot = requests.acquire();
        requests.op[slot] = Op.write;
        model.arrive(slot, nowNs);
      }
      model.advance(Number.MAX_VALUE, sink);
      expect(completed).toBe(1000);
    }
  });
});

describe("the latency of fixed", () => {
  /** Of the operations every device has. */
  const latencies = (latency: unknown) => fixedSchema.parse({ latency }).latency.slice(0, Op.append);

  it("is one for all operations, or one each", () => {
    expect(latencies("1ms")).toEqual([1e6, 1e6, 1e6, 1e6, 1e6]);
    expect(latencies(0)).toEqual([0, 0, 0, 0, 0]);
    expect(latencies({ all: "1ms", read: "100us", flush: 0 })).toEqual([1e5, 1e6, 0, 1e6, 1e6]);
  });

  it("is 0 for what is not named", () => {
    expect(latencies({ trim: "1s" })).toEqual([0, 0, 0, 1e9, 0]);
  });
});
