/**
 * What a moved socket needs beside itself: the buffer its requests arrive in and the list of what is inserted into its replies.
 *
 * Used over and over. Left to the garbage collector, the memory of connections that come and go would be found by it late: it
 * counts what lies on its own heap, on which these are a few bytes each, and would let some hundred of them wait.
 */

/** Pieces of the device's memory handed over at once. */
const insertCapacity = 1024;
/** Kept for reuse, of one size; what more there was at once goes back to the system. */
const maximumIdle = 32;

export interface MoverMemory {
  /** Its content is arbitrary. */
  readonly input: Uint8Array;
  readonly inserts: Float64Array;
}

export class MoverMemories {
  private readonly inputBytes: number;
  private readonly idle: MoverMemory[] = [];

  constructor(inputBytes: number) {
    this.inputBytes = inputBytes;
  }

  take(): MoverMemory {
    return (
      this.idle.pop() ?? {
        input: new Uint8Array(new ArrayBuffer(this.inputBytes)),
        inserts: new Float64Array(3 * insertCapacity),
      }
    );
  }

  /** Nobody looks at it any more, the addon included. */
  give(memory: MoverMemory): void {
    if (this.idle.length < maximumIdle) this.idle.push(memory);
  }
}
