/**
 * Buffers of one size that nobody uses at present, the last used on top.
 *
 * What one burst of large payloads has needed would stay the server's for good. So buffers that were not needed for a while are
 * emptied, from the bottom up and a little at a time: their pages go back to the system, and they find new ones when they are
 * written to. Freeing them instead would be up to the garbage collector, which may be in no hurry, and to malloc, which keeps
 * for itself what it has been given in large pieces before.
 */
import type { PooledBuffer } from "./buffer-pool.js";

export class IdleBuffers {
  private readonly stack: PooledBuffer[] = [];
  /** From the bottom on, those that stayed here since the last turn, and those that did so from that to the one before. */
  private untouched = 0;
  private cold = 0;
  /** From the bottom on, those without pages, and how much of the next has none. */
  private emptied = 0;
  private emptiedBytes = 0;

  /** Whether some buffer has pages, or may. */
  get isWarm(): boolean {
    return this.emptied < this.stack.length;
  }

  push(buffer: PooledBuffer): void {
    this.stack.push(buffer);
  }

  pop(): PooledBuffer | undefined {
    const buffer = this.stack.pop();
    const left = this.stack.length;
    if (left < this.untouched) this.untouched = left;
    if (left < this.cold) this.cold = left;
    if (left <= this.emptied) {
      this.emptied = left;
      this.emptiedBytes = 0;
    }
    return buffer;
  }

  /** Whoever was not needed between two turns is cold. */
  turn(): void {
    this.cold = this.untouched;
    this.untouched = this.stack.length;
  }

  /**
   * Empties the next `bytes` of buffers that are cold; returns how many it did.
   *
   * @param giveBack what `giveBackPages` of the addon does
   */
  empty(bytes: number, giveBack: (bytes: Uint8Array, from: number, to: number) => void): number {
    let left = bytes;
    while (left > 0 && this.emptied < this.cold) {
      const buffer = this.stack[this.emptied].bytes;
      const from = this.emptiedBytes;
      const to = Math.min(from + left, buffer.length);
      giveBack(buffer, from, to);
      left -= to - from;
      this.emptiedBytes = to;
      if (to < buffer.length) break;
      this.emptied++;
      this.emptiedBytes = 0;
    }
    return bytes - left;
  }
}
