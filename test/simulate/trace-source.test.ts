import { describe, expect, test } from "vitest";
import { TraceSource } from "../../src/simulate/trace-source.js";
import { openTrace } from "../../src/trace/open.js";
import { runSource } from "./run.js";

const ms = 1e6;

function sourceOf(text: string) {
  const bytes = Buffer.from(text);
  let isRead = false;
  return {
    read(target: Uint8Array): number {
      if (isRead) return 0;
      isRead = true;
      target.set(bytes);
      return bytes.length;
    },
    close() {},
  };
}

function replay(
  text: string,
  options: {
    loop: "open" | "closed";
    latencyNs?: number;
    capacity?: number;
    sizeBytes?: number;
    isWrapping?: boolean;
  },
) {
  const { loop, latencyNs = 1 * ms, capacity = 256, sizeBytes = 2 ** 30, isWrapping = false } = options;
  const { reader } = openTrace("trace", { source: sourceOf(text) });
  let source: TraceSource | undefined;
  const run = runSource(
    (requests) => {
      source = new TraceSource({ reader, loop, requests, sizeBytes, isWrapping, hasDeviceTimes: false });
      return source;
    },
    { latencyNs, capacity },
  );
  return { ...run, source: source! };
}

/** Requests of 4 KiB, one block after the other, at the given times in ms. */
function alibaba(...timesMs: number[]): string {
  return timesMs.map((time, i) => `1,R,${i * 4096},4096,${1e15 + time * 1000}\n`).join("");
}

describe("a trace as a source", () => {
  test("open loop issues at the time stamps, counted from the first, whatever the device does", () => {
    const { seen, stats } = replay(alibaba(500, 500.5, 503), { loop: "open" });
    expect(seen.map(({ arrivalNs }) => arrivalNs / ms)).toEqual([0, 0.5, 3]);
    expect(seen.map(({ dueNs }) => dueNs / ms)).toEqual([1, 1.5, 4]);
    expect(stats.elapsedNs).toBe(4 * ms);
    expect(stats.utilisation).toBe(2.5 / 4);
  });

  test("open loop beyond the device's table waits outside, and the waiting counts as latency", () => {
    const { seen, stats } = replay(alibaba(0, 0, 0, 0), { loop: "open", capacity: 1 });
    expect(seen.map(({ dueNs, wantedNs }) => (dueNs - wantedNs) / ms)).toEqual([1, 2, 3, 4]);
    expect(stats.heldBack).toBe(3);
  });

  test("time stamps that go back are issued at once, and counted", () => {
    const { seen, source } = replay(alibaba(0, 5, 3, 6), { loop: "open" });
    expect(seen.map(({ arrivalNs }) => arrivalNs / ms)).toEqual([0, 5, 5, 6]);
    expect(source.outOfOrder).toBe(1);
  });

  test("closed loop by think times", () => {
    const text = "R Hit 0 8 5000.0 2000.0\nW Hit 8 8 7000.0 0.0\nR Hit 16 8 100.0 9.0\n";
    const { seen, source } = replay(text, { loop: "closed" });
    expect(seen.map(({ arrivalNs }) => arrivalNs / ms)).toEqual([0, 3, 4]);
    expect(source.measured.slice(0, 2).map(({ count }) => count)).toEqual([2, 1]);
    expect(source.measured[0].summary().meanNs).toBe(2.55 * ms);
  });

  test("closed loop without think times keeps the distance of the time stamps, or waits for the completion", () => {
    const { seen } = replay(alibaba(0, 0.2, 5, 5.1), { loop: "closed" });
    expect(seen.map(({ arrivalNs }) => arrivalNs / ms)).toEqual([0, 1, 5.8, 6.8]);
  });

  test("requests beyond the device are an error with the line, or wrapped", () => {
    const text = alibaba(0, 1, 2);
    expect(() => replay(text, { loop: "open", sizeBytes: 8192 })).toThrow(
      "trace:3: a request ends at byte 12288, the device at 8192",
    );
    const { seen } = replay(text, { loop: "open", sizeBytes: 6144, isWrapping: true });
    expect(seen.map(({ offsetBytes }) => offsetBytes)).toEqual([0, 2048, 2048]);
  });
});
