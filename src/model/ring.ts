/** A bounded queue of slots, first in, first out. A slot is in it at most once, so it cannot overflow. */
export class Ring {
  length = 0;
  private readonly slots: Int32Array;
  private head = 0;

  constructor(private readonly capacity: number) {
    this.slots = new Int32Array(capacity);
  }

  /** The slot that has waited longest; the ring must not be empty. */
  get first(): number {
    return this.slots[this.head];
  }

  /** The slot with `index` others before it. */
  at(index: number): number {
    const place = this.head + index;
    return this.slots[place >= this.capacity ? place - this.capacity : place];
  }

  push(slot: number): void {
    let tail = this.head + this.length++;
    if (tail >= this.capacity) tail -= this.capacity;
    this.slots[tail] = slot;
  }

  shift(): number {
    const slot = this.slots[this.head];
    if (++this.head === this.capacity) this.head = 0;
    this.length--;
    return slot;
  }
}
