/** A store in memory against plain bytes, at every kind of boundary, and what it costs. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { BlkError } from "../../src/base/errors.js";
import { Status } from "../../src/base/status.js";
import { MemoryStore, type MemoryStoreOptions } from "../../src/store/memory.js";
import { type Action, actions, Oracle } from "./oracle.js";

const kib = 1024;
const mib = 1024 * kib;
const gib = 1024 * mib;
const tib = 1024 * gib;

function newStore(options: MemoryStoreOptions): MemoryStore {
  const store = new MemoryStore(options);
  onTestFinished(() => store.close());
  return store;
}

/** The system's page, in which memory is counted; 4 KiB nearly everywhere. */
function pageBytesOf(): number {
  const store = newStore({ sizeBytes: mib });
  store.write(0, Uint8Array.of(1));
  return store.allocatedBytes();
}

/** The pages a store must hold after the same operations. */
class HeldPages {
  readonly pages = new Set<number>();

  constructor(
    private readonly pageBytes: number,
    private readonly windowBytes: number,
    private readonly isAtEnd: boolean,
  ) {}

  apply({ kind, offsetBytes, lengthBytes }: Action): void {
    if (kind === "read") return;
    const endBytes = offsetBytes + lengthBytes;
    if (kind === "write" || kind === "reserve") {
      for (let page = this.pageOf(offsetBytes); page * this.pageBytes < endBytes; page++)
        this.pages.add(page);
      return;
    }
    for (const page of [...this.pages]) {
      const pageEnd = (page + 1) * this.pageBytes;
      // The device's last page is whole when its last byte is freed, though the page goes on behind it.
      const isWhole = pageEnd <= endBytes || (this.isAtEnd && endBytes === this.windowBytes);
      if (page * this.pageBytes >= offsetBytes && isWhole) this.pages.delete(page);
    }
  }

  pageOf(offsetBytes: number): number {
    return Math.floor(offsetBytes / this.pageBytes);
  }
}

