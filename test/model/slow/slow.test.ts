import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Random } from "../../../src/base/random.js";
import { Op, RequestTable } from "../../../src/base/request.js";
import { createModel } from "../../../src/model/create.js";
import { fixedSchema } from "../../../src/model/simple/schema.js";
import { createPhases, Phase, type PhasedEntry } from "../../../src/model/slow/phases.js";
import { type SlowPreset, slowPresets } from "../../../src/model/slow/presets.js";
import { slowSchema } from "../../../src/model/slow/schema.js";
import { loadProfile } from "../../../src/profile/load.js";
import { simulate } from "../../../src/simulate/simulate.js";
import { parseJobFile } from "../../../src/workload/job-file.js";

const ms = 1e6;
const second = 1e9;
const hour = 3600e9;

/** A device of 1 ms whose requests come one at a time; due times by arrival. */
function run(
  slow: unknown,
  arrivals: readonly number[],
  extraNs: readonly number[] = [],
  op: number = Op.read,
) {
  const requests = new RequestTable(Math.max(1, arrivals.length));
  const profile = {
    model: "fixed" as const,
    parameters: fixedSchema.parse({ latency: "1ms" }),
    slow: slowSchema.parse(slow),
  };
  const model = createModel({ profile, requests, seed: 1, sizeBytes: 2 ** 30 });
  const due = new Array<number>(arrivals.length).fill(Number.NaN);
  let last = 0;
  const sink = {
    complete(slot: number, dueNs: number) {
      expect(dueNs).toBeGreaterThanOrEqual(last);
      last = dueNs;
      due[slot] = dueNs;
    },
  };
  const extra = extraNs.toSorted((a, b) => b - a);
  for (const atNs of arrivals) {
    while (extra.length > 0 && extra[extra.length - 1] < atNs) model.advance(extra.pop()!, sink);
    model.advance(atNs, sink);
    const slot = requests.acquire();
    requests.op[slot] = op;
    requests.arrivalNs[slot] = atNs;
    model.arrive(slot, atNs);
  }
  // As the engine and the live device do: from one announced event to the next.
  for (let steps = 0; model.nextEventNs() < Number.POSITIVE_INFINITY; steps++) {
    expect(steps).toBeLessThan(10_000);
    const nextNs = model.nextEventNs();
    model.advance(nextNs, sink);
    expect(model.nextEventNs()).toBeGreaterThan(nextNs);
  }
  return due;
}

const phase = (at: string | 0, ratio: number | "stop") => ({ at, ratio });

describe("a device whose clock goes slow", () => {
  it("takes ratio times as long, from the moment on it is slow", () => {
    const slow = [{ kind: "timeline", phases: [phase("10ms", 4), phase("20ms", 1)] }];
    expect(run(slow, [0, 9.5 * ms, 12 * ms, 30 * ms]).map((ns) => ns / ms)).toEqual([1, 12, 16, 31]);
  });

  it("does a request's rest at the speed of each phase it lies in", () => {
    // Half a millisecond of work until 10 ms; the other half takes 2 ms.
    const slow = [{ kind: "timeline", phases: [phase("10ms", 4)] }];
    expect(run(slow, [9.5 * ms])[0]).toBe(12 * ms);
  });

  it("does nothing while it stands still, and goes on where it was", () => {
    const slow = [{ kind: "timeline", phases: [phase("10ms", "stop"), phase("3010ms", 1)] }];
    expect(run(slow, [9.5 * ms, 500 * ms, 4 * second]).map((ns) => ns / ms)).toEqual([3010.5, 3011, 4001]);
  });

  it("decides bit for bit the same however time is sliced", () => {
    const slow = [
      { kind: "episodes", between: { mean: "3ms" }, lasting: ["1ms", "4ms"], ratio: [2, 10] },
      { kind: "requests", probability: 0.3, ratio: 3, add: ["1ms", "2ms"] },
    ];
    const gaps = fc.array(fc.double({ min: 0, max: 3e6, noNaN: true }), { minLength: 1, maxLength: 40 });
    const extras = fc.array(fc.double({ min: 0, max: 1e8, noNaN: true }), { maxLength: 60 });
    fc.assert(
      fc.property(gaps, extras, (steps, extraNs) => {
        let nowNs = 0;
        const arrivals = steps.map((gapNs) => {
          nowNs += gapNs;
          return nowNs;
        });
        expect(run(slow, arrivals, extraNs)).toEqual(run(slow, arrivals));
      }),
    );
  });

  it("loses throughput as well as latency: a disk at a quarter of its speed does a quarter of the work", () => {
    const iops = (settings: string[]) => {
      const { jobs } = parseJobFile("[job]\nrw=randread\nbs=4k\niodepth=8\nnumber_ios=4000\n", { path: "j" });
      const profile = loadProfile("hdd-7200", { settings });
      return simulate({ profile, seed: 1, input: { kind: "workload", path: "j", jobs } }).report.iops;
    };
    const slow = iops(["slow=[{kind: timeline, phases: [{at: 0, ratio: 4}]}]"]);
    expect(slow / iops([])).toBeCloseTo(0.25, 6);
  });
});

