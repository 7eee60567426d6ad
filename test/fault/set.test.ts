import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BlkError } from "../../src/base/errors.js";
import { type Operation, operations } from "../../src/base/request.js";
import { Status } from "../../src/base/status.js";
import { noHolder } from "../../src/fault/define.js";
import { FaultBench } from "./support.js";

const read = { op: "read" } as const;

describe("judging requests", () => {
  test("without faults every request passes untouched", () => {
    const bench = new FaultBench();
    expect(bench.judge(read)).toMatchObject({ status: Status.ok, delayNs: 0, holder: noHolder, hits: 0 });
  });

  test("a verdict carries nothing over to the next request", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "delay", options: { delay: "1ms" }, trigger: { times: 1 } });
    bench.faults.add({ kind: "hang", trigger: { times: 1 } });
    bench.faults.add({ kind: "error", trigger: { times: 1 } });
    expect(bench.judge(read)).toMatchObject({ status: Status.io, delayNs: 1e6, holder: 1, hits: 3 });
    expect(bench.judge(read)).toMatchObject({ status: Status.ok, delayNs: 0, holder: noHolder, hits: 0 });
  });

  test("delays of several faults add up", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "delay", options: { delay: "5ms" } });
    bench.faults.add({ kind: "delay", options: { delay: "250us" }, trigger: { ops: ["flush"] } });
    expect(bench.judge(read).delayNs).toBe(5_000_000);
    expect(bench.judge({ op: "flush" }).delayNs).toBe(5_250_000);
  });

  test("an error ends the chain: faults behind it neither act nor count", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "error", options: { status: "nospc" }, trigger: { ops: ["write"] } });
    bench.faults.add({ kind: "delay", options: { delay: "5ms" } });
    expect(bench.judge({ op: "write" })).toMatchObject({ status: Status.nospc, delayNs: 0, hits: 1 });
    expect(bench.judge(read)).toMatchObject({ status: Status.ok, delayNs: 5e6 });
    expect(bench.faults.get("delay-1")).toMatchObject({ matched: 1, hits: 1 });
  });

  test("a flush can fail and be late, unlike in tools that know no flush", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "delay", trigger: { ops: ["flush"], nth: 3 }, options: { delay: "5ms" } });
    bench.faults.add({ kind: "error", trigger: { ops: ["flush"], nth: 3 } });
    const verdicts = [1, 2, 3, 4].map(() => bench.judge({ op: "flush" }));
    expect(verdicts.map(({ status }) => status)).toEqual([0, 0, Status.io, 0]);
    expect(verdicts.map(({ delayNs }) => delayNs)).toEqual([0, 0, 5e6, 0]);
  });
});

describe("holding and releasing", () => {
  test("a hang holds what it matches until it is released, and stays set", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "hang", trigger: { ops: ["read"] } });
    const { holder } = bench.judge(read);
    bench.judge(read);
    expect(bench.judge({ op: "write" }).holder).toBe(noHolder);
    expect(bench.faults.get("hang-1").held).toBe(2);

    expect(bench.faults.release("hang-1").held).toBe(2);
    expect(bench.released).toEqual([holder]);
    expect(bench.faults.get("hang-1")).toMatchObject({ held: 0, hits: 2, state: "armed" });
    expect(bench.judge(read).holder).toBe(holder);
  });

  test("a request is held by one fault only, the first", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "hang", name: "a", trigger: { times: 1 } });
    bench.faults.add({ kind: "hang", name: "b" });
    expect(bench.judge(read).holder).toBe(0);
    expect(bench.faults.get("b").matched).toBe(0);
    expect(bench.judge(read).holder).toBe(1);
  });

  test("a held request may fail too: the error shows once it is released", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "hang" });
    bench.faults.add({ kind: "error", options: { status: "timeout" } });
    expect(bench.judge(read)).toMatchObject({ holder: 0, status: Status.timeout });
  });

  test("removing a fault releases what it holds", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "hang" });
    bench.judge(read);
    expect(bench.faults.remove("hang-1")).toMatchObject({ held: 1, hits: 1 });
    expect(bench.released).toEqual([0]);
    expect(bench.faults.list()).toEqual([]);
    expect(bench.judge(read).holder).toBe(noHolder);
  });

  test("reset removes everything, releases everything, and works on nothing as well", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "hang", trigger: { ops: ["read"] } });
    bench.faults.add({ kind: "hang", trigger: { ops: ["write"] } });
    bench.faults.add({ kind: "error" });
    bench.judge(read);
    bench.judge({ op: "write" });
    expect(bench.faults.reset().map(({ name }) => name)).toEqual(["hang-1", "hang-2", "error-1"]);
    expect(bench.released).toEqual([0, 1]);
    expect(bench.faults.reset()).toEqual([]);
    expect(bench.released).toEqual([0, 1]);
  });

  test("requests of a connection that has gone are no longer counted as held", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "hang" });
    const { holder } = bench.judge(read);
    bench.faults.forget(holder);
    expect(bench.faults.get("hang-1").held).toBe(0);
  });

  test("a holder's id is never given to another fault", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "hang" });
    const before = bench.judge(read).holder;
    bench.faults.reset();
    bench.faults.add({ kind: "hang" });
    expect(bench.judge(read).holder).not.toBe(before);
  });
});

