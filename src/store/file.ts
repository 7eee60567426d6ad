/**
 * A store in a raw image file, created sparse if missing: byte n of the device is byte n of the file, so other tools can
 * read it.
 *
 * Bytes move at arrival, through the host's page cache, on the device thread: that keeps them in arrival order at a
 * few microseconds a request. A host that must read its own disk first makes the reply late, which the device's
 * lateness shows. What was flushed survives the end of the process in any manner; a power cut of the *host* too, as far
 * as its own file system and disk keep their promises.
 *
 * A failed sync is final: the kernel drops the pages it could not write and reports that once (Rebello et al., "Can
 * Applications Recover from fsync Failures?", ATC'20), so every later flush fails as well until the server is started anew.
 *
 * A file is locked (flock) while it is served: writers exclude everybody, readers exclude writers.
 */
import {
  closeSync,
  fdatasync,
  constants as fileConstants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs";
import { constants } from "node:os";
import { dirname } from "node:path";
import { BlkError, isSystemError } from "../base/errors.js";
import { loadNative } from "../base/native.js";
import { Status } from "../base/status.js";
import { formatSize } from "../base/units.js";
import type { Extent, NativeBytes, Store } from "./store.js";

export interface FileStoreOptions {
  path: string;
  /** Capacity of a new image, and what an existing one must have if `isSizeGiven`. */
  sizeBytes: number;
  /** Whether the capacity was asked for. If not, an existing image keeps its own. */
  isSizeGiven: boolean;
  /** The device's logical block: a capacity is a multiple of it. */
  blockBytes: number;
  isReadOnly: boolean;
}

/** Zeroes are written in pieces of this size where the file system cannot make holes. */
const zeroChunkBytes = 1 << 20;

const { errno } = constants;

/**
 * Opens or creates the image.
 *
 * @throws BlkError BLK_E_FILE when it cannot be used; nothing is created then.
 */
export function openFileStore(options: FileStoreOptions): FileStore {
  const { path, isReadOnly } = options;
  const { fd, isNew } = openImage(path, isReadOnly);
  let isLocked = false;
  try {
    if (!fstatSync(fd).isFile()) refuse(path, "is not a regular file", "Give the path of a raw image");
    lock(fd, options);
    isLocked = true;
    // Asked again: before the lock was had, another server may have just created it.
    const fileBytes = fstatSync(fd).size;
    if (fileBytes > 0) {
      checkSize(fileBytes, options);
      return new FileStore(fd, fileBytes, isReadOnly);
    }
    if (isReadOnly)
      refuse(path, "is empty, so there is nothing to read", "Leave out --read-only to create an image");
    ftruncateSync(fd, options.sizeBytes);
    makeDurable(fd, path);
    return new FileStore(fd, options.sizeBytes, isReadOnly);
  } catch (error) {
    // Removed while still locked, and only then: a new file that another server has locked first is that server's.
    if (isNew && isLocked) rmSync(path, { force: true });
    closeSync(fd);
    if (error instanceof BlkError) throw error;
    return refuse(path, reasonOf(error), "Check the file system it lies on");
  }
}

function openImage(path: string, isReadOnly: boolean): { fd: number; isNew: boolean } {
  const access = isReadOnly ? fileConstants.O_RDONLY : fileConstants.O_RDWR;
  try {
    // Not to be held up by a named pipe, which is refused afterwards; regular files know no such mode.
    return { fd: openSync(path, access | fileConstants.O_NONBLOCK), isNew: false };
  } catch (error) {
    if (!isSystemError(error, "ENOENT")) {
      return refuse(path, reasonOf(error), "Check the path and its permissions");
    }
    if (isReadOnly) refuse(path, "does not exist", "Leave out --read-only to create it");
  }
  try {
    return { fd: openSync(path, "wx+"), isNew: true };
  } catch (error) {
    return refuse(path, reasonOf(error), "Check that its folder exists and may be written");
  }
}

function lock(fd: number, { path, isReadOnly }: FileStoreOptions): void {
  const error = loadNative().lockFile(fd, !isReadOnly);
  if (error === errno.EWOULDBLOCK) {
    refuse(path, "is in use by another server", "Stop that one, or give each its own image");
  }
  if (error !== 0) {
    refuse(
      path,
      `its file system cannot lock it (error ${error})`,
      "Keep the image on a local file system, so that no two servers write to it at once",
    );
  }
}

/** What the system said, without the call and path that node:fs adds: "permission denied". */
function reasonOf(error: unknown): string {
  const { message } = error as Error;
  return /^[A-Z0-9]+: ([^,]+)/.exec(message)?.[1] ?? message;
}

function checkSize(fileBytes: number, { path, sizeBytes, isSizeGiven, blockBytes }: FileStoreOptions): void {
  if (isSizeGiven && fileBytes !== sizeBytes) {
    refuse(
      path,
      `holds ${formatSize(fileBytes)}, not the ${formatSize(sizeBytes)} asked for`,
      "Leave out --size, or change the file with truncate -s",
    );
  }
  if (fileBytes % blockBytes !== 0) {
    refuse(
      path,
      `holds ${fileBytes} bytes, which is not a multiple of the ${blockBytes}-byte logical block`,
      `Extend it: truncate -s ${Math.ceil(fileBytes / blockBytes) * blockBytes}`,
    );
  }
}

/** A new file is durable only when its directory entry is. */
function makeDurable(fd: number, path: string): void {
  fsyncSync(fd);
  const directory = openSync(dirname(path), "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

function refuse(path: string, what: string, hint: string): never {
  throw new BlkError("BLK_E_FILE", `image "${path}" cannot be used: ${what}`, hint);
}

export class FileStore implements Store {
  sizeBytes: number;
  readonly isVolatile: boolean;

  private readonly fd: number;
  private readonly native = loadNative();
  /** Flushes that the sync under way covers; empty when none is. */
  private syncing: ((status: Status) => void)[] = [];
  /** Flushes that came after it began: what they cover may not be in it, so they wait for the next. */
  private waiting: ((status: Status) => void)[] = [];
  private isSyncing = false;
  /** How the first failed sync failed; ok while none has. */
  private syncFailure: Status = Status.ok;
  private isClosed = false;

  /** Use `openFileStore`. Takes over `fd`, which is locked. */
  constructor(fd: number, sizeBytes: number, isReadOnly: boolean) {
    this.fd = fd;
    this.sizeBytes = sizeBytes;
    this.isVolatile = isReadOnly;
  }

  read(offsetBytes: number, target: Uint8Array): Status {
    try {
      for (let done = 0; done < target.length; ) {
        const count = readSync(this.fd, target, done, target.length - done, offsetBytes + done);
        // Somebody has cut the file off behind our back. Its bytes are lost, and zeroes in their place would hide that.
        if (count === 0) return Status.io;
        done += count;
      }
      return Status.ok;
    } catch (error) {
      return statusOf(error);
    }
  }

  write(offsetBytes: number, source: Uint8Array): Status {
    try {
      for (let done = 0; done < source.length; ) {
        done += writeSync(this.fd, source, done, source.length - done, offsetBytes + done);
      }
      return Status.ok;
    } catch (error) {
      return statusOf(error);
    }
  }

  zero(offsetBytes: number, lengthBytes: number, keepAllocated: boolean): Status {
    if (lengthBytes === 0) return Status.ok;
    const { zeroRange, punchHole } = this.native;
    const deallocate = keepAllocated ? zeroRange : punchHole;
    const error = deallocate === undefined ? errno.EOPNOTSUPP : deallocate(this.fd, offsetBytes, lengthBytes);
    return isUnsupported(error) ? this.writeZeroes(offsetBytes, lengthBytes) : statusOfErrno(error);
  }

  trim(offsetBytes: number, lengthBytes: number): Status {
    const { punchHole } = this.native;
    if (punchHole === undefined || lengthBytes === 0) return Status.ok;
    const error = punchHole(this.fd, offsetBytes, lengthBytes);
    return isUnsupported(error) ? Status.ok : statusOfErrno(error);
  }

  flush(done: (status: Status) => void): void {
    this.waiting.push(done);
    if (!this.isSyncing) this.startSync();
  }

  *extents(offsetBytes: number, lengthBytes: number): Generator<Extent> {
    const { seekFile } = this.native;
    const endBytes = offsetBytes + lengthBytes;
    for (let from = offsetBytes; from < endBytes; ) {
      // An error means no data from here on (ENXIO), or a file system that cannot tell: then all of it counts as held.
      const data = seekFile === undefined ? from : seekFile(this.fd, from, true);
      const isAllocated = data === from || (data < 0 && data !== -errno.ENXIO);
      const next = isAllocated ? (seekFile?.(this.fd, from, false) ?? endBytes) : data;
      const to = next > from && next < endBytes ? next : endBytes;
      yield { offsetBytes: from, lengthBytes: to - from, isAllocated };
      from = to;
    }
  }

  grow(sizeBytes: number): void {
    try {
      ftruncateSync(this.fd, sizeBytes);
      // The new size is part of what the next flush promises, but a flush syncs data only (fdatasync).
      fsyncSync(this.fd);
    } catch (error) {
      throw new BlkError(
        "BLK_E_FILE",
        `the image cannot grow to ${formatSize(sizeBytes)}: ${(error as Error).message}`,
        "Check the file system it lies on, and whether it is served with --read-only",
        { cause: error },
      );
    }
    this.sizeBytes = sizeBytes;
  }

  get nativeBytes(): NativeBytes {
    return { fd: this.fd };
  }

  allocatedBytes(): number {
    return fstatSync(this.fd).blocks * 512;
  }

  close(): void {
    this.isClosed = true;
    // A sync under way still uses the descriptor; the last one closes it.
    if (!this.isSyncing) closeSync(this.fd);
  }

  private startSync(): void {
    this.isSyncing = true;
    this.syncing = this.waiting;
    this.waiting = [];
    fdatasync(this.fd, (error) => this.finishSync(error));
  }

  private finishSync(error: NodeJS.ErrnoException | null): void {
    this.isSyncing = false;
    if (error !== null && this.syncFailure === Status.ok) this.syncFailure = statusOf(error);
    const covered = this.syncing;
    this.syncing = [];
    if (this.waiting.length > 0) this.startSync();
    else if (this.isClosed) closeSync(this.fd);
    for (const done of covered) done(this.syncFailure);
  }

  private writeZeroes(offsetBytes: number, lengthBytes: number): Status {
    const zeroes = new Uint8Array(Math.min(lengthBytes, zeroChunkBytes));
    for (let done = 0; done < lengthBytes; done += zeroes.length) {
      const status = this.write(
        offsetBytes + done,
        zeroes.subarray(0, Math.min(zeroes.length, lengthBytes - done)),
      );
      if (status !== Status.ok) return status;
    }
    return Status.ok;
  }
}

function isUnsupported(error: number): boolean {
  return error === errno.EOPNOTSUPP || error === errno.ENOSYS || error === errno.ENODEV;
}

function statusOf(error: unknown): Status {
  // node:fs gives libuv's number, which is the negative errno.
  return statusOfErrno(-((error as NodeJS.ErrnoException).errno ?? -errno.EIO));
}

function statusOfErrno(error: number): Status {
  switch (error) {
    case 0:
      return Status.ok;
    case errno.ENOSPC:
    case errno.EDQUOT:
    case errno.EFBIG:
      return Status.nospc;
    case errno.ENOMEM:
      return Status.resource;
    default:
      return Status.io;
  }
}
