/**
 * Archives in the "newc" cpio format, the one the Linux kernel unpacks as its first root file system.
 *
 * An initramfs may be several archives one after the other (the later win), which is what lets the lab cache its
 * parts one by one. Everything is written as root's, with one fixed time, so equal contents give equal bytes.
 * No compression: unpacking a compressed image costs an emulated CPU more than copying a plain one.
 *
 * Source: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
 */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { assert } from "../base/assert.js";

/** One thing in the archive. `path` is relative to the root, without a leading slash. */
export type CpioEntry =
  | { kind: "folder"; path: string }
  | { kind: "link"; path: string; target: string }
  | { kind: "file"; path: string; content: Uint8Array; isExecutable: boolean };

const typeFolder = 0o040000;
const typeFile = 0o100000;
const typeLink = 0o120000;

/** Sizes and names of all fields are eight hexadecimal digits behind the magic number. */
const headerBytes = 110;
const largestFileBytes = 0xffffffff;

/** The archive's bytes, piece by piece. Folders that lead to an entry are added where they are missing. */
export function* writeCpio(entries: Iterable<CpioEntry>): Generator<Uint8Array> {
  const folders = new Set<string>();
  let inode = 1;
  for (const entry of entries) {
    for (const folder of foldersAbove(entry.path)) {
      if (folders.has(folder)) continue;
      folders.add(folder);
      yield header(folder, typeFolder | 0o755, 0, inode++);
    }
    switch (entry.kind) {
      case "folder":
        if (!folders.has(entry.path)) yield header(entry.path, typeFolder | 0o755, 0, inode++);
        folders.add(entry.path);
        break;
      case "link": {
        const target = Buffer.from(entry.target);
        yield header(entry.path, typeLink | 0o777, target.length, inode++);
        yield* padded(target);
        break;
      }
      case "file":
        yield header(
          entry.path,
          typeFile | (entry.isExecutable ? 0o755 : 0o644),
          entry.content.length,
          inode++,
        );
        yield* padded(entry.content);
        break;
    }
  }
  yield header("TRAILER!!!", 0, 0, 0);
}

/** A name for the archive these entries would make: equal for equal contents, whatever file they came from. */
export function hashEntries(entries: readonly CpioEntry[]): string {
  const hash = createHash("sha256");
  for (const piece of writeCpio(entries)) hash.update(piece);
  return hash.digest("hex").slice(0, 32);
}

/** Writes an archive to `path`. */
export async function writeCpioFile(path: string, entries: readonly CpioEntry[]): Promise<void> {
  await pipeline(Readable.from(writeCpio(entries)), createWriteStream(path));
}

/** Puts archives one after the other into one file. Each is a multiple of four bytes long, as the kernel expects. */
export async function concatenate(target: string, sources: readonly string[]): Promise<void> {
  for (const [index, source] of sources.entries()) {
    await pipeline(
      createReadStream(source, { highWaterMark: 1 << 20 }),
      createWriteStream(target, { flags: index === 0 ? "w" : "a", highWaterMark: 1 << 20 }),
    );
  }
}

/** A file of the machine as an entry of the archive. */
export function fileEntry(path: string, source: string, isExecutable: boolean): CpioEntry {
  return { kind: "file", path, content: readFileSync(source), isExecutable };
}

function foldersAbove(path: string): string[] {
  const parts = path.split("/");
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join("/"));
}

function header(path: string, mode: number, sizeBytes: number, inode: number): Uint8Array {
  assert(!path.startsWith("/") && path !== "", "names in an archive are relative");
  assert(sizeBytes <= largestFileBytes, "a file in an archive is smaller than 4 GiB");
  const nameBytes = Buffer.byteLength(path) + 1;
  const isFolder = (mode & 0o170000) === typeFolder;
  const fields = [
    inode,
    mode,
    0, // uid: root
    0, // gid: root
    isFolder ? 2 : 1,
    0, // modification time: the epoch, for equal bytes from equal contents
    sizeBytes,
    0, // device major and minor, then those of a device node: unused
    0,
    0,
    0,
    nameBytes,
    0, // checksum: not part of this variant of the format
  ];
  const bytes = Buffer.alloc(roundUp4(headerBytes + nameBytes));
  bytes.write(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}${path}`);
  return bytes;
}

function* padded(content: Uint8Array): Generator<Uint8Array> {
  if (content.length === 0) return;
  yield content;
  const paddingBytes = roundUp4(content.length) - content.length;
  if (paddingBytes > 0) yield Buffer.alloc(paddingBytes);
}

function roundUp4(bytes: number): number {
  return (bytes + 3) & ~3;
}
