/**
 * The one shape of a request, whatever transport brought it: a slot in a fixed table of typed arrays.
 *
 * A slot number names the request everywhere (transport, device, fault, model), so nothing is allocated per
 * request. The table is bounded: a full table makes transports stop reading, which is backpressure, not an error.
 */

/** The last seven are of zoned devices only: `append` writes where the zone's write pointer is, the others manage zones. */
export const operations = [
  "read",
  "write",
  "flush",
  "trim",
  "zeroes",
  "append",
  "zoneOpen",
  "zoneClose",
  "zoneFinish",
  "zoneReset",
  "zoneResetAll",
  "zoneReport",
] as const;

export type Operation = (typeof operations)[number];

/** Operation codes as the table stores them: the index of the name in `operations`. */
export const Op = Object.freeze({
  read: 0,
  write: 1,
  flush: 2,
  trim: 3,
  zeroes: 4,
  append: 5,
  zoneOpen: 6,
  zoneClose: 7,
  zoneFinish: 8,
  zoneReset: 9,
  zoneResetAll: 10,
  zoneReport: 11,
});

/** Bits of `RequestTable.flags`. */
export const Flag = Object.freeze({
  /** Force unit access: the data must be on the media before the reply. */
  fua: 1,
  /** Write-zeroes must leave the range allocated. */
  noHole: 2,
});

/** A request in flight: its row in the `RequestTable`. */
export type RequestSlot = number;

/** No slot: the table is full, or the end of a chain. */
export const noSlot = -1;

export class RequestTable {
  readonly capacity: number;
  /** Code of the operation, see `Op`. */
  readonly op: Uint8Array;
  /** Bits of `Flag`. */
  readonly flags: Uint8Array;
  /** See `Status`. Set by whoever fails the request; 0 means ok. */
  readonly status: Uint8Array;
  /** Hardware queue, or connection over NBD. */
  readonly queue: Uint16Array;
  readonly offsetBytes: Float64Array;
  readonly lengthBytes: Float64Array;
  /** When the request entered the process, in device time. */
  readonly arrivalNs: Float64Array;
  /** When it shall complete, in device time; set when the model reports it. */
  readonly dueNs: Float64Array;

  private readonly free: Int32Array;
  private freeCount: number;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.op = new Uint8Array(capacity);
    this.flags = new Uint8Array(capacity);
    this.status = new Uint8Array(capacity);
    this.queue = new Uint16Array(capacity);
    this.offsetBytes = new Float64Array(capacity);
    this.lengthBytes = new Float64Array(capacity);
    this.arrivalNs = new Float64Array(capacity);
    this.dueNs = new Float64Array(capacity);
    // The free list is a stack handed out from the low slots up, so a shallow queue stays in few cache lines.
    this.free = new Int32Array(capacity);
    for (let i = 0; i < capacity; i++) this.free[i] = capacity - 1 - i;
    this.freeCount = capacity;
  }

  /** Requests in flight. */
  get inFlight(): number {
    return this.capacity - this.freeCount;
  }

  get isFull(): boolean {
    return this.freeCount === 0;
  }

  /** Takes a slot, its status reset to ok; `noSlot` when the table is full. */
  acquire(): RequestSlot {
    if (this.freeCount === 0) return noSlot;
    const slot = this.free[--this.freeCount];
    this.status[slot] = 0;
    return slot;
  }

  release(slot: RequestSlot): void {
    this.free[this.freeCount++] = slot;
  }
}
