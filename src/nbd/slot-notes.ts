/**
 * What the NBD server notes beside each row of a device's request table: the client's cookie (64 bits, as two halves
 * nobody interprets) and the link of the list of completed requests the slot stands in.
 */
export class SlotNotes {
  readonly cookieHigh: Uint32Array;
  readonly cookieLow: Uint32Array;
  readonly next: Int32Array;

  constructor(capacity: number) {
    this.cookieHigh = new Uint32Array(capacity);
    this.cookieLow = new Uint32Array(capacity);
    this.next = new Int32Array(capacity);
  }
}
