/**
 * Replies on their way through the addon: headers and short payloads in buffers of the shared pool, and between them pieces of
 * the device's memory, which are sent from where they lie. One call hands a batch over, and as a rule sends it.
 *
 * A piece is read when the socket takes it: while a client does not read its reply, that reply shows what is written
 * meanwhile, which the client, still waiting for it, cannot tell from a read that was carried out later.
 *
 * Bounded as `StreamOutbox` is: by `canTake`, which counts whole buffers and all bytes of pieces that wait.
 */
import type { BufferPool, PooledBuffer } from "./buffer-pool.js";
import type { MovedSocket } from "./moved-socket.js";
import type { Outbox } from "./outbox.js";

/** Shorter payloads are copied behind their header: that costs less than another piece in the system call. */
const smallestInsertBytes = 1024;

export class GatherOutbox implements Outbox {
  readonly insertsFromBytes: number;

  private readonly socket: MovedSocket;
  private readonly pool: BufferPool;
  private readonly limitBytes: number;
  private readonly inserts: Float64Array;
  private readonly insertCapacity: number;

  /** The buffer being filled: up to `handedBytes` it has been handed over, up to `openBytes` it is written. */
  private open: PooledBuffer | null = null;
  private openBytes = 0;
  private handedBytes = 0;
  private insertCount = 0;
  private insertedBytes = 0;

  /** What the socket's `bytesSent` is when all that has been handed over is sent: others may have bytes in between. */
  private handedUntil = 0;
  /** Full buffers that have not been sent whole, oldest first; and what `bytesSent` is when they have. */
  private readonly waiting: PooledBuffer[] = [];
  private readonly waitingUntil: number[] = [];
  /** Memory of the buffers that wait. */
  private waitingBytes = 0;

  /** @param options.onWritten called when the socket has taken something that had waited. */
  constructor(
    socket: MovedSocket,
    pool: BufferPool,
    limitBytes: number,
    { hasMemory, onWritten }: { hasMemory: boolean; onWritten: () => void },
  ) {
    this.socket = socket;
    this.pool = pool;
    this.limitBytes = limitBytes;
    this.inserts = socket.inserts;
    this.insertCapacity = socket.inserts.length / 3;
    this.insertsFromBytes = hasMemory ? smallestInsertBytes : Number.POSITIVE_INFINITY;
    socket.onSent = () => {
      this.reclaim();
      onWritten();
    };
  }

  get isEmpty(): boolean {
    return this.open === null && this.waiting.length === 0;
  }

  get progress(): number {
    return this.socket.bytesSent;
  }

  canTake(lengthBytes: number): boolean {
    if (this.fits(lengthBytes)) return true;
    // What has been gathered may leave room by being sent; if it does not, the socket tells when it has been.
    this.flush();
    return this.fits(lengthBytes);
  }

  private fits(lengthBytes: number): boolean {
    const gatheredBytes = this.openBytes - this.handedBytes + this.insertedBytes;
    const queuedBytes = Math.max(this.waitingBytes, this.unsentBytes) + gatheredBytes;
    return queuedBytes === 0 || queuedBytes + lengthBytes <= this.limitBytes;
  }

  reserve(lengthBytes: number): Buffer | null {
    if (this.open !== null) {
      if (this.openBytes + lengthBytes <= this.open.bytes.length) return this.open.bytes;
      this.flush();
      this.retire();
    }
    this.open =
      this.waiting.length === 0 ? this.pool.takeForOnlyReply(lengthBytes) : this.pool.take(lengthBytes);
    return this.open === null ? null : this.open.bytes;
  }

  get position(): number {
    return this.openBytes;
  }

  advance(lengthBytes: number): void {
    this.openBytes += lengthBytes;
  }

  insert(offsetBytes: number, lengthBytes: number): void {
    if (this.insertCount === this.insertCapacity) this.handOver();
    const at = 3 * this.insertCount++;
    this.inserts[at] = this.openBytes;
    this.inserts[at + 1] = offsetBytes;
    this.inserts[at + 2] = lengthBytes;
    this.insertedBytes += lengthBytes;
  }

  flush(): void {
    if (this.open === null || this.handedBytes === this.openBytes) return;
    // With nothing left to send, an idle connection holds no memory.
    if (this.handOver()) this.reclaim();
  }

  discard(): void {
    for (const buffer of this.waiting.splice(0)) this.pool.give(buffer);
    if (this.open !== null) this.pool.give(this.open);
    this.open = null;
    this.waitingBytes = 0;
  }

  private get unsentBytes(): number {
    return this.socket.bytesQueued - this.socket.bytesSent;
  }

  /** True when all is sent. */
  private handOver(): boolean {
    const isSent = this.socket.send(this.open!.bytes, this.handedBytes, this.openBytes, this.insertCount);
    this.handedUntil = this.socket.bytesQueued;
    this.handedBytes = this.openBytes;
    this.insertCount = 0;
    this.insertedBytes = 0;
    return isSent;
  }

  /** Sets a full buffer aside until it has been sent. */
  private retire(): void {
    if (this.open === null) return;
    this.waiting.push(this.open);
    this.waitingUntil.push(this.handedUntil);
    this.waitingBytes += this.open.bytes.length;
    this.open = null;
    this.openBytes = 0;
    this.handedBytes = 0;
  }

  private reclaim(): void {
    const { bytesSent } = this.socket;
    while (this.waiting.length > 0 && this.waitingUntil[0] <= bytesSent) {
      const buffer = this.waiting.shift()!;
      this.waitingUntil.shift();
      this.waitingBytes -= buffer.bytes.length;
      this.pool.give(buffer);
    }
    if (this.open === null || bytesSent < this.handedUntil || this.handedBytes < this.openBytes) return;
    this.pool.give(this.open);
    this.open = null;
    this.openBytes = 0;
    this.handedBytes = 0;
  }
}