describe("reports", () => {
  test("tell the evidence: matches, hits, bytes, the first and the latest hit", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "error", trigger: { ops: ["write"], every: 2 } });
    for (let i = 1; i <= 5; i++) {
      bench.judge({ op: "write", offsetBytes: i * 8192, lengthBytes: 512 * i, queue: i, atNs: i * 100 });
    }
    expect(bench.faults.get("error-1")).toMatchObject({
      state: "armed",
      matched: 5,
      hits: 2,
      affectedBytes: 1024 + 2048,
      first: { timeNs: 200, op: "write", offsetBytes: 16384, lengthBytes: 1024, queue: 2 },
      last: { timeNs: 400, op: "write", offsetBytes: 32768, lengthBytes: 2048, queue: 4 },
      hostView: { "nbd-kernel": "EIO", "nbd-user": "EIO", ublk: "EIO" },
    });
  });

  test("can be sent back as the fault they tell of", () => {
    const bench = new FaultBench();
    const trigger = { ops: ["read"], ranges: [{ offset: "1M", length: 4096 }], probability: "1:10", seed: 7 };
    const options = { distribution: "lognormal", median: "2ms", sigma: 0.5 };
    const { kind, name, ...first } = bench.faults.add({ kind: "delay", name: "slow", trigger, options });
    expect(first.trigger).toMatchObject(trigger);
    expect(first.options).toEqual(options);

    const again = new FaultBench().faults.add({ kind, name, trigger: first.trigger, options: first.options });
    expect(again).toEqual({ kind, name, ...first });
  });

  test("say when a fault is spent, so that nobody waits for more", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "error", name: "once", trigger: { ops: ["read"], times: 1 } });
    bench.faults.add({ kind: "error", name: "third", trigger: { ops: ["write"], nth: 3 } });
    bench.judge(read);
    bench.judge({ op: "write" });
    expect(bench.faults.list().map(({ state }) => state)).toEqual(["spent", "armed"]);
    bench.judge({ op: "write" });
    bench.judge({ op: "write" });
    expect(bench.faults.get("third").state).toBe("spent");
  });

  test("a disarmed fault counts nothing until it is armed", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "error", trigger: { armed: false, nth: 2 } });
    for (let i = 0; i < 5; i++) expect(bench.judge(read).status).toBe(Status.ok);
    expect(bench.faults.get("error-1")).toMatchObject({ state: "disarmed", matched: 0 });
    expect(bench.faults.arm("error-1", true).state).toBe("armed");
    expect([bench.judge(read).status, bench.judge(read).status]).toEqual([Status.ok, Status.io]);
  });
});

describe("names", () => {
  test("are made from the kind and the lowest free number", () => {
    const { faults } = new FaultBench();
    expect([faults.add({ kind: "hang" }).name, faults.add({ kind: "hang" }).name]).toEqual([
      "hang-1",
      "hang-2",
    ]);
    faults.remove("hang-1");
    expect(faults.add({ kind: "hang" }).name).toBe("hang-1");
  });

  test("are unique", () => {
    const { faults } = new FaultBench();
    faults.add({ kind: "hang", name: "mine" });
    expect(codeOf(() => faults.add({ kind: "error", name: "mine" }))).toBe("BLK_E_FAULT_EXISTS");
  });

  test("that are unknown are answered with those there are", () => {
    const { faults } = new FaultBench();
    faults.add({ kind: "hang", name: "mine" });
    for (const ask of [faults.get, faults.remove, faults.release]) {
      expect(() => ask.call(faults, "yours")).toThrowError(/no fault "yours"/);
    }
    expect(hintOf(() => faults.get("yours"))).toContain("mine");
  });

  test("the number of faults is bounded", () => {
    const { faults } = new FaultBench({ maxFaults: 2 });
    faults.add({ kind: "hang" });
    faults.add({ kind: "hang" });
    expect(codeOf(() => faults.add({ kind: "hang" }))).toBe("BLK_E_FAULT_LIMIT");
  });
});

