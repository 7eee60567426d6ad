/** The meeting point: what it decides, and when, on a virtual clock. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Op, type Operation, operations, type RequestSlot, RequestTable } from "../../src/base/request.js";
import { Status } from "../../src/base/status.js";
import type { RequestOwner } from "../../src/base/target.js";
import { Device } from "../../src/device/device.js";
import { DeviceStats } from "../../src/device/stats.js";
import { VirtualClock } from "../../src/device/virtual-clock.js";
import { FaultSet } from "../../src/fault/set.js";
import { createModel } from "../../src/model/create.js";
import { loadProfile } from "../../src/profile/load.js";
import { MemoryStore } from "../../src/store/memory.js";
import type { Store } from "../../src/store/store.js";

const sizeBytes = 1 << 20;

interface Answer {
  slot: RequestSlot;
  atNs: number;
  status: number;
}

/** Bytes of the store as a client would read them. */
function readBack(device: Device, offsetBytes: number, target: Uint8Array): number {
  const slot = device.requests.acquire();
  device.requests.offsetBytes[slot] = offsetBytes;
  const status = device.read(slot, 0, target);
  device.requests.release(slot);
  return status;
}

/** A device on a virtual clock with a client that notes its answers. */
function bench({
  capacity = 64,
  settings = ["latency=1ms"],
  store = new MemoryStore({ sizeBytes }) as Store,
} = {}) {
  const clock = new VirtualClock();
  const requests = new RequestTable(capacity);
  const faults = new FaultSet({
    seed: 1,
    requests,
    sizeBytes,
    onRelease: (holder) => device.release(holder),
  });
  const profile = loadProfile("fixed", { settings, size: "1M" });
  const stats = new DeviceStats();
  const device: Device = new Device({
    identity: { ...profile, isReadOnly: false },
    requests,
    store,
    model: createModel({ profile, requests, seed: 1, sizeBytes }),
    faults,
    clock,
    stats,
  });
  const answers: Answer[] = [];
  const owner: RequestOwner = {
    onCompletion(slot) {
      answers.push({ slot, atNs: clock.nowNs(), status: requests.status[slot] });
      requests.release(slot);
    },
    onCompletionsEnd() {},
  };
  const submit = (
    name: Operation,
    { offsetBytes = 0, lengthBytes = 4096, payload = null as Uint8Array | null, from = owner } = {},
  ) => {
    const slot = requests.acquire();
    requests.op[slot] = operations.indexOf(name);
    requests.flags[slot] = 0;
    requests.queue[slot] = 0;
    requests.offsetBytes[slot] = offsetBytes;
    requests.lengthBytes[slot] = name === "flush" ? 0 : lengthBytes;
    requests.arrivalNs[slot] = clock.nowNs();
    device.submit(slot, name === "write" ? (payload ?? new Uint8Array(lengthBytes)) : payload, from);
    return slot;
  };
  return { clock, requests, faults, device, store, stats, answers, submit, owner };
}

describe("time", () => {
  test("requests of a fixed device take their time each, however many there are", () => {
    const { clock, device, submit, answers } = bench();
    for (let i = 0; i < 64; i++) submit("read");
    device.pump();
    clock.run();
    expect(answers).toHaveLength(64);
    expect(new Set(answers.map(({ atNs }) => atNs))).toEqual(new Set([1_000_000]));
  });

  test("a completion never comes before submit has returned, even from an instant device", () => {
    const { device, submit, answers } = bench({ settings: ["latency=0"] });
    submit("read");
    expect(answers).toHaveLength(0);
    device.pump();
    expect(answers).toHaveLength(1);
  });

  test("arrivals stamped out of order count from the latest stamp seen", () => {
    const { clock, requests, device, submit, answers } = bench();
    clock.advanceTo(500);
    submit("read");
    const late = requests.acquire();
    requests.op[late] = Op.read;
    requests.arrivalNs[late] = 100;
    device.submit(late, null, {
      onCompletion: (slot) => answers.push({ slot, atNs: clock.nowNs(), status: 0 }),
      onCompletionsEnd() {},
    });
    device.pump();
    clock.run();
    expect(answers.map(({ atNs }) => atNs)).toEqual([1_000_500, 1_000_500]);
  });

  test("lateness is what the host added, latency what the client saw", () => {
    const { clock, device, submit, stats } = bench();
    submit("read");
    device.pump();
    // The host sleeps over the deadline: the timer fires 250 us late.
    clock.onDeadline = () => {};
    clock.advanceTo(1_250_000);
    device.pump();
    const { operations: byOperation, lateness } = stats.read();
    expect(lateness.maxNs).toBe(250_000);
    expect(byOperation.read.latency.maxNs).toBe(1_250_000);
    expect(byOperation.read).toMatchObject({ count: 1, bytes: 4096, errors: 0 });
  });
});

