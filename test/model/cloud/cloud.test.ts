import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Op, type Operation, RequestTable } from "../../../src/base/request.js";
import { createCloudModel } from "../../../src/model/cloud/model.js";
import { cloudSchema } from "../../../src/model/cloud/schema.js";
import { loadProfile } from "../../../src/profile/load.js";

const GiB = 2 ** 30;
const secondNs = 1e9;

/** A volume on the virtual clock, and a closed loop of requests on it. */
class Volume {
  readonly requests: RequestTable;
  readonly model;
  nowNs = 0;
  completed = 0;
  /** Called with the time of each completion; issues the next request or not. */
  private onCompletion: (slot: number, dueNs: number) => void = () => {};
  private readonly sink = {
    complete: (slot: number, dueNs: number) => {
      this.completed++;
      this.requests.dueNs[slot] = dueNs;
      this.onCompletion(slot, dueNs);
    },
  };

  constructor(written: Record<string, unknown> | string, sizeBytes: number, capacity = 256) {
    const parameters =
      typeof written === "string" ? shipped(written) : cloudSchema.parse({ latency: 0, ...written });
    this.requests = new RequestTable(capacity);
    this.model = createCloudModel({ parameters, sizeBytes, requests: this.requests, seed: 1 });
  }

  submit(operation: Operation, offsetBytes: number, lengthBytes: number, nowNs = this.nowNs): number {
    const slot = this.requests.acquire();
    this.requests.op[slot] = Op[operation];
    this.requests.offsetBytes[slot] = offsetBytes;
    this.requests.lengthBytes[slot] = lengthBytes;
    this.requests.arrivalNs[slot] = nowNs;
    this.model.advance(nowNs, this.sink);
    this.nowNs = nowNs;
    this.model.arrive(slot, nowNs);
    return slot;
  }

  /** Random 4 KiB reads, so many outstanding, until the clock says `untilNs`; completions of each second. */
  saturate(depth: number, untilNs: number): number[] {
    const perSecond: number[] = new Array<number>(Math.ceil(untilNs / secondNs)).fill(0);
    let place = 0;
    const issue = (slot: number, nowNs: number) => {
      this.requests.op[slot] = Op.read;
      this.requests.offsetBytes[slot] = (place++ % 1000) * 1_048_576;
      this.requests.lengthBytes[slot] = 4096;
      this.model.arrive(slot, nowNs);
    };
    this.onCompletion = (slot, dueNs) => {
      const second = Math.floor(dueNs / secondNs);
      if (second < perSecond.length) perSecond[second]++;
      if (dueNs < untilNs) issue(slot, dueNs);
      else this.requests.release(slot);
    };
    for (let i = 0; i < depth; i++) issue(this.requests.acquire(), this.nowNs);
    while (this.model.nextEventNs() < Number.POSITIVE_INFINITY)
      this.model.advance(this.model.nextEventNs(), this.sink);
    this.nowNs = untilNs;
    return perSecond;
  }

  due(): void {
    this.model.advance(Number.MAX_VALUE, this.sink);
  }

  report(nowNs = this.nowNs): Record<string, number> {
    return this.model.report?.(nowNs) ?? {};
  }
}

function shipped(name: string) {
  const profile = loadProfile(name);
  if (profile.model !== "cloud") throw new Error(`${name} is no cloud volume`);
  return profile.parameters;
}

/** The first second in which fewer than half the burst rate completed. */
function burstSeconds(perSecond: readonly number[], burst: number): number {
  return perSecond.findIndex((count) => count < burst / 2);
}