describe("what is refused says where and why", () => {
  const cases: [what: string, spec: unknown, message: string][] = [
    ["no object", 5, "the fault must be an object; given 5"],
    ["no kind", {}, "kind must be one of error, delay, hang; given nothing"],
    ["an unknown kind", { kind: "explode" }, 'kind must be one of error, delay, hang; given "explode"'],
    [
      "an unknown field",
      { kind: "hang", when: 3 },
      'the fault has no field "when"; its fields are kind, name, trigger, options',
    ],
    ["a bad name", { kind: "hang", name: "a b" }, "name must be 1 to 64 letters"],
    [
      "an unknown trigger field",
      { kind: "hang", trigger: { nht: 3 } },
      'trigger has no field "nht"; its fields are ops, ranges, queue, probability, nth, every, after, times, seed, armed',
    ],
    [
      "nth 0",
      { kind: "hang", trigger: { nth: 0 } },
      "trigger.nth must be a whole number, 1 or more; given 0",
    ],
    [
      "nth as text",
      { kind: "hang", trigger: { nth: "3rd" } },
      'trigger.nth must be a whole number, 1 or more; given "3rd"',
    ],
    [
      "an unknown op",
      { kind: "hang", trigger: { ops: ["read", "sync"] } },
      "trigger.ops.1 must be one of read, write",
    ],
    ["no op at all", { kind: "hang", trigger: { ops: [] } }, "trigger.ops must name at least one operation"],
    [
      "a probability over 1",
      { kind: "hang", trigger: { probability: "110%" } },
      'trigger.probability must be 0 to 1, or a share such as "10%" or "1:10"; given "110%"',
    ],
    [
      "two alternatives",
      { kind: "hang", trigger: { nth: 3, every: 2 } },
      "trigger takes one of nth and every, not both",
    ],
    [
      "a bad size",
      { kind: "hang", trigger: { ranges: [{ offset: "1X", length: 1 }] } },
      'trigger.ranges.0.offset must be a size such as 4096 or "64K"; given "1X"',
    ],
    [
      "an empty range",
      { kind: "hang", trigger: { ranges: [{ offset: 0, length: 0 }] } },
      "trigger.ranges.0.length must be a size of at least 1",
    ],
    [
      "a range beyond the device, which could never fire",
      { kind: "hang", trigger: { ranges: [{ offset: "1T", length: 512 }] } },
      "trigger.ranges.0 covers bytes 1099511627776 to 1099511628288, but the device ends at 1T",
    ],
    [
      "a range for flushes, which could never fire",
      { kind: "hang", trigger: { ops: ["flush"], ranges: [{ offset: 0, length: 512 }] } },
      "trigger can never match: a flush has no range",
    ],
    [
      "an unknown status",
      { kind: "error", options: { status: "ok" } },
      "options.status must be one of io, medium, nospc",
    ],
    [
      "an unknown option",
      { kind: "hang", options: { delay: "5ms" } },
      'options takes no fields, so not "delay"',
    ],
    ["a delay without a time", { kind: "delay" }, "options need either delay"],
    [
      "half a distribution",
      { kind: "delay", options: { distribution: "lognormal", median: "5ms" } },
      "options need either delay",
    ],
    [
      "a delay of two sorts",
      { kind: "delay", options: { delay: "5ms", sigma: 1 } },
      "options take either delay or",
    ],
    [
      "a delay without a unit",
      { kind: "delay", options: { delay: 5 } },
      'options.delay must be a duration with its unit such as "100us" or "5ms", at most 1h; given 5',
    ],
    [
      "a delay over an hour",
      { kind: "delay", options: { delay: "61min" } },
      "options.delay must be a duration",
    ],
  ];
  test.each(cases)("%s", (_what, spec, message) => {
    const { faults } = new FaultBench();
    expect(codeOf(() => faults.add(spec))).toBe("BLK_E_FAULT_INVALID");
    expect(() => faults.add(spec)).toThrowError(
      expect.objectContaining({ message: expect.stringContaining(message) }),
    );
    expect(faults.list()).toEqual([]);
  });

  test("releasing a fault that cannot hold", () => {
    const { faults } = new FaultBench();
    faults.add({ kind: "error" });
    expect(() => faults.release("error-1")).toThrowError(/of kind error, which holds nothing/);
  });
});

