/**
 * Buffers for payloads and replies, used over and over: powers of two from 64 KiB to 32 MiB, each with a little room
 * beside for the headers, so that a reply of the largest payload still is one piece.
 *
 * All connections share one budget. Who asks for more than is left waits in line and is called when something has
 * been given back; a lone buffer is always granted, so the line moves whatever the budget is.
 */
import { maximumPayloadBytes } from "./constants.js";

const smallestBytes = 64 * 1024;
const classCount = Math.log2(maximumPayloadBytes / smallestBytes) + 1;
/** Room for headers beside the payload: at most a chunk of data and the error behind it. */
const headroomBytes = 128;
/** Idle memory kept for reuse; the rest goes back to the system. */
const maximumIdleBytes = 64 * 1024 * 1024;

export interface PooledBuffer {
  readonly bytes: Buffer;
  readonly sizeClass: number;
}

export class BufferPool {
  private readonly budgetBytes: number;
  private readonly idle: PooledBuffer[][] = Array.from({ length: classCount }, () => []);
  private idleBytes = 0;
  private lentBytes = 0;
  private readonly waiting: Array<() => void> = [];
  private isWakingUp = false;

  constructor(budgetBytes: number) {
    this.budgetBytes = budgetBytes;
  }

  /** Bytes in use now. */
  get usedBytes(): number {
    return this.lentBytes;
  }

  get isWaitedFor(): boolean {
    return this.waiting.length > 0;
  }

  /** A buffer of at least `bytes`, its content arbitrary; null when the budget is spent. */
  take(bytes: number): PooledBuffer | null {
    const wantedBytes = bytes - headroomBytes;
    // Shifting by 16 divides by the smallest size.
    const sizeClass = wantedBytes <= smallestBytes ? 0 : 32 - Math.clz32((wantedBytes - 1) >>> 16);
    const classBytes = smallestBytes * 2 ** sizeClass;
    if (this.lentBytes > 0 && this.lentBytes + classBytes > this.budgetBytes) return null;
    return this.lend(sizeClass);
  }

  /**
   * For a reply of a connection that has no other under way: one of the smallest is had whatever the budget, at most one per
   * connection. A completed request keeps its place in the request table until there is a buffer for its reply, and who has the
   * memory, a write that is complete, may wait for just that place. Null when the budget is spent and the smallest do not do.
   */
  takeForOnlyReply(bytes: number): PooledBuffer | null {
    return this.take(bytes) ?? (bytes <= smallestBytes + headroomBytes ? this.lend(0) : null);
  }

  private lend(sizeClass: number): PooledBuffer {
    const classBytes = smallestBytes * 2 ** sizeClass;
    this.lentBytes += classBytes;
    const kept = this.idle[sizeClass].pop();
    if (kept === undefined) return { bytes: Buffer.allocUnsafeSlow(classBytes + headroomBytes), sizeClass };
    this.idleBytes -= classBytes;
    return kept;
  }

  give(buffer: PooledBuffer): void {
    const classBytes = smallestBytes * 2 ** buffer.sizeClass;
    this.lentBytes -= classBytes;
    if (this.idleBytes + classBytes <= maximumIdleBytes) {
      this.idle[buffer.sizeClass].push(buffer);
      this.idleBytes += classBytes;
    }
    if (this.waiting.length > 0 && !this.isWakingUp) {
      this.isWakingUp = true;
      setImmediate(this.wakeUp);
    }
  }

  /** Calls `retry` once when a buffer has been given back. */
  onceGiven(retry: () => void): void {
    this.waiting.push(retry);
  }

  /** Not from within `give`, whose caller is in the midst of something. */
  private readonly wakeUp = (): void => {
    this.isWakingUp = false;
    // All are called, since those behind the first may ask for less; who still gets nothing lines up again.
    for (const retry of this.waiting.splice(0)) retry();
  };
}
