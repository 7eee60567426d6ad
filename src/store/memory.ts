/**
 * A store in memory, sparse to the page: a 16 TiB device costs only what is written to it, and trim and zero give the
 * memory back. Contents are gone at the end of the process.
 *
 * The bytes lie in one lazily populated mapping outside the JavaScript heap (`native/sparse-memory.cc`), with one bit
 * per 4 KiB page, so reading what was never written touches nothing and `allocatedBytes` is exact.
 */
import { getSystemErrorName } from "node:util";
import { BlkError } from "../base/errors.js";
import { loadNative, type NativeSparseMemory } from "../base/native.js";
import { Status } from "../base/status.js";
import { formatSize } from "../base/units.js";
import type { Extent, NativeBytes, Store } from "./store.js";

export interface MemoryStoreOptions {
  sizeBytes: number;
  /** Writes that would take more memory than this end in `nospc`. Without it the system's memory is the limit. */
  limitBytes?: number;
  /** All of its memory is had from the start: no write waits for the system to find a page, until space is trimmed. */
  isPreallocated?: boolean;
}

export class MemoryStore implements Store {
  sizeBytes: number;
  readonly isVolatile = true;

  private readonly memory: NativeSparseMemory;
  private readonly limitBytes: number;

  /** @throws BlkError BLK_E_MEMORY when the system refuses the address space, or there is no memory for all that is wanted now. */
  constructor({
    sizeBytes,
    limitBytes = Number.POSITIVE_INFINITY,
    isPreallocated = false,
  }: MemoryStoreOptions) {
    this.sizeBytes = sizeBytes;
    this.limitBytes = limitBytes;
    this.memory = mapMemory(sizeBytes);
    if (isPreallocated) this.preallocate();
  }

  private preallocate(): void {
    const { sizeBytes, limitBytes } = this;
    const errno = sizeBytes > limitBytes ? 0 : this.memory.populate();
    if (sizeBytes <= limitBytes && errno === 0) return;
    this.memory.close();
    const limitMiB = Math.floor(limitBytes / 2 ** 20);
    const why = errno === 0 ? `its limit is ${limitMiB} MiB` : getSystemErrorName(-errno);
    throw new BlkError(
      "BLK_E_MEMORY",
      `a device of ${formatSize(sizeBytes)} cannot be preallocated: ${why}`,
      "Choose a smaller --size, a larger --memory-limit, or leave out --preallocate: memory is then taken as it is written",
    );
  }

  /** What lands is promised its room from the first byte on, so writes that land at the same time keep to the limit together. */
  canLand(offsetBytes: number, lengthBytes: number): boolean {
    return this.hasRoomFor(offsetBytes, lengthBytes);
  }

  read(offsetBytes: number, target: Uint8Array): Status {
    this.memory.read(offsetBytes, target);
    return Status.ok;
  }

  write(offsetBytes: number, source: Uint8Array): Status {
    if (!this.hasRoomFor(offsetBytes, source.length)) return Status.nospc;
    this.memory.write(offsetBytes, source);
    return Status.ok;
  }

  zero(offsetBytes: number, lengthBytes: number, keepAllocated: boolean): Status {
    if (keepAllocated) {
      if (!this.hasRoomFor(offsetBytes, lengthBytes)) return Status.nospc;
      this.memory.reserve(offsetBytes, lengthBytes);
    } else {
      this.memory.discard(offsetBytes, lengthBytes);
    }
    return Status.ok;
  }

  trim(offsetBytes: number, lengthBytes: number): Status {
    this.memory.discard(offsetBytes, lengthBytes);
    return Status.ok;
  }

  flush(done: (status: Status) => void): void {
    queueMicrotask(() => done(Status.ok));
  }

  grow(sizeBytes: number): void {
    const errno = this.memory.grow(sizeBytes);
    if (errno !== 0) throw outOfAddressSpace(sizeBytes, new Error(getSystemErrorName(-errno)));
    this.sizeBytes = sizeBytes;
  }

  get nativeBytes(): NativeBytes {
    return { memory: this.memory, limitBytes: this.limitBytes };
  }

  allocatedBytes(): number {
    return this.memory.allocatedBytes();
  }

  /** The range as alternating runs of held pages and holes, in order and without gaps. */
  *extents(offsetBytes: number, lengthBytes: number): Generator<Extent> {
    const endBytes = offsetBytes + lengthBytes;
    for (let from = offsetBytes; from < endBytes; ) {
      const to = this.memory.extentEnd(from, endBytes);
      yield { offsetBytes: from, lengthBytes: to - from, isAllocated: this.memory.isAllocated(from) };
      from = to;
    }
  }

  close(): void {
    this.memory.close();
  }

  private hasRoomFor(offsetBytes: number, lengthBytes: number): boolean {
    if (this.limitBytes === Number.POSITIVE_INFINITY) return true;
    return this.memory.hasRoomFor(offsetBytes, lengthBytes, this.limitBytes);
  }
}

function mapMemory(sizeBytes: number): NativeSparseMemory {
  const { SparseMemory } = loadNative();
  try {
    return new SparseMemory(sizeBytes);
  } catch (error) {
    throw outOfAddressSpace(sizeBytes, error as Error);
  }
}

function outOfAddressSpace(sizeBytes: number, cause: Error): BlkError {
  return new BlkError(
    "BLK_E_MEMORY",
    `the system refuses ${formatSize(sizeBytes)} of address space for a device in memory: ${cause.message}`,
    "Choose a smaller --size, keep the device in a file (--file), or allow overcommitting: " +
      "sysctl vm.overcommit_memory=0 and ulimit -v unlimited",
    { cause },
  );
}