describe("a store in memory", () => {
  const windowBytes = mib;
  const oddBytes = 512;
  test.each([
    { where: "at its start", beginBytes: 0, tailBytes: gib },
    { where: "across 1 GiB", beginBytes: gib - 512 * kib, tailBytes: gib },
    { where: "across 4 GiB", beginBytes: 4 * gib - 512 * kib, tailBytes: gib },
    { where: "at its end, in the middle of a page", beginBytes: 16 * tib, tailBytes: 0 },
  ])("reads as plain bytes do, and counts its pages exactly, $where", ({ beginBytes, tailBytes }) => {
    const pageBytes = pageBytesOf();
    const isAtEnd = tailBytes === 0;
    const usedBytes = isAtEnd ? windowBytes - oddBytes : windowBytes;
    fc.assert(
      fc.property(
        actions(windowBytes).map((all) => all.map((one) => within(one, usedBytes))),
        fc.nat(usedBytes - 1),
        (all, partFrom) => {
          const store = new MemoryStore({ sizeBytes: beginBytes + usedBytes + tailBytes });
          try {
            const oracle = new Oracle(store, beginBytes, usedBytes);
            const held = new HeldPages(pageBytes, usedBytes, isAtEnd);
            for (const operation of all) {
              oracle.apply(operation);
              held.apply(operation);
              expect(store.allocatedBytes()).toBe(held.pages.size * pageBytes);
            }
            oracle.expectSame();
            oracle.expectExtents(partFrom, usedBytes - partFrom);
            for (const { offsetBytes, lengthBytes, isAllocated } of oracle.expectExtents()) {
              const from = held.pageOf(offsetBytes - beginBytes);
              const last = held.pageOf(offsetBytes - beginBytes + lengthBytes - 1);
              for (let page = from; page <= last; page++) expect(held.pages.has(page)).toBe(isAllocated);
            }
          } finally {
            store.close();
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test("of 16 TiB costs only what is written to it, wherever that is, and nothing for reading holes", () => {
    const store = newStore({ sizeBytes: 16 * tib });
    const pageBytes = pageBytesOf();
    const buffer = new Uint8Array(4 * kib);
    const before = processBytes();

    const reads = 20_000;
    for (let index = 0; index < reads; index++) {
      store.read(Math.floor((16 * tib * index) / reads / 4096) * 4096, buffer);
    }
    expect(store.allocatedBytes()).toBe(0);
    // A hole that was touched would cost one or two page tables, 80 to 160 MiB in all.
    expect(processBytes() - before).toBeLessThan(32 * mib);

    const writes = 1000;
    for (let index = 0; index < writes; index++) store.write(((16 * tib) / 1024) * index, buffer.fill(1));
    expect(store.allocatedBytes()).toBe(writes * pageBytes);
    // Each write costs its page and at the worst a page of the bitmap and the page tables of both.
    expect(processBytes() - before).toBeLessThan(32 * mib + writes * 6 * pageBytes);
  });

  test.each<[string, (store: MemoryStore) => Status]>([
    ["trim", (store) => store.trim(0, store.sizeBytes)],
    ["zeroing", (store) => store.zero(0, store.sizeBytes, false)],
  ])("gives memory back on %s", (_, free) => {
    const sizeBytes = 128 * mib;
    const store = newStore({ sizeBytes });
    const buffer = new Uint8Array(mib).fill(1);
    for (let at = 0; at < sizeBytes; at += mib) store.write(at, buffer);
    const full = processBytes();

    expect(free(store)).toBe(Status.ok);

    expect(store.allocatedBytes()).toBe(0);
    expect(full - processBytes()).toBeGreaterThan(sizeBytes / 2);
    store.read(0, buffer);
    expect(buffer.every((byte) => byte === 0)).toBe(true);
  });

  test("gives all memory back when it is closed", () => {
    const store = new MemoryStore({ sizeBytes: 128 * mib });
    const buffer = new Uint8Array(mib).fill(1);
    for (let at = 0; at < store.sizeBytes; at += mib) store.write(at, buffer);
    const full = processBytes();
    store.close();
    expect(full - processBytes()).toBeGreaterThan(64 * mib);
  });

  test("ends a write beyond its limit in nospc and leaves everything as it was", () => {
    const pageBytes = pageBytesOf();
    const store = newStore({ sizeBytes: gib, limitBytes: 4 * pageBytes });
    expect(store.write(0, new Uint8Array(3 * pageBytes).fill(7))).toBe(Status.ok);

    // Two pages more than there is room for one.
    expect(store.write(3 * pageBytes - 1, new Uint8Array(pageBytes + 2).fill(9))).toBe(Status.nospc);
    expect(store.zero(gib / 2, 2 * pageBytes, true)).toBe(Status.nospc);

    expect(store.allocatedBytes()).toBe(3 * pageBytes);
    const read = new Uint8Array(5 * pageBytes);
    store.read(0, read);
    expect(read.every((byte, index) => byte === (index < 3 * pageBytes ? 7 : 0))).toBe(true);
  });

  test("at its limit takes overwrites, and new writes again once something was trimmed", () => {
    const pageBytes = pageBytesOf();
    const store = newStore({ sizeBytes: gib, limitBytes: pageBytes });
    const page = new Uint8Array(pageBytes).fill(1);
    expect(store.write(0, page)).toBe(Status.ok);
    expect(store.write(0, page.fill(2))).toBe(Status.ok);
    expect(store.zero(0, pageBytes, true)).toBe(Status.ok);
    expect(store.write(gib / 2, page)).toBe(Status.nospc);
    expect(store.write(gib / 2 + 1, new Uint8Array(0))).toBe(Status.ok);

    expect(store.trim(0, pageBytes)).toBe(Status.ok);

    expect(store.write(gib / 2, page)).toBe(Status.ok);
  });

  test("answers a flush after the call, never within it", async () => {
    const store = newStore({ sizeBytes: mib });
    const order: string[] = [];
    await new Promise<void>((resolve) => {
      store.flush((status) => {
        order.push(`flushed: ${status}`);
        resolve();
      });
      order.push("returned");
    });
    expect(order).toEqual(["returned", `flushed: ${Status.ok}`]);
  });

  test.runIf(process.platform === "linux")(
    "takes all of its memory at start when asked to, and still tells holes from data",
    () => {
      const before = processBytes();
      const store = newStore({ sizeBytes: 64 * mib, isPreallocated: true });
      expect(processBytes() - before).toBeGreaterThan(60 * mib);
      expect(store.allocatedBytes()).toBe(0);
      const read = new Uint8Array(mib).fill(1);
      store.read(5 * mib, read);
      expect(read.every((byte) => byte === 0)).toBe(true);
    },
  );

  test("refuses to preallocate more than it may take", () => {
    expect(() => newStore({ sizeBytes: 2 * mib, limitBytes: mib, isPreallocated: true })).toThrow(
      expect.objectContaining({
        code: "BLK_E_MEMORY",
        message: expect.stringContaining("its limit is 1 MiB"),
      }),
    );
  });

  test("refuses a size the address space cannot hold, and says so", () => {
    const sizeBytes = 2 ** 52;
    const refusal = expect.objectContaining({
      code: "BLK_E_MEMORY",
      message: expect.stringMatching(/refuses 4P.* of address space/),
      hint: expect.stringContaining("--file"),
    });
    expect(() => newStore({ sizeBytes })).toThrow(refusal);
    expect(() => newStore({ sizeBytes })).toThrow(BlkError);
  });
});

/** The operation cut to the window's first `endBytes`. */
function within(operation: Action, endBytes: number): Action {
  const offsetBytes = Math.min(operation.offsetBytes, endBytes - 1);
  return { ...operation, offsetBytes, lengthBytes: Math.min(operation.lengthBytes, endBytes - offsetBytes) };
}

/** What this process costs: its resident memory, and on Linux the page tables, which are not part of that. */
function processBytes(): number {
  if (process.platform !== "linux") return process.memoryUsage.rss();
  const status = readFileSync("/proc/self/status", "utf8");
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1]) * kib;
  return field("VmRSS") + field("VmPTE");
}
