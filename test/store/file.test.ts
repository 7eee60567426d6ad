/** Devices in image files: what they hold, what survives, and what is refused. */
import { execFileSync, spawn } from "node:child_process";
import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { BlkError } from "../../src/base/errors.js";
import { Status } from "../../src/base/status.js";
import { type FileStore, type FileStoreOptions, openFileStore } from "../../src/store/file.js";
import { scratchDirectory } from "../support/blkforge.js";
import { actions, Oracle } from "./oracle.js";

const gib = 2 ** 30;
const sourceFile = join(import.meta.dirname, "../../src/store/file.ts");

function open(options: Partial<FileStoreOptions> & { path: string }): FileStore {
  return openFileStore({
    sizeBytes: 1 << 20,
    isSizeGiven: false,
    blockBytes: 512,
    isReadOnly: false,
    ...options,
  });
}

function opened(options: Partial<FileStoreOptions> & { path: string }): FileStore {
  const store = open(options);
  onTestFinished(() => store.close());
  return store;
}

function flush(store: FileStore): Promise<Status> {
  return new Promise((resolve) => store.flush(resolve));
}

/** The sentence a person gets instead of a store. */
function refusal(options: Partial<FileStoreOptions> & { path: string }): string {
  try {
    open(options).close();
  } catch (error) {
    if (error instanceof BlkError && error.code === "BLK_E_FILE") return error.toLine();
    throw error;
  }
  return expect.fail("the image was opened");
}

describe("what an image holds", () => {
  test.each([
    ["at the beginning", 0],
    ["across 4 GiB", 4 * gib - 100_001],
  ])("any work %s leaves what a plain array holds", (_where, baseBytes) => {
    const path = join(scratchDirectory(), "disk.img");
    const regionBytes = 200_000;
    const store = opened({ path, sizeBytes: 5 * gib });
    fc.assert(
      fc.property(actions(regionBytes), (work) => {
        store.zero(baseBytes, regionBytes, false);
        const oracle = new Oracle(store, baseBytes, regionBytes);
        for (const action of work) oracle.apply(action);
        oracle.expectSame();
        oracle.expectExtents();
      }),
      { numRuns: 25 },
    );
  });

  test("a new image is sparse, and trimmed blocks leave it", () => {
    const path = join(scratchDirectory(), "disk.img");
    const store = opened({ path, sizeBytes: 64 * gib });
    expect(statSync(path).size).toBe(64 * gib);
    expect(store.allocatedBytes()).toBeLessThan(1 << 20);

    store.write(32 * gib, Buffer.alloc(8 << 20, 1));
    expect(store.allocatedBytes()).toBeGreaterThanOrEqual(8 << 20);
    store.trim(32 * gib, 8 << 20);
    expect(store.allocatedBytes()).toBeLessThan(1 << 20);
  });

  test("byte n of the device is byte n of the file", () => {
    const path = join(scratchDirectory(), "disk.img");
    const store = opened({ path });
    store.write(4321, Buffer.from("here"));
    expect(readFileSync(path).subarray(4321, 4325).toString()).toBe("here");
  });

  test("an existing image keeps its size when none is asked for", () => {
    const path = join(scratchDirectory(), "disk.img");
    writeFileSync(path, Buffer.alloc(8192, 5));
    const store = opened({ path, sizeBytes: 1 << 20 });
    expect(store.sizeBytes).toBe(8192);
    const found = Buffer.alloc(8192);
    store.read(0, found);
    expect(found.every((byte) => byte === 5)).toBe(true);
  });

  test("an empty file becomes an image", () => {
    const path = join(scratchDirectory(), "disk.img");
    writeFileSync(path, "");
    expect(opened({ path, sizeBytes: 1 << 20, isSizeGiven: true }).sizeBytes).toBe(1 << 20);
  });

  test("an image cut off by somebody else fails reads, instead of inventing zeroes", () => {
    const path = join(scratchDirectory(), "disk.img");
    const store = opened({ path });
    truncateSync(path, 4096);
    expect(store.read(0, Buffer.alloc(4096))).toBe(Status.ok);
    expect(store.read(2048, Buffer.alloc(4096))).toBe(Status.io);
  });
});

describe("what survives", () => {
  test("everything flushed is there after kill -9, and the lock is not", async () => {
    const path = join(scratchDirectory(), "disk.img");
    const script = `
      import { openFileStore } from ${JSON.stringify(sourceFile)};
      const store = openFileStore({
        path: ${JSON.stringify(path)}, sizeBytes: 1 << 20, isSizeGiven: true, blockBytes: 512, isReadOnly: false,
      });
      store.write(12345, Buffer.from("still here"));
      store.flush((status) => process.stdout.write("flushed " + status));
      setInterval(() => {}, 1000);
    `;
    const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    onTestFinished(() => void child.kill("SIGKILL"));
    const exited = new Promise((resolve) => child.once("exit", (_code, signal) => resolve(signal)));
    const said = await new Promise((resolve) => child.stdout.once("data", (data) => resolve(String(data))));
    expect(said).toBe(`flushed ${Status.ok}`);
    expect(refusal({ path })).toContain("is in use by another server");

    child.kill("SIGKILL");
    expect(await exited).toBe("SIGKILL");
    const found = Buffer.alloc(10);
    opened({ path }).read(12345, found);
    expect(found.toString()).toBe("still here");
  });

  test("contents survive a restart", async () => {
    const path = join(scratchDirectory(), "disk.img");
    const first = open({ path });
    first.write(0, Buffer.from("abc"));
    expect(await flush(first)).toBe(Status.ok);
    first.close();
    const found = Buffer.alloc(3);
    opened({ path }).read(0, found);
    expect(found.toString()).toBe("abc");
  });
});

