/**
 * The contract of every store: *what* bytes are there?
 *
 * A store moves bytes at once, on the calling thread; only `flush` may take its time, since making a file durable
 * does. Offsets and lengths are bytes, within the size (the transport has checked), and may have any alignment.
 * Methods return a `Status`, never throw for what the world does: a full file system is `nospc`, a failing disk `io`.
 */
import type { Extent } from "../base/extent.js";
import type { NativeSparseMemory } from "../base/native.js";
import type { Status } from "../base/status.js";

export type { Extent } from "../base/extent.js";

/** What a store is made of, for native threads to read and write beside it. */
export type NativeBytes = { memory: NativeSparseMemory; limitBytes: number } | { fd: number };

export interface Store {
  readonly sizeBytes: number;

  /** Whether a write to this range may be put straight into `nativeBytes`, bit by bit. */
  canLand?(offsetBytes: number, lengthBytes: number): boolean;

  /** Fills `target` with the bytes at `offsetBytes`; what was never written reads as zero. */
  read(offsetBytes: number, target: Uint8Array): Status;

  write(offsetBytes: number, source: Uint8Array): Status;

  /** Makes the range read as zero, freeing what it held unless `keepAllocated`. */
  zero(offsetBytes: number, lengthBytes: number, keepAllocated: boolean): Status;

  /** The range is no longer needed. It reads as zero afterwards where the store can free it. */
  trim(offsetBytes: number, lengthBytes: number): Status;

  /** Makes everything written so far durable, as far as this store can be; then calls `done` once, never before returning. */
  flush(done: (status: Status) => void): void;

  /** True when `flush` has nothing to do (memory): the caller may then skip it. */
  readonly isVolatile: boolean;

  /**
   * Makes the device larger; what is new reads as zero. A store without this method has a size for life. No store gets
   * smaller: requests in flight may lie anywhere.
   *
   * @throws BlkError when there is no room; the size is as it was then.
   */
  grow?(sizeBytes: number): void;

  /** The range as runs of held bytes and holes, in order and without gaps. */
  extents(offsetBytes: number, lengthBytes: number): Iterable<Extent>;

  /** Bytes actually held: what a sparse device costs. */
  allocatedBytes(): number;

  /** The bytes, for threads that move them by themselves (ublk). Memory, or a descriptor that stays the store's. */
  readonly nativeBytes: NativeBytes;

  /** Releases everything. The store must not be used afterwards. */
  close(): void;
}
