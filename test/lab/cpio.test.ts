import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { type CpioEntry, concatenate, hashEntries, writeCpio, writeCpioFile } from "../../src/lab/cpio.js";

/** A reader written from the format's description, apart from the writer. */
function readCpio(archive: Buffer): { path: string; mode: number; content: Buffer }[] {
  const found = [];
  for (let at = 0; ; ) {
    expect(archive.toString("latin1", at, at + 6)).toBe("070701");
    const field = (index: number): number =>
      Number.parseInt(archive.toString("latin1", at + 6 + index * 8, at + 14 + index * 8), 16);
    const nameBytes = field(11);
    const path = archive.toString("utf8", at + 110, at + 110 + nameBytes - 1);
    const contentAt = Math.ceil((at + 110 + nameBytes) / 4) * 4;
    const contentEnd = contentAt + field(6);
    if (path === "TRAILER!!!") {
      expect(contentAt).toBe(archive.length);
      return found;
    }
    found.push({ path, mode: field(1), content: archive.subarray(contentAt, contentEnd) });
    at = Math.ceil(contentEnd / 4) * 4;
  }
}

const folder = mkdtempSync(join(tmpdir(), "blkforge-cpio-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const entries: CpioEntry[] = [
  { kind: "file", path: "usr/bin/tool", content: Buffer.from("#!/bin/sh\n"), isExecutable: true },
  { kind: "link", path: "bin", target: "usr/bin" },
  { kind: "folder", path: "proc" },
  { kind: "file", path: "usr/bin/empty", content: Buffer.alloc(0), isExecutable: false },
];

describe("the cpio writer", () => {
  test("any names and contents come back from an independent reader", () => {
    const name = fc.stringMatching(/^[a-zA-Z0-9._µ-]{1,20}$/).filter((text) => !/^\.+$/.test(text));
    const files = fc.uniqueArray(fc.tuple(name, fc.uint8Array({ maxLength: 50 })), {
      selector: ([path]) => path,
    });
    fc.assert(
      fc.property(files, (given) => {
        const archive = Buffer.concat([
          ...writeCpio(
            given.map(([path, content]) => ({ kind: "file", path, content, isExecutable: false })),
          ),
        ]);
        const read = readCpio(archive).map(({ path, content }) => [path, [...content]]);
        expect(read).toEqual(given.map(([path, content]) => [path, [...content]]));
      }),
    );
  });

  test("folders that lead to a file come before it, each once", () => {
    const paths = readCpio(Buffer.concat([...writeCpio(entries)])).map(({ path }) => path);
    expect(paths).toEqual(["usr", "usr/bin", "usr/bin/tool", "bin", "proc", "usr/bin/empty"]);
  });

  test("equal contents make equal archives, another byte another one", () => {
    expect(hashEntries(entries)).toBe(hashEntries(structuredClone(entries)));
    expect(hashEntries(entries)).not.toBe(hashEntries(entries.slice(1)));
  });

  test("archives one after the other keep the alignment the kernel wants", async () => {
    const parts = [join(folder, "a"), join(folder, "b")];
    for (const part of parts) await writeCpioFile(part, entries);
    await concatenate(join(folder, "both"), parts);
    const both = readFileSync(join(folder, "both"));
    expect(both.length % 8).toBe(0);
    expect(both.subarray(both.length / 2).equals(readFileSync(parts[1]))).toBe(true);
  });

  const cpio = ["busybox"].find((program) => spawnSync(program, ["true"]).status === 0);
  test.skipIf(cpio === undefined)("busybox unpacks it (skipped where busybox is missing)", async () => {
    const archive = join(folder, "archive");
    const target = mkdtempSync(join(folder, "unpacked-"));
    await writeCpioFile(archive, entries);
    execFileSync("busybox", ["cpio", "-i", "-d", "-F", archive], { cwd: target, stdio: "ignore" });
    expect(readFileSync(join(target, "usr/bin/tool"), "utf8")).toBe("#!/bin/sh\n");
    expect(statSync(join(target, "usr/bin/tool")).mode & 0o777).toBe(0o755);
    expect(readlinkSync(join(target, "bin"))).toBe("usr/bin");
    expect(statSync(join(target, "proc")).isDirectory()).toBe(true);
  });
});