describe("late requests", () => {
  it("are as many as the probability says, late by as much, and only of the operations named", () => {
    const arrivals = Array.from({ length: 20_000 }, (_, i) => i * ms);
    const slow = [{ kind: "requests", operations: ["read"], probability: 0.1, ratio: 3, add: "5ms" }];
    const took = run(slow, arrivals).map((ns, i) => Math.round((ns - arrivals[i]) / ms));
    expect(new Set(took)).toEqual(new Set([1, 8]));
    // The standard error of the share is 0.002.
    expect(took.filter((value) => value === 8).length / took.length).toBeCloseTo(0.1, 1);
    expect(
      new Set(run(slow, arrivals.slice(0, 1000), [], Op.write).map((ns, i) => ns - arrivals[i])).size,
    ).toBe(1);
  });
});

describe("presets", () => {
  const names = Object.keys(slowPresets) as SlowPreset[];

  it.each(names)("%s is a valid description and lets requests through", (name) => {
    expect(slowSchema.parse(name)).toEqual(slowSchema.parse([name]));
    const due = run(name, [0, 5 * ms, 10 * ms]);
    expect(due.every((ns) => Number.isFinite(ns))).toBe(true);
  });

  /** Walks the phases and adds up how long the device was slow, and how long it was watched. */
  function slowShare(name: SlowPreset, hours: number, seed = 1) {
    const [entry] = slowSchema.parse(name);
    const phases = createPhases(entry as PhasedEntry, new Random(seed, "test"));
    const current = new Phase();
    let slowNs = 0;
    const ratios: number[] = [];
    do {
      phases.next(current);
      if (current.ratio > 1) {
        slowNs += current.endNs - current.startNs;
        ratios.push(current.ratio);
      }
    } while (current.endNs < hours * hour);
    return { share: slowNs / current.endNs, ratios };
  }

  it.each([
    ["tail-at-store-hdd", 0.0022],
    ["tail-at-store-ssd", 0.0058],
  ] as const)("%s is slow in %f of all hours, at least twofold", (name, probability) => {
    const hours = 2_000_000;
    const { share, ratios } = slowShare(name, hours);
    // Four standard errors of a binomial share.
    expect(Math.abs(share - probability)).toBeLessThan(4 * Math.sqrt(probability / hours));
    expect(Math.min(...ratios)).toBeGreaterThanOrEqual(2);
    // Pareto of shape 1.5 from 2: the median is 2 * 2^(1 / 1.5).
    const sorted = ratios.toSorted((a, b) => a - b);
    expect(sorted[Math.floor(sorted.length / 2)] / (2 * 2 ** (1 / 1.5))).toBeCloseTo(1, 1);
  });

  it("tail-at-store-ssd makes a RAID of four slow in 1 - (1 - p)^4 of all hours", () => {
    const hours = 200_000;
    const slowHours = new Set<number>();
    for (let drive = 1; drive <= 4; drive++) {
      const [entry] = slowSchema.parse("tail-at-store-ssd");
      const phases = createPhases(entry as PhasedEntry, new Random(drive, "test"));
      const current = new Phase();
      do {
        phases.next(current);
        if (current.ratio > 1) slowHours.add(Math.round(current.startNs / hour));
      } while (current.endNs < hours * hour);
    }
    const expected = 1 - (1 - 0.0058) ** 4;
    expect(Math.abs(slowHours.size / hours - expected)).toBeLessThan(4 * Math.sqrt(expected / hours));
  });

  it("fail-slow-chronic draws once per device, between twice and ten times", () => {
    const ratios = Array.from(
      { length: 200 },
      (_, seed) => slowShare("fail-slow-chronic", 1, seed).ratios[0],
    );
    expect(Math.min(...ratios)).toBeGreaterThanOrEqual(2);
    expect(Math.max(...ratios)).toBeLessThanOrEqual(10);
    expect(Math.max(...ratios) - Math.min(...ratios)).toBeGreaterThan(7);
  });

  it("can be named in a profile of any model, and refused in one sentence", () => {
    expect(loadProfile("hdd-7200", { settings: ["slow=hdd-retry"] }).slow).toHaveLength(1);
    expect(loadProfile("hdd-7200").slow).toEqual([]);
    expect(() => loadProfile("fixed", { settings: ["slow=fail-slow"] })).toThrow(/slow.*fail-slow/);
  });
});
