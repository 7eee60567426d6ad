/** What is asked of the processors' idle states, and for how long; a file stands in for the kernel's. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { IdleStates } from "../../src/device/idle-states.js";
import { LiveClock } from "../../src/device/live-clock.js";

const anyUs = 2_000_000_000;

beforeEach(() => void vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] }));
afterEach(() => void vi.useRealTimers());

function open() {
  const directory = mkdtempSync(join(tmpdir(), "blkforge-idle-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "cpu_dma_latency");
  writeFileSync(path, "");
  const idleStates = IdleStates.open(2, path);
  if (idleStates === null) throw new Error("a file that is there can be opened");
  const asked = () => {
    const bytes = readFileSync(path);
    return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readInt32LE(4 * i));
  };
  return { idleStates, asked };
}

test("slow states are kept away with the first request, and come back when there are no more", () => {
  const { idleStates, asked } = open();
  expect(asked()).toEqual([]);
  for (let i = 0; i < 10; i++) {
    idleStates.limit();
    vi.advanceTimersByTime(200);
  }
  expect(asked()).toEqual([2]);
  vi.advanceTimersByTime(1000);
  expect(asked()).toEqual([2, anyUs]);
  idleStates.limit();
  expect(asked()).toEqual([2, anyUs, 2]);
  idleStates.close();
});

test("a clock limits them when something is due, not when nothing is", () => {
  const { idleStates, asked } = open();
  const clock = new LiveClock({ timing: "hybrid", idleStates });
  clock.arm(Number.POSITIVE_INFINITY);
  expect(asked()).toEqual([]);
  clock.arm(1e12);
  expect(asked()).toEqual([2]);
  clock.close();
});

test("where they cannot be limited nothing is", () => {
  expect(IdleStates.open(0, join(tmpdir(), "blkforge-there-is-no-such-directory", "file"))).toBeNull();
});
