/**
 * Buffers for payloads and replies, used over and over: powers of two from 64 KiB to 32 MiB, each with a little room
 * beside for the headers, so that a reply of the largest payload still is one piece.
 *
 * What nobody has used for some ten seconds costs address space only (`IdleBuffers`).
 *
 * All connections share one budget. Who asks for more than is left waits in line and is called when something has
 * been given back; a lone buffer is always granted, so the line moves whatever the budget is.
 */
import { loadNative } from "../base/native.js";
import { maximumPayloadBytes } from "./constants.js";
import { IdleBuffers } from "./idle-buffers.js";

const smallestBytes = 64 * 1024;
const classCount = Math.log2(maximumPayloadBytes / smallestBytes) + 1;
/** Room for headers beside the payload: at most a chunk of data and the error behind it. */
const headroomBytes = 128;
/** Idle memory kept for reuse; the rest goes back to the system. */
const maximumIdleBytes = 64 * 1024 * 1024;
/** What of idle memory is emptied at once: the system takes some 30 us for it, in which no request is served. */
const emptiedAtOnceBytes = 1024 * 1024;
const emptyEveryMs = 1000;
/** After so many times, who has not been used since the last such moment is taken for cold. */
const timesToTurn = 10;

export interface PooledBuffer {
  readonly bytes: Buffer;
  readonly sizeClass: number;
}

export class BufferPool {
  private readonly budgetBytes: number;
  private readonly idle = Array.from({ length: classCount }, () => new IdleBuffers());
  private idleBytes = 0;
  /** Runs while something idle has pages. */
  private emptying: NodeJS.Timeout | null = null;
  private timesEmptied = 0;
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
      if (this.emptying === null) this.startEmptying();
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

  private startEmptying(): void {
    const { giveBackPages } = loadNative();
    if (giveBackPages === undefined) return;
    this.emptying = setInterval(() => this.emptySome(giveBackPages), emptyEveryMs);
    this.emptying.unref();
  }

  private emptySome(giveBackPages: (bytes: Uint8Array, from: number, to: number) => void): void {
    if (++this.timesEmptied % timesToTurn === 0) for (const idle of this.idle) idle.turn();
    let leftBytes = emptiedAtOnceBytes;
    for (const idle of this.idle) leftBytes -= idle.empty(leftBytes, giveBackPages);
    if (this.idle.some(({ isWarm }) => isWarm)) return;
    clearInterval(this.emptying!);
    this.emptying = null;
  }

  /** Not from within `give`, whose caller is in the midst of something. */
  private readonly wakeUp = (): void => {
    this.isWakingUp = false;
    // All are called, since those behind the first may ask for less; who still gets nothing lines up again.
    for (const retry of this.waiting.splice(0)) retry();
  };
}
