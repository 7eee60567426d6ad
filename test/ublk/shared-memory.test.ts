/** The rings between queue threads and the device thread, seen from the device thread; the other side is played here. */
import { describe, expect, test } from "vitest";
import { layoutOf, SharedQueue, VerdictKind } from "../../src/ublk/shared-memory.js";

/** Plays a queue's thread on the raw memory, by the layout of native/ublk/queue.h. */
class PlayedQueue {
  private readonly view: DataView;
  private readonly arrivals: number;
  private readonly verdicts: number;
  private tail = 0;

  constructor(
    buffer: SharedArrayBuffer,
    private readonly base: number,
    private readonly depth: number,
  ) {
    this.view = new DataView(buffer);
    this.arrivals = base + 320;
    this.verdicts = this.arrivals + 32 * depth;
  }

  announce({ tag = 0, op = 0, flags = 0, lengthBytes = 0, offsetBytes = 0, arrivalNs = 0 }): void {
    const at = this.arrivals + 32 * (this.tail % this.depth);
    this.view.setUint16(at, tag, true);
    this.view.setUint8(at + 2, op);
    this.view.setUint8(at + 3, flags);
    this.view.setUint32(at + 4, lengthBytes, true);
    this.view.setFloat64(at + 8, offsetBytes, true);
    this.view.setFloat64(at + 16, arrivalNs, true);
    this.view.setInt32(this.base, ++this.tail, true);
  }

  verdict(place: number) {
    const at = this.verdicts + 16 * place;
    return {
      tag: this.view.getUint16(at, true),
      kind: this.view.getUint16(at + 2, true),
      error: this.view.getInt32(at + 4, true),
      dueNs: this.view.getFloat64(at + 8, true),
    };
  }

  get verdictsTail(): number {
    return this.view.getInt32(this.base + 128, true);
  }

  get arrivalsHead(): number {
    return this.view.getInt32(this.base + 64, true);
  }
}

describe("the rings of a queue", () => {
  const layout = { queues: 2, depth: 4 };
  const { byteLength, queueOffsetBytes, queueStrideBytes } = layoutOf(layout);

  test("requests come in order, over the end of the ring and on", () => {
    const buffer = new SharedArrayBuffer(byteLength);
    const played = new PlayedQueue(buffer, queueOffsetBytes + queueStrideBytes, 4);
    const queue = new SharedQueue(buffer, layout, 1);
    expect(queue.hasArrival()).toBe(false);
    for (let i = 0; i < 10; i++) {
      const wanted = {
        tag: i % 4,
        op: 1,
        flags: 3,
        lengthBytes: 2 ** 31,
        offsetBytes: 2 ** 45,
        arrivalNs: i + 0.5,
      };
      played.announce(wanted);
      expect(queue.hasArrival()).toBe(true);
      const { tag, op, flags, lengthBytes, offsetBytes, arrivalNs } = queue;
      expect({ tag, op, flags, lengthBytes, offsetBytes, arrivalNs }).toEqual(wanted);
      queue.take();
      expect(queue.hasArrival()).toBe(false);
      expect(played.arrivalsHead).toBe(i + 1);
    }
  });

  test("verdicts lie where the queue's thread looks for them", () => {
    const buffer = new SharedArrayBuffer(byteLength);
    const played = new PlayedQueue(buffer, queueOffsetBytes, 4);
    const queue = new SharedQueue(buffer, layout, 0);
    queue.tell(3, VerdictKind.move, 0, 0);
    queue.tell(3, VerdictKind.complete, 61, 123.5);
    expect(played.verdictsTail).toBe(2);
    expect(played.verdict(0)).toEqual({ tag: 3, kind: VerdictKind.move, error: 0, dueNs: 0 });
    expect(played.verdict(1)).toEqual({ tag: 3, kind: VerdictKind.complete, error: 61, dueNs: 123.5 });
  });
});