describe("gp2 credits", () => {
  it("100 GiB burst at 3000 IOPS for 2000 s within 1 s, then serve 300, and nothing fails", () => {
    const volume = new Volume("ebs-gp2", 100 * GiB);
    const perSecond = volume.saturate(64, 2100 * secondNs);
    const seconds = burstSeconds(perSecond, 3000);
    expect(Math.abs(seconds - 2000)).toBeLessThanOrEqual(1);
    expect(perSecond.slice(1, seconds - 1).every((count) => Math.abs(count - 3000) <= 60)).toBe(true);
    const base = perSecond.slice(2005, 2095);
    expect(base.reduce((sum, count) => sum + count, 0) / base.length).toBeCloseTo(300, 0);
    expect(volume.report(2100 * secondNs).iopsCredits).toBeLessThan(1);
  });

  it.each([
    [500, 3600],
    [20, 1862],
    [334, 2703],
  ])("of %i GiB last %i s", (gigabytes, seconds) => {
    // What a saturated volume uses: 3000 a second, of which its base rate comes back. Stepped second by second.
    const volume = new Volume("ebs-gp2", gigabytes * GiB);
    const { iopsCredits, iopsBasePerSecond } = volume.report();
    expect(Math.abs(iopsCredits / (3000 - iopsBasePerSecond) - seconds)).toBeLessThan(1);
  });

  it("fill from empty in 18 000 s, and no further", () => {
    const volume = new Volume(
      { limits: [{ name: "iops", counts: "requests", base: 300, burst: 3000, credits: 900 }] },
      GiB,
    );
    volume.saturate(64, 10 * secondNs);
    expect(volume.report().iopsCredits).toBeLessThan(65);
    // The requests still outstanding then have started a second later.
    const usedUpNs = volume.nowNs + secondNs;
    const left = volume.report(usedUpNs).iopsCredits;
    expect(volume.report(usedUpNs + secondNs).iopsCredits).toBeCloseTo(left + 300, 3);
    expect(volume.report(usedUpNs + 60 * secondNs).iopsCredits).toBe(900);
    expect(5_400_000 / shippedBase(100)).toBe(18_000);
  });

  it("are not needed from 1000 GiB on", () => {
    const report = new Volume("ebs-gp2", 1000 * GiB).report();
    expect(report).toMatchObject({ iopsBasePerSecond: 3000 });
    expect(report).not.toHaveProperty("iopsCredits");
  });

  function shippedBase(gigabytes: number): number {
    return new Volume("ebs-gp2", gigabytes * GiB).report().iopsBasePerSecond;
  }

  it("follow the size: 3 IOPS per GiB between 100 and 16 000", () => {
    expect([1, 33, 34, 5333, 5334, 16_384].map(shippedBase)).toEqual([100, 100, 102, 15_999, 16_000, 16_000]);
  });
});

describe("other credits", () => {
  it("let a P20 burst for 30 minutes, at the rate they are used up", () => {
    const volume = new Volume("azure-p20", 512 * GiB);
    const full = volume.report(0).iopsCredits;
    const perSecond = volume.saturate(64, 60 * secondNs);
    expect(perSecond.slice(1, 59).every((count) => Math.abs(count - 3500) <= 60)).toBe(true);
    // 64 requests are still outstanding at the end, and have taken their credits.
    const perSecondUsed = (full - volume.report(60 * secondNs).iopsCredits - 64) / 60;
    expect(Math.abs(full / perSecondUsed - 1800)).toBeLessThan(10);
  });

  it("let st1 of 2 TiB read 500 MiB/s for 4993 s, then 80", () => {
    const volume = new Volume("ebs-st1", 2048 * GiB);
    let place = 0;
    const rates: number[] = [];
    const endNs = 5100 * secondNs;
    for (let i = 0; i < 16; i++) volume.submit("read", place++ * 2 ** 20, 2 ** 20, 0);
    const sink = {
      complete(slot: number, dueNs: number) {
        const second = Math.floor(dueNs / secondNs);
        rates[second] = (rates[second] ?? 0) + 1;
        if (dueNs >= endNs) return;
        volume.requests.offsetBytes[slot] = place++ * 2 ** 20;
        volume.model.arrive(slot, dueNs);
      },
    };
    while (volume.model.nextEventNs() < Number.POSITIVE_INFINITY)
      volume.model.advance(volume.model.nextEventNs(), sink);
    const seconds = rates.findIndex((count) => count < 250);
    expect(Math.abs(seconds - 2_097_152 / 420)).toBeLessThanOrEqual(2);
    expect(rates[2000]).toBeCloseTo(500, -1);
    expect(rates[5050]).toBeCloseTo(80, -1);
  });

  it("stay when a volume grows, and come back faster", () => {
    const volume = new Volume("ebs-gp2", 100 * GiB);
    volume.saturate(64, 100 * secondNs);
    const before = volume.report().iopsCredits;
    expect(before).toBeLessThan(5_400_000 - 260_000);
    volume.model.grow?.(200 * GiB);
    const after = volume.report();
    expect(Math.abs(after.iopsCredits - before)).toBeLessThan(100);
    expect(after.iopsBasePerSecond).toBe(600);
  });
});

