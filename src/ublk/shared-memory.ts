/**
 * The memory a device's queue threads and its device thread share: two rings per queue, requests one way and verdicts
 * the other, and a few words for all queues.
 *
 * The layout is that of `native/ublk/queue.h`. Indices run freely over 32 bits; a place is the index modulo the ring's
 * size, a power of two. Each side writes its own index only, and neither ring can overflow: a tag has one request in
 * flight, and at most two verdicts about it.
 */

const cacheLineBytes = 64;
const deviceBytes = 4 * cacheLineBytes;
const queueHeaderBytes = 5 * cacheLineBytes;
const arrivalBytes = 32;
const verdictBytes = 16;
const cellsPerLine = cacheLineBytes / Int32Array.BYTES_PER_ELEMENT;

/** Int32 cells of the part for all queues. */
const isListenerAsleepCell = 0;
const isDecidedNativelyCell = cellsPerLine;
/** Float64 cells. */
const latenciesCell = (2 * cacheLineBytes) / Float64Array.BYTES_PER_ELEMENT;

/**
 * `move`: a write's payload may move. `complete`: that too, and the reply has a due time. `completeMoved`: it has moved.
 * `moveTo`: an append's payload may move, to the place given instead of the due time.
 */
export const VerdictKind = Object.freeze({ move: 0, complete: 1, completeMoved: 2, moveTo: 3 });

function powerOfTwoFrom(count: number): number {
  return 2 ** Math.ceil(Math.log2(count));
}

export interface SharedLayout {
  queues: number;
  depth: number;
}

/** Offsets of the queues' parts, for the native side. */
export function layoutOf({ queues, depth }: SharedLayout): {
  byteLength: number;
  queueOffsetBytes: number;
  queueStrideBytes: number;
} {
  const arrivals = powerOfTwoFrom(depth);
  const verdicts = powerOfTwoFrom(2 * depth);
  const queueStrideBytes = queueHeaderBytes + arrivals * arrivalBytes + verdicts * verdictBytes;
  return {
    byteLength: deviceBytes + queues * queueStrideBytes,
    queueOffsetBytes: deviceBytes,
    queueStrideBytes,
  };
}

/** The device thread's side of one queue. */
export class SharedQueue {
  private readonly header: Int32Array;
  private readonly arrivalWords: Int32Array;
  private readonly arrivalNumbers: Float64Array;
  private readonly verdictWords: Int32Array;
  private readonly verdictNumbers: Float64Array;
  private readonly arrivalsMask: number;
  private readonly verdictsMask: number;
  private arrivalsHead = 0;
  /** As last seen. */
  private arrivalsTail = 0;
  private verdictsTail = 0;

  constructor(buffer: SharedArrayBuffer, layout: SharedLayout, queue: number) {
    const { queueOffsetBytes, queueStrideBytes } = layoutOf(layout);
    const offset = queueOffsetBytes + queue * queueStrideBytes;
    const arrivals = powerOfTwoFrom(layout.depth);
    const verdicts = powerOfTwoFrom(2 * layout.depth);
    const arrivalsOffset = offset + queueHeaderBytes;
    const verdictsOffset = arrivalsOffset + arrivals * arrivalBytes;
    this.header = new Int32Array(buffer, offset, queueHeaderBytes / 4);
    this.arrivalWords = new Int32Array(buffer, arrivalsOffset, (arrivals * arrivalBytes) / 4);
    this.arrivalNumbers = new Float64Array(buffer, arrivalsOffset, (arrivals * arrivalBytes) / 8);
    this.verdictWords = new Int32Array(buffer, verdictsOffset, (verdicts * verdictBytes) / 4);
    this.verdictNumbers = new Float64Array(buffer, verdictsOffset, (verdicts * verdictBytes) / 8);
    this.arrivalsMask = arrivals - 1;
    this.verdictsMask = verdicts - 1;
  }

  /** Looks whether there are requests; those seen once stay until `take`. */
  hasArrival(): boolean {
    if (this.arrivalsHead !== this.arrivalsTail) return true;
    this.arrivalsTail = Atomics.load(this.header, 0);
    return this.arrivalsHead !== this.arrivalsTail;
  }

  // The first request in the ring, field by field: nothing is allocated.

  get tag(): number {
    return this.arrivalWords[this.word] & 0xffff;
  }

  get op(): number {
    return (this.arrivalWords[this.word] >>> 16) & 0xff;
  }

  get flags(): number {
    return this.arrivalWords[this.word] >>> 24;
  }

  get lengthBytes(): number {
    return this.arrivalWords[this.word + 1] >>> 0;
  }

  get offsetBytes(): number {
    return this.arrivalNumbers[this.number + 1];
  }

  get arrivalNs(): number {
    return this.arrivalNumbers[this.number + 2];
  }

  /** Takes the first request out of the ring. */
  take(): void {
    this.arrivalsHead = (this.arrivalsHead + 1) | 0;
    Atomics.store(this.header, cellsPerLine, this.arrivalsHead);
  }

  /** Says something about a request. The queue has to be woken afterwards. */
  tell(tag: number, kind: number, error: number, dueNs: number): void {
    const place = this.verdictsTail & this.verdictsMask;
    this.verdictWords[place * 4] = tag | (kind << 16);
    this.verdictWords[place * 4 + 1] = error;
    this.verdictNumbers[place * 2 + 1] = dueNs;
    this.verdictsTail = (this.verdictsTail + 1) | 0;
    Atomics.store(this.header, 2 * cellsPerLine, this.verdictsTail);
  }

  private get word(): number {
    return (this.arrivalsHead & this.arrivalsMask) * (arrivalBytes / 4);
  }

  private get number(): number {
    return (this.arrivalsHead & this.arrivalsMask) * (arrivalBytes / 8);
  }
}

/** The words for all queues. */
export class SharedDevice {
  private readonly words: Int32Array;
  private readonly numbers: Float64Array;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer, 0, deviceBytes / 4);
    this.numbers = new Float64Array(buffer, 0, deviceBytes / 8);
  }

  /** While it is asleep, the first arrival wakes the device thread. */
  setListenerAsleep(isAsleep: boolean): void {
    Atomics.store(this.words, isListenerAsleepCell, isAsleep ? 1 : 0);
  }

  /** Requests are decided by the queues with these latencies, by operation; negative ones come here all the same. */
  decideNatively(latenciesNs: ArrayLike<number>): void {
    for (let op = 0; op < latenciesNs.length; op++) this.numbers[latenciesCell + op] = latenciesNs[op];
    Atomics.store(this.words, isDecidedNativelyCell, 1);
  }

  /** Requests come here, from the next one on. */
  decideHere(): void {
    Atomics.store(this.words, isDecidedNativelyCell, 0);
  }
}
