/** Flushes of an image file, with syncs that end when the test says so. */
import type * as fs from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { Status } from "../../src/base/status.js";
import { type FileStore, openFileStore } from "../../src/store/file.js";
import { scratchDirectory } from "../support/blkforge.js";

const syncs: fs.NoParamCallback[] = [];

vi.mock("node:fs", async (importOriginal) => ({
  ...(await importOriginal<typeof fs>()),
  fdatasync: (_fd: number, callback: fs.NoParamCallback) => void syncs.push(callback),
}));

/** Ends the oldest sync under way. */
function endSync(code: "ENOSPC" | "EIO" | null = null): void {
  const errno = { ENOSPC: -28, EIO: -5 };
  syncs.shift()!(code === null ? null : Object.assign(new Error(code), { code, errno: errno[code] }));
}

function openStore(): FileStore {
  syncs.length = 0;
  return openFileStore({
    path: join(scratchDirectory(), "disk.img"),
    sizeBytes: 1 << 20,
    isSizeGiven: true,
    blockBytes: 512,
    isReadOnly: false,
  });
}

function storeWithFlushes() {
  const store = openStore();
  onTestFinished(() => store.close());
  const answers: Record<string, Status> = {};
  const flush = (name: string) =>
    store.flush((status) => {
      answers[name] = status;
    });
  return { store, answers, flush };
}

test("a flush that comes during a sync waits for the next, which all that came meanwhile share", () => {
  const { answers, flush } = storeWithFlushes();
  flush("first");
  flush("second");
  flush("third");
  // What was written before the second flush may have missed the sync under way.
  expect(syncs).toHaveLength(1);
  endSync();
  expect(answers).toEqual({ first: Status.ok });

  expect(syncs).toHaveLength(1);
  endSync();
  expect(answers).toEqual({ first: Status.ok, second: Status.ok, third: Status.ok });
  expect(syncs).toHaveLength(0);
});

test("a failed sync fails every later flush too, since the kernel has dropped what it could not write", () => {
  const { answers, flush } = storeWithFlushes();
  flush("first");
  endSync("EIO");
  flush("second");
  endSync();
  expect(answers).toEqual({ first: Status.io, second: Status.io });
});

test("space that runs out when the cache is written is nospc", () => {
  const { answers, flush } = storeWithFlushes();
  flush("first");
  endSync("ENOSPC");
  expect(answers).toEqual({ first: Status.nospc });
});

test("closing lets the flushes asked for end", () => {
  const store = openStore();
  const statuses: Status[] = [];
  store.flush((status) => statuses.push(status));
  store.flush((status) => statuses.push(status));
  store.close();
  expect(store.allocatedBytes()).toBeGreaterThanOrEqual(0);
  endSync();
  endSync();
  expect(statuses).toEqual([Status.ok, Status.ok]);
  expect(() => store.allocatedBytes()).toThrow(/EBADF/);
});
