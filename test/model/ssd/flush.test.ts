/** FLUSH on a drive without power-loss protection waits for what came before it to be on flash: for all of it, and for no more. */
import { expect, test } from "vitest";
import { plainDrive, TestDrive, unitBytes } from "./drive.js";

const us = 1000;
/** No power of two: programs whose numbers differ by one are on different dies, so the later can end first. */
const dies = 7;

test("a flush waits for a program that reads keep from its die, while hundreds of later programs end", () => {
  /** When the programs of each die ended, in their order. */
  const endsNs: number[][] = Array.from({ length: dies }, () => []);
  const drive = new TestDrive(
    plainDrive({
      flash: { channels: dies },
      writeBuffer: { size: 2 ** 20, powerLossProtection: false },
      precondition: { state: "sequential", fill: 1 },
    }),
    2 ** 26,
    {
      capacity: 4096,
      observer: {
        span: (track, die, name, _, endNs) => {
          if (track === "die" && name === "program") endsNs[die].push(endNs);
        },
        level: () => undefined,
      },
    },
  );
  let writes = 0;
  let writesBefore = 0;
  let flush = -1;
  let flushedNs = Number.POSITIVE_INFINITY;
  let endedBefore = 0;
  for (let round = 0; round < 8000; round++) {
    drive.runTo(round * 25 * us);
    for (const slot of drive.completedSlots.splice(0)) {
      if (slot === flush) flushedNs = drive.requests.dueNs[slot];
      else drive.requests.release(slot);
    }
    // Reads of 50 us: die 0 is never without one that goes before its programs.
    if (round % 2 === 0) drive.submit("read", dies * (round % 1000) * unitBytes, unitBytes);
    if (round === 240) {
      writesBefore = writes;
      flush = drive.submit("flush", 0, 0);
    }
    // One program each, to the dies in turn; those after the flush are not what it waits for.
    if (drive.requests.inFlight < 2000)
      drive.submit("write", (9000 + (writes++ % 4000)) * unitBytes, unitBytes);
    if (flushedNs === Number.POSITIVE_INFINITY) endedBefore = endsNs.flat().length;
  }
  drive.settle();
  if (drive.completedSlots.includes(flush)) flushedNs = drive.requests.dueNs[flush];

  const awaitedNs = endsNs.flatMap((ends, die) => ends.slice(0, Math.ceil((writesBefore - die) / dies)));
  expect(awaitedNs).toHaveLength(writesBefore);
  expect(flushedNs).toBe(Math.max(...awaitedNs));
  // As many as there can be under way, and more: 2 x 8 dies, or the buffer of 256 units.
  expect(endedBefore).toBeGreaterThan(512);
});