describe("what a request counts", () => {
  const costs = (limit: Record<string, unknown>, requests: readonly [Operation, number, number][]) => {
    const volume = new Volume(
      { limits: [{ name: "iops", counts: "requests", base: 1, burst: 1e9, credits: 1000, ...limit }] },
      GiB,
    );
    return requests.map(([operation, offsetBytes, lengthBytes]) => {
      const before = volume.report(0).iopsCredits;
      volume.submit(operation, offsetBytes, lengthBytes, 0);
      // Requests start a nanosecond or so apart; what comes back in that time is far below one.
      return Math.round(before - volume.report(0).iopsCredits);
    });
  };
  const KiB = 1024;

  it("is one for each unit it touches", () => {
    expect(
      costs({ unit: "256K" }, [
        ["read", 0, 4 * KiB],
        ["read", 0, 256 * KiB],
        ["read", 0, 257 * KiB],
        ["write", 0, 1024 * KiB],
      ]),
    ).toEqual([1, 1, 2, 4]);
  });

  it("is one for eight sequential requests of 32 KiB, eight for random ones, where small ones merge", () => {
    const sequential = Array.from({ length: 9 }, (_, i): [Operation, number, number] => [
      "read",
      i * 32 * KiB,
      32 * KiB,
    ]);
    expect(costs({ unit: "256K", merge: true }, sequential)).toEqual([1, 0, 0, 0, 0, 0, 0, 0, 1]);
    const random = Array.from({ length: 8 }, (_, i): [Operation, number, number] => [
      "read",
      i * 2 ** 20,
      32 * KiB,
    ]);
    expect(costs({ unit: "256K", merge: true }, random)).toEqual(new Array(8).fill(1));
  });

  it("adds up to a unit per unit of a long sequential run, whatever the sizes", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 40 }), (blocks) => {
        let offset = 0;
        const run = blocks.map((count): [Operation, number, number] => {
          const start = offset;
          offset += count * 4 * KiB;
          return ["write", start, count * 4 * KiB];
        });
        const total = costs({ unit: "256K", merge: true }, run).reduce((sum, cost) => sum + cost, 0);
        expect(total).toBe(Math.ceil(offset / (256 * KiB)));
      }),
    );
  });

  it("is nothing for a flush, and nothing for operations a limit does not name", () => {
    expect(costs({}, [["flush", 0, 0]])).toEqual([0]);
    expect(costs({ operations: ["write"] }, [["read", 0, 4096]])).toEqual([0]);
  });
});