describe("a host that takes time for each reply", () => {
  /** 200 requests that fall due 1 us apart, and 3 us for each reply. */
  function busyBench() {
    const it = bench({ capacity: 256 });
    const { clock, requests, device } = it;
    let spentNs = 0;
    const virtualNowNs = clock.nowNs.bind(clock);
    clock.nowNs = () => virtualNowNs() + spentNs;
    const rounds: number[] = [];
    const replied: number[] = [];
    let inRound = 0;
    const owner: RequestOwner = {
      onCompletion(slot) {
        replied.push(clock.nowNs() - requests.dueNs[slot]);
        spentNs += 3_000;
        inRound++;
        requests.release(slot);
      },
      onCompletionsEnd() {
        rounds.push(inRound);
        inRound = 0;
      },
    };
    for (let i = 0; i < 200; i++) {
      clock.advanceTo(i * 1_000);
      it.submit("read", { from: owner });
    }
    device.pump();
    return { clock, rounds, replied };
  }

  test("sends what falls due meanwhile before the sockets have their turn, and what is ready with each round", () => {
    const { clock, rounds, replied } = busyBench();
    // The first is due at 1 ms; whatever its round and those after it take, nothing else is asked of the clock in between.
    clock.advanceTo(1_000_000);
    expect(replied).toHaveLength(200);
    expect(rounds.length).toBeGreaterThan(3);
    expect(Math.min(...replied)).toBeGreaterThanOrEqual(0);
  });
});

describe("what owners are told", () => {
  /** Notes what it is told, and may answer to it. */
  function listener(
    name: string,
    told: string[],
    requests: RequestTable,
    onEnd: () => void = () => {},
  ): RequestOwner {
    return {
      onCompletion(slot) {
        told.push(name);
        requests.release(slot);
      },
      onCompletionsEnd() {
        told.push(`${name} end`);
        onEnd();
      },
    };
  }

  test("each is told once that a round of completions is over, however they were mixed, unless it has gone", () => {
    const { clock, device, requests, submit } = bench();
    const told: string[] = [];
    const c = listener("c", told, requests);
    const a = listener("a", told, requests, () => device.abandon(c));
    const b = listener("b", told, requests);
    for (let round = 0; round < 2; round++) {
      for (const from of [a, b, a, c, b]) submit("read", { from });
      device.pump();
      clock.run();
      expect(told.splice(0)).toEqual(["a", "b", "a", "c", "b", "a end", "b end"]);
    }
  });
});

describe("bytes", () => {
  test("a write is there for every later read, before its own reply", () => {
    const { device, submit } = bench();
    submit("write", { offsetBytes: 8192, payload: new Uint8Array(4096).fill(7) });
    const target = new Uint8Array(4096);
    expect(readBack(device, 8192, target)).toBe(Status.ok);
    expect(target.every((byte) => byte === 7)).toBe(true);
  });

  test("trim and write-zeroes leave zeroes", () => {
    const { device, submit } = bench();
    for (const name of ["trim", "zeroes"] as const) {
      submit("write", { payload: new Uint8Array(4096).fill(7) });
      submit(name);
      const target = new Uint8Array(4096).fill(1);
      readBack(device, 0, target);
      expect(
        target.every((byte) => byte === 0),
        name,
      ).toBe(true);
    }
  });

  test("a flush waits for the store when the model is faster, and for the model when the store is", () => {
    const memory = new MemoryStore({ sizeBytes });
    const finish: ((status: number) => void)[] = [];
    const slow: Store = Object.assign(Object.create(memory) as Store, {
      isVolatile: false,
      flush: (done: (status: number) => void) => void finish.push(done),
    });
    const { clock, device, submit, answers } = bench({ store: slow });
    submit("flush");
    submit("flush");
    device.pump();
    finish[0](Status.ok);
    expect(answers).toHaveLength(0);
    clock.run();
    expect(answers.map(({ atNs }) => atNs)).toEqual([1_000_000]);
    clock.advanceTo(3_000_000);
    finish[1](Status.io);
    expect(answers[1]).toMatchObject({ atNs: 3_000_000, status: Status.io });
  });
});

