/**
 * How many clients are connected to a server, on all of its threads: each has a cell of shared memory that it alone writes.
 *
 * Threads that accept at the same moment may go over a limit by one each, which is what a count without locks costs.
 */
export class ConnectionCount {
  private readonly cells: Int32Array;
  private readonly own: number;

  /** @param buffer four bytes a thread. @param thread which of them is ours. */
  constructor(buffer: ArrayBufferLike = new ArrayBuffer(4), thread = 0) {
    this.cells = new Int32Array(buffer);
    this.own = thread;
  }

  get all(): number {
    let sum = 0;
    for (let thread = 0; thread < this.cells.length; thread++) sum += Atomics.load(this.cells, thread);
    return sum;
  }

  /** @param connections of this thread. */
  set(connections: number): void {
    Atomics.store(this.cells, this.own, connections);
  }
}
