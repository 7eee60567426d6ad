/** Memory that nobody needs goes back to the system, memory in use does not. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { loadNative } from "../../src/base/native.js";
import { BufferPool, type PooledBuffer } from "../../src/nbd/buffer-pool.js";
import { IdleBuffers } from "../../src/nbd/idle-buffers.js";

const MiB = 1024 * 1024;

function buffers(count: number, lengthBytes = 100): PooledBuffer[] {
  return Array.from({ length: count }, () => ({ bytes: Buffer.alloc(lengthBytes, 1), sizeClass: 0 }));
}

function zero(bytes: Uint8Array, from: number, to: number): void {
  bytes.fill(0, from, to);
}

describe("idle buffers", () => {
  it("are emptied when they were not needed between two turns, from the bottom up, a piece at a time", () => {
    const idle = new IdleBuffers();
    const [bottom, middle, top] = buffers(3);
    for (const buffer of [bottom, middle, top]) idle.push(buffer);
    idle.turn();
    // Needed once more, and back.
    idle.push(idle.pop()!);
    expect(idle.empty(1000, zero)).toBe(0);
    idle.turn();
    expect(idle.empty(150, zero)).toBe(150);
    expect([...bottom.bytes]).toEqual(Array(100).fill(0));
    expect([...middle.bytes]).toEqual([...Array(50).fill(0), ...Array(50).fill(1)]);
    expect(idle.empty(150, zero)).toBe(50);
    expect([...top.bytes]).toEqual(Array(100).fill(1));
    expect(idle.isWarm).toBe(true);
    idle.turn();
    expect(idle.empty(1000, zero)).toBe(100);
    expect(idle.isWarm).toBe(false);
  });

  it("are emptied again when they have been used since", () => {
    const idle = new IdleBuffers();
    const [buffer] = buffers(1);
    for (let round = 0; round < 3; round++) {
      buffer.bytes.fill(1);
      idle.push(buffer);
      idle.turn();
      idle.turn();
      expect(idle.empty(60, zero)).toBe(60);
      if (round > 0) expect(idle.empty(60, zero)).toBe(40);
      expect(idle.pop()).toBe(buffer);
    }
  });

  it("never lose a byte of a buffer that is in use, and all of them when there is no need of them", () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constantFrom("pop", "push", "turn") }),
      fc.record({ kind: fc.constant("empty"), bytes: fc.integer({ min: 1, max: 300 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const idle = new IdleBuffers();
        const lent = buffers(4);
        const inIdle = new Set<PooledBuffer>();
        for (const each of steps) {
          if (each.kind === "pop") {
            const buffer = idle.pop();
            expect(buffer === undefined).toBe(inIdle.size === 0);
            if (buffer === undefined) continue;
            inIdle.delete(buffer);
            buffer.bytes.fill(1);
            lent.push(buffer);
          } else if (each.kind === "push" && lent.length > 0) {
            inIdle.add(lent[0]);
            idle.push(lent.shift()!);
          } else if (each.kind === "turn") {
            idle.turn();
          } else if ("bytes" in each) {
            idle.empty(each.bytes, zero);
          }
          for (const { bytes } of lent) expect(bytes.every((byte) => byte === 1)).toBe(true);
        }
        idle.turn();
        idle.turn();
        idle.empty(Number.POSITIVE_INFINITY, zero);
        expect(idle.isWarm).toBe(false);
        for (const { bytes } of inIdle) expect(bytes.every((byte) => byte === 0)).toBe(true);
      }),
    );
  });
});

describe.runIf(loadNative().giveBackPages !== undefined)("a pool", () => {
  it("gives the memory of a burst back to the system, and goes on with its buffers", () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    try {
      const pool = new BufferPool(512 * MiB);
      const lent = Array.from({ length: 4 }, () => pool.take(8 * MiB)!);
      for (const { bytes } of lent) bytes.fill(1);
      const burstBytes = residentBytes();
      for (const buffer of lent) pool.give(buffer);
      vi.advanceTimersByTime(9_000);
      expect(burstBytes - residentBytes()).toBeLessThan(8 * MiB);
      vi.advanceTimersByTime(60_000);
      expect(burstBytes - residentBytes()).toBeGreaterThan(24 * MiB);
      expect(vi.getTimerCount()).toBe(0);
      const again = pool.take(8 * MiB)!;
      expect(lent.includes(again)).toBe(true);
      again.bytes.fill(2);
      pool.give(again);
      vi.advanceTimersByTime(60_000);
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });
});

function residentBytes(): number {
  const [, kibibytes] = /^Rss:\s+(\d+) kB/m.exec(readFileSync("/proc/self/smaps_rollup", "utf8"))!;
  return Number(kibibytes) * 1024;
}
