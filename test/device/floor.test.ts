/** The transport's own time is taken off the model's: what the host sees is then the device. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { operations, type RequestSlot, RequestTable } from "../../src/base/request.js";
import { Device } from "../../src/device/device.js";
import { DeviceStats } from "../../src/device/stats.js";
import { VirtualClock } from "../../src/device/virtual-clock.js";
import { FaultSet } from "../../src/fault/set.js";
import { createModel } from "../../src/model/create.js";
import { loadProfile } from "../../src/profile/load.js";
import { MemoryStore } from "../../src/store/memory.js";

const sizeBytes = 1 << 30;
const floorNs = 60_000;

interface Answer {
  seenNs: number;
  /** As the model was told, and as it answered. */
  modelArrivalNs: number;
  modelDueNs: number;
  replyNs: number;
}

/** Reads at these instants, answered by a device with a floor; in order of submission. */
function play(profileName: string, settings: string[], readsNs: readonly number[]): Answer[] {
  const clock = new VirtualClock();
  const requests = new RequestTable(256);
  const profile = loadProfile(profileName, { settings, size: "1G" });
  const store = new MemoryStore({ sizeBytes });
  const answers: Answer[] = [];
  const current = new Map<RequestSlot, Answer>();
  const device = new Device({
    identity: { ...profile, isReadOnly: false },
    requests,
    store,
    model: createModel({ profile, requests, seed: 1, sizeBytes }),
    faults: new FaultSet({ seed: 1, requests, sizeBytes, onRelease: () => {} }),
    clock,
    stats: new DeviceStats(),
    floorsNs: new Float64Array(operations.length).fill(floorNs),
    observer: {
      arrival: (slot) => {
        current.get(slot)!.modelArrivalNs = requests.arrivalNs[slot];
      },
      completion: (slot, dueNs) => {
        current.get(slot)!.modelDueNs = dueNs;
      },
    },
  });
  const owner = {
    onCompletion(slot: RequestSlot) {
      current.get(slot)!.replyNs = clock.nowNs();
      requests.release(slot);
    },
    onCompletionsEnd() {},
  };
  for (const [index, atNs] of readsNs.entries()) {
    clock.advanceTo(atNs);
    const slot = requests.acquire();
    requests.op[slot] = 0;
    requests.offsetBytes[slot] = ((index * 7919) % 262_144) * 4096;
    requests.lengthBytes[slot] = 4096;
    requests.arrivalNs[slot] = atNs;
    const answer = { seenNs: atNs, modelArrivalNs: -1, modelDueNs: -1, replyNs: -1 };
    current.set(slot, answer);
    answers.push(answer);
    device.submit(slot, null, owner);
    device.pump();
  }
  clock.run();
  store.close();
  return answers;
}

describe("a floor", () => {
  test("is taken off the model's latency", () => {
    const [answer] = play("fixed", ["latency=1ms"], [5000]);
    expect(answer).toEqual({
      seenNs: 5000,
      modelArrivalNs: 5000,
      modelDueNs: 1_005_000,
      replyNs: 1_005_000 - floorNs,
    });
  });

  test.each(["0", "20us", "60us"])("leaves nothing of a latency of %s, and never less", (latency) => {
    const [first, second] = play("fixed", [`latency=${latency}`], [5000, 5_000_000]);
    expect([first.replyNs, second.replyNs]).toEqual([5000, 5_000_000]);
  });

  const gaps = fc.array(fc.oneof(fc.nat(2000), fc.nat(200_000), fc.nat(20_000_000)), {
    minLength: 1,
    maxLength: 80,
  });

  test.each([
    ["fixed", ["latency=1ms"]],
    ["hdd-7200", []],
  ])("keeps the promises made to the model, and gives each reply its time: %s", (name, settings) => {
    fc.assert(
      fc.property(gaps, (steps) => {
        let atNs = 0;
        const readsNs = steps.map((gapNs) => {
          atNs += gapNs;
          return atNs;
        });
        let lastArrivalNs = 0;
        for (const { seenNs, modelArrivalNs, modelDueNs, replyNs } of play(name, settings, readsNs)) {
          expect(modelArrivalNs).toBeGreaterThanOrEqual(lastArrivalNs);
          expect(modelArrivalNs).toBeGreaterThanOrEqual(seenNs);
          expect(modelArrivalNs).toBeLessThanOrEqual(seenNs + floorNs);
          expect(replyNs).toBe(Math.max(seenNs, modelDueNs - floorNs));
          lastArrivalNs = modelArrivalNs;
        }
      }),
      { seed: 3, numRuns: 60 },
    );
  });
});