describe("repeatability", () => {
  const arrivals = fc.array(
    fc.record({
      op: fc.constantFrom<Operation>(...operations),
      offsetBytes: fc.nat(2 ** 20),
      queue: fc.nat(3),
    }),
    { maxLength: 200 },
  );
  const spec = fc.record({
    kind: fc.constant("delay"),
    trigger: fc.record({ probability: fc.double({ min: 0, max: 1, noNaN: true }) }),
    options: fc.constant({ distribution: "lognormal", median: "1ms", sigma: 1 }),
  });

  test("same seed and same arrivals give the same verdicts", () => {
    fc.assert(
      fc.property(fc.nat(), fc.array(spec, { maxLength: 4 }), arrivals, (seed, specs, requests) => {
        const run = () => {
          const bench = new FaultBench({ seed });
          for (const fault of specs) bench.faults.add(fault);
          return requests.map((request) => bench.judge(request));
        };
        expect(run()).toEqual(run());
      }),
    );
  });

  test("a fault more does not change the decisions of another", () => {
    fc.assert(
      fc.property(fc.nat(), spec, spec, arrivals, (seed, fault, other, requests) => {
        const run = (others: object[]) => {
          const bench = new FaultBench({ seed });
          for (const one of others) bench.faults.add(one);
          bench.faults.add({ ...fault, name: "watched" });
          for (const [index, request] of requests.entries()) bench.judge({ ...request, atNs: index });
          return bench.faults.get("watched");
        };
        expect(run([other])).toEqual(run([]));
      }),
    );
  });

  test("another seed decides differently, unless the fault has a seed of its own", () => {
    const run = (seed: number, name: string, own?: number) => {
      const bench = new FaultBench({ seed });
      bench.faults.add({ kind: "error", name, trigger: { probability: 0.5, ...(own && { seed: own }) } });
      return Array.from({ length: 64 }, () => bench.judge(read).status).join("");
    };
    expect(run(1, "a")).not.toBe(run(2, "a"));
    expect(run(1, "a")).not.toBe(run(1, "b"));
    expect(run(1, "a", 9)).toBe(run(2, "b", 9));
  });
});

function codeOf(action: () => unknown): string {
  return errorOf(action).code;
}

function hintOf(action: () => unknown): string {
  return errorOf(action).hint;
}

function errorOf(action: () => unknown): BlkError {
  try {
    action();
  } catch (error) {
    if (error instanceof BlkError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

describe("the map of places where faults lie in wait", () => {
  const map = (bench: FaultBench, offsetBytes = 0, lengthBytes = 100_000) =>
    [...bench.faults.extents(offsetBytes, lengthBytes)].map(({ lengthBytes, opMask }) => [
      lengthBytes,
      opMask,
    ]);

  test("is empty without faults", () => {
    expect(map(new FaultBench())).toEqual([[100_000, 0]]);
  });

  test("follows ranges and operations, overlaid", () => {
    const bench = new FaultBench();
    const ranges = [{ offset: 1000, length: 2000 }];
    bench.faults.add({ kind: "error", trigger: { ops: ["read"], ranges } });
    bench.faults.add({
      kind: "error",
      trigger: { ops: ["write"], ranges: [{ offset: 2000, length: 2000 }] },
    });
    expect(map(bench)).toEqual([
      [1000, 0],
      [1000, 1],
      [1000, 3],
      [1000, 2],
      [96_000, 0],
    ]);
    expect(map(bench, 1500, 700)).toEqual([
      [500, 1],
      [200, 3],
    ]);
  });

  test("covers everything for a fault without ranges, and leaves out what is disarmed or spent", () => {
    const bench = new FaultBench();
    bench.faults.add({ kind: "error", name: "once", trigger: { ops: ["read"], times: 1 } });
    bench.faults.add({ kind: "delay", name: "slow", trigger: { ops: ["write"] }, options: { delay: "1ms" } });
    expect(map(bench)).toEqual([[100_000, 3]]);
    bench.judge(read);
    bench.faults.arm("slow", false);
    expect(map(bench)).toEqual([[100_000, 0]]);
  });
});

test("an error within a range says which byte of the request comes first in it", () => {
  const bench = new FaultBench();
  const ranges = [
    { offset: 9000, length: 10 },
    { offset: 6000, length: 10 },
  ];
  bench.faults.add({ kind: "error", name: "latent", trigger: { ranges } });
  expect(bench.judge({ op: "read", offsetBytes: 4096, lengthBytes: 8192 }).errorOffsetBytes).toBe(6000);
  expect(bench.judge({ op: "read", offsetBytes: 6005, lengthBytes: 512 }).errorOffsetBytes).toBe(6005);
  expect(bench.judge({ op: "read", offsetBytes: 0 }).errorOffsetBytes).toBe(-1);
  bench.faults.remove("latent");
  bench.faults.add({ kind: "error" });
  expect(bench.judge({ op: "read", offsetBytes: 4096, lengthBytes: 8192 }).errorOffsetBytes).toBe(-1);
});
