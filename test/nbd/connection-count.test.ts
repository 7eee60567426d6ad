import { expect, test } from "vitest";
import { ConnectionCount } from "../../src/nbd/connection-count.js";

test("what one thread counts, all see; a thread that is gone counts for nothing", () => {
  const buffer = new SharedArrayBuffer(8);
  const [first, second] = [0, 1].map((thread) => new ConnectionCount(buffer, thread));
  first.set(3);
  second.set(4);
  expect([first.all, second.all]).toEqual([7, 7]);
  // As the main thread does for a thread that has died.
  new ConnectionCount(buffer, 1).set(0);
  expect(first.all).toBe(3);
});

test("servers that share nothing count alone", () => {
  const [first, second] = [new ConnectionCount(), new ConnectionCount()];
  first.set(3);
  expect(second.all).toBe(0);
});
