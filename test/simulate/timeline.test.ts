import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { loadProfile } from "../../src/profile/load.js";
import { simulate } from "../../src/simulate/simulate.js";
import { Timeline } from "../../src/simulate/timeline.js";
import { parseJobFile } from "../../src/workload/job-file.js";

const folder = mkdtempSync(join(tmpdir(), "timeline-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface TraceEvent {
  ph: string;
  pid: number;
  tid: number;
  name: string;
  ts: number;
  dur: number;
  args?: { name?: string };
}

function run(mostEvents?: number): TraceEvent[] {
  const path = join(folder, "out.json");
  const timeline = new Timeline(path, mostEvents);
  const { jobs } = parseJobFile("[w]\nrw=randwrite\nbs=4k\niodepth=16\nnumber_ios=30000", {
    path: "w.fio",
    environment: {},
  });
  simulate({
    profile: loadProfile("nvme", {
      size: "1G",
      settings: ["precondition.state=random", "slcCache.static=0", "slcCache.dynamic=0"],
    }),
    seed: 1,
    input: { kind: "workload", path: "w.fio", jobs },
    modelObserver: timeline,
    makeObserver: (requests) => timeline.commands(requests),
  });
  timeline.close();
  return JSON.parse(readFileSync(path, "utf8")) as TraceEvent[];
}

describe("a timeline", () => {
  it("shows what dies, channels, collection and commands did, none of them two things at once", () => {
    const events = run();
    const names = new Map(
      events.filter(({ name }) => name === "process_name").map(({ pid, args }) => [pid, args!.name]),
    );
    expect([...names.values()]).toEqual(
      expect.arrayContaining(["command", "die", "channel", "gc", "levels"]),
    );
    const spans = events.filter(({ ph }) => ph === "X");
    const kinds = new Set(spans.map(({ name }) => name.replace(/ \d+$/, "")));
    for (const kind of ["write", "program", "copy read", "erase", "collect"]) expect(kinds).toContain(kind);
    for (const track of ["die", "channel"]) {
      const byThread = new Map<number, TraceEvent[]>();
      for (const span of spans.filter(({ pid }) => names.get(pid) === track)) {
        byThread.set(span.tid, [...(byThread.get(span.tid) ?? []), span]);
      }
      expect(byThread.size).toBeGreaterThan(4);
      for (const own of byThread.values()) {
        own.sort((a, b) => a.ts - b.ts);
        // Times are written to the nanosecond, so ends and beginnings may seem to overlap by one.
        for (let i = 1; i < own.length; i++)
          expect(own[i].ts).toBeGreaterThan(own[i - 1].ts + own[i - 1].dur - 0.002);
      }
    }
  });

  it("is bounded, and says how much it left out", () => {
    const events = run(1000);
    expect(events.length).toBeLessThan(1010);
    expect(events.at(-1)!.name).toMatch(/^\d{4,} events left out$/);
  });
});
