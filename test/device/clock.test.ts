/** Clocks: the live one against the real time it claims to keep, the virtual one against its own rules. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { LiveClock, type LiveClockOptions } from "../../src/device/live-clock.js";
import { VirtualClock } from "../../src/device/virtual-clock.js";

const ms = 1e6;

/** An addon of a system without the native timer. */
const withoutTimer = {};

/** Runs a module in a process of its own to its end. */
function runModule(source: string): Promise<{ status: number; stdout: string; stderr: string }> {
  const liveClock = JSON.stringify(join(import.meta.dirname, "../../src/device/live-clock.ts"));
  const module = `import { LiveClock } from ${liveClock};\n${source}`;
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ["--import", "tsx", "--input-type=module", "-e", module],
      { timeout: 25_000 },
      (error, stdout, stderr) => {
        resolve({ status: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
      },
    );
  });
}

describe.each<[string, LiveClockOptions]>([
  ["the native timer", {}],
  ["the native timer, awake before the deadline", { timing: "hybrid" }],
  ["the native timer, always awake", { timing: "spin" }],
  ["setTimeout", { native: withoutTimer }],
])("the live clock on %s", (_name, options) => {
  function liveClock(): LiveClock {
    const clock = new LiveClock(options);
    onTestFinished(() => clock.close());
    return clock;
  }

  /** Resolves with the time at which the deadline was met. */
  function met(clock: LiveClock): Promise<number> {
    return new Promise((resolve) => {
      clock.onDeadline = () => resolve(clock.nowNs());
    });
  }

  test("begins at power-on and never goes back", () => {
    const clock = liveClock();
    let last = clock.nowNs();
    expect(last).toBeGreaterThanOrEqual(0);
    for (let i = 0; i < 10_000; i++) {
      const now = clock.nowNs();
      expect(now >= last).toBe(true);
      last = now;
    }
  });

  test("never meets a deadline early, however fractional it is", async () => {
    const clock = liveClock();
    for (let i = 0; i < 100; i++) {
      const deadlineNs = clock.nowNs() + (i % 10) * 0.15 * ms + i / 100;
      const time = met(clock);
      clock.arm(deadlineNs);
      expect(await time).toBeGreaterThanOrEqual(deadlineNs);
    }
  });

  test("meets a deadline in the past soon, but not before arm returns", async () => {
    const clock = liveClock();
    const order: string[] = [];
    const done = new Promise<void>((resolve) => {
      clock.onDeadline = () => {
        order.push("met");
        resolve();
      };
    });
    clock.arm(-1);
    order.push("armed");
    await done;
    expect(order).toEqual(["armed", "met"]);
  });

  test("holds one deadline: arming replaces it, whether sooner or later", async () => {
    const clock = liveClock();
    const times: number[] = [];
    const lastNs = clock.nowNs() + 12 * ms;
    await new Promise<void>((resolve) => {
      clock.onDeadline = () => {
        times.push(clock.nowNs());
        if (times.length === 1) clock.arm(lastNs);
        else resolve();
      };
      clock.arm(clock.nowNs() + 1 * ms);
      clock.arm(clock.nowNs() + 3600e9);
      clock.arm(clock.nowNs() + 6 * ms);
    });
    expect(times).toHaveLength(2);
    expect(times[0]).toBeGreaterThanOrEqual(6 * ms);
    expect(times[1]).toBeGreaterThanOrEqual(lastNs);
  });

  test("can be armed for the same instant again after it was met", async () => {
    const clock = liveClock();
    for (let i = 0; i < 2; i++) {
      const time = met(clock);
      clock.arm(1);
      expect(await time).toBeGreaterThan(1);
    }
  });

  test("meets nothing once disarmed or closed", async () => {
    const disarmed = liveClock();
    const closed = liveClock();
    const witness = liveClock();
    const metBy: string[] = [];
    disarmed.onDeadline = () => metBy.push("disarmed");
    closed.onDeadline = () => metBy.push("closed");
    disarmed.arm(disarmed.nowNs() + 1 * ms);
    closed.arm(closed.nowNs() + 1 * ms);
    disarmed.arm(Number.POSITIVE_INFINITY);
    closed.close();
    closed.arm(closed.nowNs());
    const time = met(witness);
    witness.arm(witness.nowNs() + 5 * ms);
    await time;
    expect(metBy).toEqual([]);
  });
});

