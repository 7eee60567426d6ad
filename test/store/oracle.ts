/** Random requests to a store, replayed on plain bytes: whatever the store does, it must read as those do. */
import fc from "fast-check";
import { expect } from "vitest";
import { Status } from "../../src/base/status.js";
import type { Extent, Store } from "../../src/store/store.js";

export type Action = { offsetBytes: number; lengthBytes: number } & (
  | { kind: "write"; seed: number }
  | { kind: "read" | "zero" | "reserve" | "trim" }
);

const blockBytes = 4096;

/**
 * Requests within `windowBytes`, many of which begin or end at, just before or just after a page's boundary; the
 * longest are beyond the 256 KiB from which memory is given back by the system instead of cleared.
 */
export function actions(windowBytes: number): fc.Arbitrary<Action[]> {
  const edge = fc
    .tuple(fc.nat(Math.floor(windowBytes / blockBytes)), fc.constantFrom(-1, 0, 0, 0, 1))
    .map(([page, step]) => Math.min(windowBytes, Math.max(0, page * blockBytes + step)));
  const position = fc.oneof(edge, fc.nat(windowBytes));
  const near = fc.tuple(position, fc.integer({ min: 1, max: 3 * blockBytes }));
  const range = fc
    .oneof(
      near.map(([from, length]) => [from, Math.min(windowBytes, from + length)]),
      fc.tuple(position, position),
    )
    .map(([a, b]) => ({ offsetBytes: Math.min(a, b), lengthBytes: Math.abs(a - b) }))
    .filter(({ lengthBytes }) => lengthBytes > 0);
  const kind = fc.oneof(
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("write" as const), seed: fc.nat(255) }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom("read", "zero", "reserve", "trim") }) },
  );
  const operation = fc.tuple(range, kind).map(([at, what]) => ({ ...at, ...what }) as Action);
  return fc.array(operation, { minLength: 1, maxLength: 25 });
}

/** What was written, in plain bytes; `beginBytes` is where in the store the window lies. */
export class Oracle {
  readonly bytes: Uint8Array;

  constructor(
    private readonly store: Store,
    private readonly beginBytes: number,
    windowBytes: number,
  ) {
    this.bytes = new Uint8Array(windowBytes);
  }

  /** Does the same to the store and to the plain bytes; what is read must be equal. */
  apply(operation: Action): void {
    const { kind, offsetBytes, lengthBytes } = operation;
    const at = this.beginBytes + offsetBytes;
    const window = this.bytes.subarray(offsetBytes, offsetBytes + lengthBytes);
    switch (kind) {
      case "read":
        this.expectSame(offsetBytes, lengthBytes);
        return;
      case "write":
        // No zeroes among the bytes, so that what was written never looks like a hole.
        for (let index = 0; index < lengthBytes; index++)
          window[index] = ((operation.seed + index) % 255) + 1;
        expect(this.store.write(at, window)).toBe(Status.ok);
        return;
      case "trim":
        expect(this.store.trim(at, lengthBytes)).toBe(Status.ok);
        window.fill(0);
        return;
      default:
        expect(this.store.zero(at, lengthBytes, kind === "reserve")).toBe(Status.ok);
        window.fill(0);
    }
  }

  expectSame(offsetBytes = 0, lengthBytes = this.bytes.length): void {
    // Filled beforehand: what the store leaves alone shows.
    const read = new Uint8Array(lengthBytes).fill(0xee);
    expect(this.store.read(this.beginBytes + offsetBytes, read)).toBe(Status.ok);
    const expected = this.bytes.subarray(offsetBytes, offsetBytes + lengthBytes);
    if (Buffer.compare(read, expected) === 0) return;
    const first = read.findIndex((byte, index) => byte !== expected[index]);
    expect.fail(`byte ${offsetBytes + first} of the window reads as ${read[first]}, not ${expected[first]}`);
  }

  /** The runs cover the range in order, without gaps, each different from its neighbour; holes hold only zeroes. */
  expectExtents(offsetBytes = 0, lengthBytes = this.bytes.length): Extent[] {
    const extents = [...this.store.extents(this.beginBytes + offsetBytes, lengthBytes)];
    let end = this.beginBytes + offsetBytes;
    for (const [index, extent] of extents.entries()) {
      expect(extent.offsetBytes).toBe(end);
      expect(extent.lengthBytes).toBeGreaterThan(0);
      if (index > 0) expect(extent.isAllocated).not.toBe(extents[index - 1].isAllocated);
      end += extent.lengthBytes;
      const from = extent.offsetBytes - this.beginBytes;
      const held = this.bytes.subarray(from, from + extent.lengthBytes);
      if (!extent.isAllocated) expect(held.some((byte) => byte !== 0)).toBe(false);
    }
    expect(end).toBe(this.beginBytes + offsetBytes + lengthBytes);
    return extents;
  }
}
