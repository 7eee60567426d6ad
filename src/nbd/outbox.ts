/**
 * Bytes on their way to one client: small replies gathered into one buffer and handed to the socket once per batch,
 * large ones in a buffer of their own, everything from the shared pool and back to it when the socket has taken it.
 *
 * Bounded: `canTake` says no while the client does not read what it was sent, and the replies stay where they are.
 */
import type { Writable } from "node:stream";
import { assert } from "../base/assert.js";
import type { BufferPool, PooledBuffer } from "./buffer-pool.js";

/** Where replies are written, and from where they are sent. */
export interface Outbox {
  readonly isEmpty: boolean;
  /** Grows whenever the client reads. */
  readonly progress: number;
  /** Payloads from this length on may be inserted; infinite where none can. */
  readonly insertsFromBytes: number;
  /** Whether a reply of this size may be added now. One larger than the limit may when nothing else waits. */
  canTake(lengthBytes: number): boolean;
  /**
   * A buffer with room for `lengthBytes` from `position` on; null when the pool has none left. Followed by `advance`
   * over what was really written.
   */
  reserve(lengthBytes: number): Buffer | null;
  readonly position: number;
  advance(lengthBytes: number): void;
  /** Puts a piece of the device behind what has been written, without copying it. */
  insert(offsetBytes: number, lengthBytes: number): void;
  /** Hands everything gathered to the socket. */
  flush(): void;
  /** The socket is gone: gives back what it does not hold. */
  discard(): void;
}

export class StreamOutbox implements Outbox {
  readonly insertsFromBytes = Number.POSITIVE_INFINITY;

  /** Memory handed to the socket that it has not given back: whole buffers, however little of them is filled. */
  private queuedBytes = 0;
  /** Buffers the socket has taken since the start: how one sees that a client reads. */
  private writtenBuffers = 0;

  private readonly stream: Writable;
  private readonly pool: BufferPool;
  private readonly limitBytes: number;
  private readonly onWritten: () => void;

  private open: PooledBuffer | null = null;
  private openBytes = 0;
  private isCorked = false;
  /** Buffers the stream holds, oldest first: it takes them in order. */
  private readonly inStream: PooledBuffer[] = [];

  /** @param onWritten called when the socket has taken a buffer, or has been destroyed with it. */
  constructor(stream: Writable, pool: BufferPool, limitBytes: number, onWritten: () => void) {
    this.stream = stream;
    this.pool = pool;
    this.limitBytes = limitBytes;
    this.onWritten = onWritten;
  }

  get isEmpty(): boolean {
    return this.queuedBytes === 0 && this.open === null;
  }

  get progress(): number {
    return this.writtenBuffers;
  }

  canTake(lengthBytes: number): boolean {
    return this.queuedBytes === 0 || this.queuedBytes + this.openBytes + lengthBytes <= this.limitBytes;
  }

  reserve(lengthBytes: number): Buffer | null {
    if (this.open !== null) {
      if (this.openBytes + lengthBytes <= this.open.bytes.length) return this.open.bytes;
      this.close(this.open);
    }
    this.open =
      this.queuedBytes === 0 ? this.pool.takeForOnlyReply(lengthBytes) : this.pool.take(lengthBytes);
    return this.open === null ? null : this.open.bytes;
  }

  get position(): number {
    return this.openBytes;
  }

  advance(lengthBytes: number): void {
    this.openBytes += lengthBytes;
  }

  insert(): void {
    assert(false, "a stream takes copies only");
  }

  flush(): void {
    if (this.open !== null) this.close(this.open);
    if (this.isCorked) {
      this.isCorked = false;
      this.stream.uncork();
    }
  }

  /** The socket is gone: gives back what was never handed to it. What it holds comes back through its callbacks. */
  discard(): void {
    if (this.open !== null) this.pool.give(this.open);
    this.open = null;
    this.openBytes = 0;
  }

  private close(buffer: PooledBuffer): void {
    const lengthBytes = this.openBytes;
    this.open = null;
    this.openBytes = 0;
    if (!this.isCorked && this.queuedBytes > 0) {
      // Something is in the stream already: what follows in this batch shall go out in one writev.
      this.isCorked = true;
      this.stream.cork();
    }
    this.queuedBytes += buffer.bytes.length;
    this.inStream.push(buffer);
    this.stream.write(buffer.bytes.subarray(0, lengthBytes), this.onStreamTook);
  }

  private readonly onStreamTook = (): void => {
    const buffer = this.inStream.shift()!;
    this.queuedBytes -= buffer.bytes.length;
    this.writtenBuffers++;
    this.pool.give(buffer);
    this.onWritten();
  };
}