describe("faults", () => {
  test("an error moves no bytes, takes the model's time and is counted", () => {
    const { clock, device, faults, submit, answers, stats } = bench();
    faults.add({ kind: "error", trigger: { ops: ["write"], nth: 2 }, options: { status: "nospc" } });
    submit("write", { payload: new Uint8Array(4096).fill(1) });
    submit("write", { payload: new Uint8Array(4096).fill(2) });
    device.pump();
    clock.run();
    expect(answers.map(({ status, atNs }) => [status, atNs])).toEqual([
      [Status.ok, 1_000_000],
      [Status.nospc, 1_000_000],
    ]);
    const target = new Uint8Array(1);
    readBack(device, 0, target);
    expect(target[0]).toBe(1);
    expect(stats.read().operations.write).toMatchObject({ count: 2, errors: 1, bytes: 4096 });
  });

  test("a delay adds to the model's time of a flush only", () => {
    const { clock, device, faults, submit, answers } = bench();
    faults.add({ kind: "delay", trigger: { ops: ["flush"] }, options: { delay: "5ms" } });
    const flush = submit("flush");
    const read = submit("read");
    device.pump();
    clock.run();
    expect(answers.map(({ slot, atNs }) => [slot, atNs])).toEqual([
      [read, 1_000_000],
      [flush, 6_000_000],
    ]);
  });

  test("a hang holds what it hits until it is released, and lets the rest pass", () => {
    const { clock, device, faults, submit, answers, stats } = bench();
    faults.add({ kind: "hang", name: "stuck", trigger: { nth: 1 } });
    const held = submit("read");
    const free = submit("read");
    device.pump();
    clock.run();
    expect(answers.map(({ slot }) => slot)).toEqual([free]);
    expect(stats.read()).toMatchObject({ held: 1, inFlight: 1 });
    clock.advanceTo(50_000_000);
    faults.release("stuck");
    expect(answers[1]).toMatchObject({ slot: held, atNs: 50_000_000, status: Status.ok });
    expect(stats.read()).toMatchObject({ held: 0, inFlight: 0 });
  });

  test("a release before the model is done leaves the model's time", () => {
    const { clock, device, faults, submit, answers } = bench();
    faults.add({ kind: "hang", name: "stuck" });
    submit("read");
    device.pump();
    faults.reset();
    clock.run();
    expect(answers.map(({ atNs }) => atNs)).toEqual([1_000_000]);
  });
});

describe("clients that leave", () => {
  test("their requests finish unheard and give their slots back, held ones at once", () => {
    const { clock, requests, device, faults, submit, answers, owner } = bench();
    faults.add({ kind: "hang", trigger: { nth: 1 } });
    submit("read");
    submit("read");
    device.pump();
    clock.run();
    submit("read");
    expect(requests.inFlight).toBe(2);
    device.abandon(owner);
    expect(requests.inFlight).toBe(1);
    clock.run();
    expect(requests.inFlight).toBe(0);
    expect(answers).toHaveLength(1);
  });
});

describe("a full request table", () => {
  test("calls whoever waits once there is room", () => {
    const { clock, requests, device, submit, answers } = bench({ capacity: 2 });
    submit("read");
    submit("read");
    expect(requests.isFull).toBe(true);
    device.onceNotFull(() => submit("read"));
    device.pump();
    clock.run();
    expect(answers.map(({ atNs }) => atNs)).toEqual([1_000_000, 1_000_000, 2_000_000]);
  });
});

test("the same seed and arrivals give the same answers, however often the host looks in between", () => {
  const arrivals = fc.array(
    fc.record({ gapNs: fc.nat(2_000_000), name: fc.constantFrom(...operations), page: fc.nat(255) }),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(arrivals, fc.array(fc.nat(100_000_000), { maxLength: 30 }), (steps, looks) => {
      const play = (extraLooks: number[]) => {
        const { clock, device, faults, store, submit, answers } = bench({
          settings: ["latency.all=1ms", "latency.flush=7ms"],
        });
        faults.add({ kind: "error", trigger: { probability: 0.3 } });
        faults.add({ kind: "delay", options: { distribution: "lognormal", median: "2ms", sigma: 1 } });
        let arrivalNs = 0;
        for (const { gapNs, name, page } of steps) {
          arrivalNs += gapNs;
          for (const lookNs of extraLooks.filter((ns) => ns >= clock.nowNs() && ns <= arrivalNs)) {
            clock.advanceTo(lookNs);
            device.pump();
          }
          clock.advanceTo(arrivalNs);
          submit(name, { offsetBytes: page * 4096 });
          device.pump();
        }
        clock.run();
        store.close();
        return answers;
      };
      expect(play(looks.toSorted((a, b) => a - b))).toEqual(play([]));
    }),
    { seed: 7, numRuns: 100 },
  );
});
