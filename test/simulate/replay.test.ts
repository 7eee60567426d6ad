import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { Random } from "../../src/base/random.js";
import { Op, RequestTable } from "../../src/base/request.js";
import { createModel } from "../../src/model/create.js";
import type { CompletionSink } from "../../src/model/model.js";
import { loadProfile } from "../../src/profile/load.js";
import { simulate } from "../../src/simulate/simulate.js";
import { openTrace } from "../../src/trace/open.js";
import { type RecordingHeader, RecordingWriter } from "../../src/trace/recording.js";

const folder = mkdtempSync(join(tmpdir(), "blkforge-replay-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const seed = 11;

/**
 * Drives a model as the live device does, its host waking up at arbitrary moments beside the arrivals, and records it.
 */
function recordLive(
  profileName: string,
  size: string,
  load: { requests: number; meanGapNs: number; wakes: number },
) {
  const profile = loadProfile(profileName, { size });
  const { sizeBytes } = profile;
  const requests = new RequestTable(256);
  const model = createModel({ profile, requests, seed, sizeBytes });
  const chunks: Buffer[] = [];
  const header: RecordingHeader = {
    schemaVersion: 1,
    profile: profileName,
    settings: [],
    seed,
    sizeBytes,
    tableCapacity: 256,
  };
  const writer = new RecordingWriter(header, requests, (bytes) => chunks.push(Buffer.from(bytes)));
  const sink: CompletionSink = {
    complete(slot, dueNs) {
      writer.completion(slot, dueNs);
      requests.release(slot);
    },
  };
  const random = new Random(load.wakes, "test");
  let nowNs = 0;
  for (let i = 0; i < load.requests; i++) {
    nowNs += random.nextExponential(load.meanGapNs);
    while (requests.isFull) {
      nowNs = Math.max(nowNs, model.nextEventNs());
      model.advance(nowNs, sink);
    }
    // A host that wakes up early, late, often or not at all must change nothing.
    for (let wake = random.nextInteger(load.wakes + 1); wake > 0; wake--) {
      nowNs += random.nextExponential(load.meanGapNs / 4);
      model.advance(nowNs, sink);
    }
    const slot = requests.acquire();
    const kind = random.nextInteger(20);
    requests.op[slot] = kind === 0 ? Op.flush : kind < 8 ? Op.write : Op.read;
    requests.flags[slot] = kind === 1 ? 1 : 0;
    requests.queue[slot] = 0;
    requests.lengthBytes[slot] = kind === 0 ? 0 : 4096 * (1 + random.nextInteger(16));
    requests.offsetBytes[slot] = kind === 0 ? 0 : 4096 * random.nextInteger(sizeBytes / 4096 - 16);
    requests.arrivalNs[slot] = nowNs;
    model.advance(nowNs, sink);
    writer.arrival(slot);
    model.arrive(slot, nowNs);
  }
  while (requests.inFlight > 0) model.advance(model.nextEventNs(), sink);
  writer.end();
  const path = join(folder, `${profileName}-${load.wakes}.rec`);
  writeFileSync(path, Buffer.concat(chunks));
  return { path, profile };
}

function replay(
  path: string,
  profileName: string,
  size: string,
  loop: "open" | "closed" = "open",
  seedNow = seed,
) {
  const trace = openTrace(path);
  try {
    const input = { kind: "trace", path, trace, loop } as const;
    return simulate({ profile: loadProfile(profileName, { size }), seed: seedNow, input }).report;
  } finally {
    trace.close();
  }
}

describe("replay of a recording", () => {
  test.each(["fixed", "hdd-7200"])(
    "%s decides the same again, to the bit, however the host woke up",
    (name) => {
      fc.assert(
        fc.property(
          fc.integer({ min: 1, max: 6 }),
          fc.constantFrom(200_000, 4e6, 20e6),
          fc.integer({ min: 1, max: 400 }),
          (wakes, meanGapNs, requests) => {
            const { path } = recordLive(name, "10G", { requests, meanGapNs, wakes });
            const report = replay(path, name, "10G");
            expect(report.replay).toEqual({
              compared: requests,
              identical: requests,
              largestDifferenceNs: 0,
              firstDifferent: [],
            });
          },
        ),
        { numRuns: 25, seed: 1 },
      );
    },
  );

  test("another device is found out, with the first difference", () => {
    const { path } = recordLive("fixed", "10G", { requests: 50, meanGapNs: 1e6, wakes: 2 });
    const trace = openTrace(path);
    const profile = loadProfile("fixed", { settings: ["latency=2ms"], size: "10G" });
    const { report } = simulate({ profile, seed, input: { kind: "trace", path, trace, loop: "open" } });
    trace.close();
    expect(report.replay).toMatchObject({
      compared: 50,
      identical: 0,
      largestDifferenceNs: expect.closeTo(1e6, 3),
    });
    expect(report.replay?.firstDifferent[0].request).toBe(0);
  });

  test("closed loop replays the requests at other times, and compares nothing", () => {
    const { path } = recordLive("fixed", "10G", { requests: 50, meanGapNs: 1e5, wakes: 1 });
    const report = replay(path, "fixed", "10G", "closed");
    expect(report.replay).toBeUndefined();
    expect(report.meanQueueDepth).toBeLessThanOrEqual(1);
    expect(report.count).toBe(50);
  });
});