describe("a full file system", () => {
  test("gives nospc to the write, keeps what was there, and goes on after a trim", (context) => {
    if (process.getuid?.() !== 0) context.skip("only root may mount the small file system");
    const directory = scratchDirectory();
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "blkforge-test", directory], { stdio: "pipe" });
    } catch (error) {
      context.skip(`root may not mount here: ${String((error as { stderr: Buffer }).stderr).trim()}`);
    }
    onTestFinished(() => void execFileSync("umount", [directory]));
    const store = opened({ path: join(directory, "disk.img"), sizeBytes: 4 << 20 });
    const chunk = Buffer.alloc(256 << 10, 9);
    const statuses = [0, 1, 2, 3, 4, 5].map((n) => store.write(n * chunk.length, chunk));
    expect(statuses.slice(0, 3)).toEqual([Status.ok, Status.ok, Status.ok]);
    expect(statuses.at(-1)).toBe(Status.nospc);
    expect(store.zero(2 << 20, 1 << 20, true)).toBe(Status.nospc);

    const found = Buffer.alloc(chunk.length);
    expect(store.read(0, found)).toBe(Status.ok);
    expect(found.equals(chunk)).toBe(true);
    expect(store.trim(0, 2 << 20)).toBe(Status.ok);
    expect(store.write(3 << 20, chunk)).toBe(Status.ok);
  });
});

describe("a server of its own for each image", () => {
  test("one that is written to is refused to everybody else", () => {
    const path = join(scratchDirectory(), "disk.img");
    opened({ path });
    expect(refusal({ path })).toContain("is in use by another server");
    expect(refusal({ path, isReadOnly: true })).toContain("is in use by another server");
  });

  test("the lock is on the file, whatever it is called", () => {
    const directory = scratchDirectory();
    opened({ path: join(directory, "disk.img") });
    linkSync(join(directory, "disk.img"), join(directory, "other.img"));
    expect(refusal({ path: join(directory, "other.img") })).toContain("is in use by another server");
  });

  test("readers share, and keep writers out", () => {
    const path = join(scratchDirectory(), "disk.img");
    open({ path }).close();
    const first = opened({ path, isReadOnly: true });
    opened({ path, isReadOnly: true });
    expect(first.isVolatile).toBe(true);
    expect(refusal({ path })).toContain("is in use by another server");
  });
});

describe("an image that cannot be used is refused in one sentence", () => {
  test.each([
    ["a folder", (path: string) => mkdirSync(path), {}, "illegal operation on a directory"],
    [
      "a folder, to be read",
      (path: string) => mkdirSync(path),
      { isReadOnly: true },
      "is not a regular file. Give the path of a raw image",
    ],
    [
      "a named pipe",
      (path: string) => void execFileSync("mkfifo", [path]),
      { isReadOnly: true },
      "is not a regular file",
    ],
    [
      "another size than asked for",
      (path: string) => writeFileSync(path, Buffer.alloc(1 << 20)),
      { sizeBytes: 2 << 20, isSizeGiven: true },
      "holds 1M, not the 2M asked for",
    ],
    [
      "no multiple of the block",
      (path: string) => writeFileSync(path, Buffer.alloc(1000)),
      {},
      "truncate -s 1024",
    ],
    ["nothing there to read", () => {}, { isReadOnly: true }, "does not exist"],
    [
      "nothing in it to read",
      (path: string) => writeFileSync(path, ""),
      { isReadOnly: true },
      "is empty, so there is nothing to read",
    ],
  ])("%s", (_what, prepare, options, sentence) => {
    const path = join(scratchDirectory(), "disk.img");
    prepare(path);
    expect(refusal({ path, ...options })).toContain(sentence);
    expect(refusal({ path, ...options })).toContain(`"${path}"`);
  });

  test("a missing folder", () => {
    const path = join(scratchDirectory(), "missing", "disk.img");
    expect(refusal({ path })).toBe(
      `BLK_E_FILE  image "${path}" cannot be used: no such file or directory. Check that its folder exists and may be written`,
    );
  });

  test("a size the file system cannot hold leaves nothing behind", () => {
    const path = join(scratchDirectory(), "disk.img");
    expect(refusal({ path, sizeBytes: Number.MAX_SAFE_INTEGER })).toMatch(/cannot be used: file too large/);
    expect(existsSync(path)).toBe(false);
  });
});