describe("limits", () => {
  it("space requests evenly at the rate, each after the one before", () => {
    const volume = new Volume({ limits: [{ name: "iops", counts: "requests", base: 1000 }] }, GiB);
    const slots = [0, 1, 2, 3].map((i) => volume.submit("read", i * 4096, 4096, 0));
    volume.due();
    expect(slots.map((slot) => volume.requests.dueNs[slot])).toEqual([0, 1e6, 2e6, 3e6]);
    expect(volume.report(0)).toMatchObject({ iopsThrottled: 3, iopsWaitedNs: 6e6 });
  });

  it("count a wait for the one that binds, not for those that wait along", () => {
    const volume = new Volume(
      {
        limits: [
          { name: "iops", counts: "requests", base: 1000 },
          { name: "throughput", counts: "bytes", base: "1GB/s" },
        ],
      },
      GiB,
    );
    for (let i = 0; i < 10; i++) volume.submit("read", i * 4096, 4096, 0);
    expect(volume.report(0)).toMatchObject({
      iopsThrottled: 9,
      throughputThrottled: 0,
      throughputWaitedNs: 0,
    });
  });

  it("keep the unused rate of a window", () => {
    const volume = new Volume(
      { limits: [{ name: "iops", counts: "requests", base: 1000, window: "2ms" }] },
      GiB,
    );
    const slots = [0, 1, 2, 3, 4].map((i) => volume.submit("read", i * 4096, 4096, 0));
    volume.due();
    expect(slots.map((slot) => volume.requests.dueNs[slot])).toEqual([0, 0, 0, 1e6, 2e6]);
  });

  it("hold a request back until all that apply let it go, and keep reads and writes apart", () => {
    const volume = new Volume(
      {
        limits: [
          { name: "reads", counts: "requests", operations: ["read"], base: 1000 },
          { name: "writes", counts: "requests", operations: ["write"], base: 100 },
          { name: "bytes", counts: "bytes", base: "4.096MB/s" },
        ],
      },
      GiB,
    );
    const [first, second, third] = [
      volume.submit("write", 0, 4096, 0),
      volume.submit("write", 1e6, 4096, 0),
      volume.submit("flush", 0, 0, 0),
    ];
    volume.due();
    expect(volume.requests.dueNs[first]).toBe(0);
    expect(volume.requests.dueNs[second]).toBe(10e6);
    expect(volume.requests.dueNs[third]).toBe(0);
  });

  it("decide bit for bit the same however time is sliced", () => {
    const arrivals = fc.array(
      fc.record({ gapNs: fc.integer({ min: 0, max: 5_000_000 }), blocks: fc.integer({ min: 1, max: 300 }) }),
      { minLength: 1, maxLength: 50 },
    );
    const run = (steps: { gapNs: number; blocks: number }[], extra: boolean) => {
      const volume = new Volume(
        {
          latency: { all: { kind: "lognormal", median: "1ms", p99: "5ms" } },
          limits: [
            {
              name: "iops",
              counts: "requests",
              base: 100,
              burst: 1000,
              credits: 20,
              unit: "64K",
              merge: true,
            },
            { name: "bytes", counts: "bytes", base: "10MiB/s" },
          ],
        },
        GiB,
      );
      let nowNs = 0;
      const slots = steps.map(({ gapNs, blocks }) => {
        if (extra) volume.model.advance(nowNs + gapNs / 2, { complete: () => {} });
        nowNs += gapNs;
        return volume.submit("read", blocks * 4096, blocks * 4096, nowNs);
      });
      volume.due();
      return slots.map(
        (slot) => volume.model.breakdown.queueNs[slot] + volume.model.breakdown.overheadNs[slot],
      );
    };
    fc.assert(
      fc.property(arrivals, (steps) => {
        expect(run(steps, true)).toEqual(run(steps, false));
      }),
    );
  });

  it("tell where the time went: the parts add up to the response time", () => {
    const volume = new Volume(
      {
        latency: { all: { kind: "lognormal", median: "1ms", p99: "5ms" } },
        transfer: "100MB/s",
        limits: [{ name: "iops", counts: "requests", base: 500 }],
      },
      GiB,
    );
    const slots = Array.from({ length: 20 }, (_, i) => volume.submit("read", i * 4096, 4096, i * 1e5));
    volume.due();
    const { queueNs, overheadNs, transferNs } = volume.model.breakdown;
    for (const slot of slots) {
      const sum = queueNs[slot] + overheadNs[slot] + transferNs[slot];
      expect(volume.requests.dueNs[slot] - volume.requests.arrivalNs[slot]).toBeCloseTo(sum, 3);
    }
    expect(transferNs[slots[0]]).toBeCloseTo(40_960, 6);
  });

  it("refuse what contradicts itself", () => {
    const paths = (limit: Record<string, unknown>) =>
      cloudSchema
        .safeParse({ latency: 0, limits: [{ name: "iops", counts: "requests", base: 1, ...limit }] })
        .error?.issues.map(({ path }) => path.join("."));
    expect(paths({ credits: 5 })).toEqual(["limits.0.credits"]);
    expect(paths({ burst: 5, credits: 5, burstTime: "1s" })).toEqual(["limits.0.burstTime"]);
    expect(paths({ base: { steps: [{ from: 1, value: 2 }] } })).toEqual(["limits.0.base"]);
  });
});
