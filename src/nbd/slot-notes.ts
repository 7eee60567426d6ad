/**
 * What the NBD server notes beside each row of a device's request table: the client's cookie (64 bits, as two halves
 * nobody interprets), what of its answer depends on more than the operation, and the link of the list of completed requests the slot stands in.
 */
export class SlotNotes {
  readonly cookieHigh: Uint32Array;
  readonly cookieLow: Uint32Array;
  /** The offset as the client wrote it: extended replies repeat it. */
  readonly offsetHigh: Uint32Array;
  readonly offsetLow: Uint32Array;
  /** 1 for a request whose reply has no payload though it is a read: CACHE. */
  readonly isCache: Uint8Array;
  /** 1 for a read whose answer shall be one piece (DF). */
  readonly isWhole: Uint8Array;
  readonly next: Int32Array;

  constructor(capacity: number) {
    this.cookieHigh = new Uint32Array(capacity);
    this.cookieLow = new Uint32Array(capacity);
    this.offsetHigh = new Uint32Array(capacity);
    this.offsetLow = new Uint32Array(capacity);
    this.isCache = new Uint8Array(capacity);
    this.isWhole = new Uint8Array(capacity);
    this.next = new Int32Array(capacity);
  }
}