describe("the live clock and its process", () => {
  test("an idle clock does not keep the process alive, one that was met is idle", async () => {
    const result = await runModule(`
      new LiveClock();
      const met = new LiveClock();
      met.onDeadline = () => process.stdout.write("met");
      met.arm(met.nowNs() + ${2 * ms});
      const disarmed = new LiveClock();
      disarmed.arm(disarmed.nowNs() + 3600e9);
      disarmed.arm(Infinity);
    `);
    // The armed one did keep it alive until its deadline.
    expect(result).toMatchObject({ status: 0, stdout: "met" });
  });

  test("an exception in the deadline's callback is an uncaught one, not lost", async () => {
    const result = await runModule(`
      const clock = new LiveClock();
      clock.onDeadline = () => { throw new Error("seen by everybody"); };
      clock.arm(0);
    `);
    expect(result.status).not.toBe(0);
    expect(result.stderr).toContain("seen by everybody");
  });

  test("clocks run in worker threads, which end cleanly whatever their clocks are doing", async () => {
    // In a process of its own: a handle left behind in a worker's event loop would abort all of it.
    const result = await runModule(`
      import { once } from "node:events";
      import { Worker } from "node:worker_threads";
      // Node 20 does not hand the loader for TypeScript on to workers: each registers its own.
      const file = ${JSON.stringify(join(import.meta.dirname, "clock.worker.ts"))};
      const entry = 'import("tsx/esm/api").then(({ register }) => (register(), import(' + JSON.stringify(file) + ")))";
      const workers = [1, 2, 3].map(() => new Worker(entry, { eval: true, execArgv: [] }));
      const times = await Promise.all(workers.map(async (worker) => (await once(worker, "message"))[0]));
      await Promise.all(workers.map((worker) => worker.terminate()));
      process.stdout.write(times.every((timeNs) => timeNs >= ${ms}) ? "all on time" : String(times));
    `);
    expect(result).toEqual({ status: 0, stdout: "all on time", stderr: "" });
  });
});

describe("the virtual clock", () => {
  test("meets every deadline up to the target exactly on time, those armed on the way too", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 1000 }), { maxLength: 50 }),
        fc.nat(60_000),
        (gapsNs, targetNs) => {
          const clock = new VirtualClock();
          const due: number[] = [];
          let sum = 0;
          for (const gapNs of gapsNs) {
            sum += gapNs;
            due.push(sum);
          }
          const met: number[] = [];
          clock.onDeadline = () => {
            met.push(clock.nowNs());
            clock.arm(due[met.length] ?? Number.POSITIVE_INFINITY);
          };
          clock.arm(due[0] ?? Number.POSITIVE_INFINITY);
          clock.advanceTo(targetNs);
          expect(met).toEqual(due.filter((time) => time <= targetNs));
          expect(clock.nowNs()).toBe(targetNs);
          clock.run();
          expect(met).toEqual(due);
        },
      ),
    );
  });

  test("runs to a limit and stays at the last deadline met", () => {
    const clock = new VirtualClock();
    clock.onDeadline = () => clock.arm(clock.nowNs() + 10);
    clock.arm(10);
    clock.run(35);
    expect(clock.nowNs()).toBe(30);
    expect(clock.nextDeadlineNs).toBe(40);
  });

  test("meets a deadline in the past at the present", () => {
    const clock = new VirtualClock(100);
    const met: number[] = [];
    clock.onDeadline = () => met.push(clock.nowNs());
    clock.arm(50);
    clock.run();
    expect(met).toEqual([100]);
  });

  test("meets nothing once disarmed or closed", () => {
    const clock = new VirtualClock();
    clock.onDeadline = () => expect.fail("nothing is armed");
    clock.arm(5);
    clock.arm(Number.POSITIVE_INFINITY);
    clock.advanceTo(10);
    clock.arm(15);
    clock.close();
    clock.advanceTo(20);
  });

  test("notices a device that makes no progress in time, instead of running for ever", () => {
    const clock = new VirtualClock();
    clock.onDeadline = () => clock.arm(7);
    clock.arm(7);
    expect(() => clock.run()).toThrow("makes progress in time");
  });

  test("refuses to go back", () => {
    const clock = new VirtualClock(10);
    expect(() => clock.advanceTo(9)).toThrow("never goes back");
  });
});

test("a clock for rehearsals skips to its deadline and meets it, once", () => {
  const clock = new LiveClock();
  onTestFinished(() => clock.close());
  let met = 0;
  clock.onDeadline = () => met++;
  expect(clock.meetDeadline()).toBe(false);
  clock.skip(3600e9);
  const deadlineNs = clock.nowNs() + 3600e9;
  clock.arm(deadlineNs);
  expect(clock.meetDeadline()).toBe(true);
  expect(met).toBe(1);
  expect(clock.nowNs()).toBeGreaterThanOrEqual(deadlineNs);
  expect(clock.meetDeadline()).toBe(false);
});
