/**
 * The device thread's end of a ublk device: takes what its queue threads have received, in order of arrival over all
 * queues, asks the device, and tells the queues what it says.
 *
 * A verdict goes out as soon as it is certain, often long before the request is due. The queue's thread keeps the time
 * from then on: it replies on the moment even while this thread collects garbage, moves the bytes, and counts. What the
 * device needs beyond that (replies of its own model) follows here without anybody waiting for it.
 *
 * While the model is one of constant latencies and no fault or recording wants to see the requests, the queues decide
 * by themselves (`decideNatively`), and this thread sleeps.
 */
import { assert } from "../base/assert.js";
import { BlkError } from "../base/errors.js";
import { loadNative, type NativeSparseMemory, type NativeUblkPort } from "../base/native.js";
import { Flag, noSlot, Op, type RequestSlot, type RequestTable } from "../base/request.js";
import type { PollingTarget, RequestOwner, RequestSource } from "../base/target.js";
import { ublkResultOfStatus } from "./errno.js";
import { SharedDevice, type SharedLayout, SharedQueue, VerdictKind } from "./shared-memory.js";
import { blkZoneBytes, ZoneReport } from "./zone-report.js";

export interface ChannelOptions extends SharedLayout {
  /** The queue threads: `NativeUblkServer.id`. */
  serverId: number;
  shared: SharedArrayBuffer;
  /** Power-on of the device, on the clock that `process.hrtime()` reads. */
  originNs: bigint;
  /** How long before a deadline a queue's thread stops sleeping. */
  spinNs: number;
  largestRequestBytes: number;
}

export interface ChannelStore {
  readonly nativeBytes: { memory: NativeSparseMemory; limitBytes: number } | { fd: number };
  /** Whether flush and FUA have nothing to make durable. */
  readonly isVolatile: boolean;
}

export class UblkChannel implements RequestOwner, RequestSource {
  private readonly target: PollingTarget;
  private readonly requests: RequestTable;
  private readonly store: ChannelStore;
  private readonly port: NativeUblkPort;
  private readonly device: SharedDevice;
  private readonly queues: SharedQueue[] = [];
  /** By slot. */
  private readonly tags: Uint16Array;
  private readonly hasMoved: Uint8Array;
  /** Queues with verdicts they have not been woken for. */
  private readonly isTold: Uint8Array;
  /** For payloads this thread has to move itself. */
  private payload = new Uint8Array(0);
  private readonly zoneReport: ZoneReport | null;
  private isWaitingForSlot = false;
  private isClosed = false;

  constructor(target: PollingTarget, store: ChannelStore, options: ChannelOptions) {
    this.target = target;
    this.requests = target.requests;
    this.store = store;
    this.tags = new Uint16Array(this.requests.capacity);
    this.hasMoved = new Uint8Array(this.requests.capacity);
    this.isTold = new Uint8Array(options.queues);
    this.device = new SharedDevice(options.shared);
    for (let queue = 0; queue < options.queues; queue++) {
      this.queues.push(new SharedQueue(options.shared, options, queue));
    }
    const { UblkPort } = loadNative();
    assert(UblkPort !== undefined, "who has a server has ports");
    this.port = new UblkPort(options.serverId, options.originNs, options.spinNs, () => this.onArrivals());
    this.shareStore();
    if (!store.isVolatile) this.payload = new Uint8Array(options.largestRequestBytes);
    const { zones } = target;
    this.zoneReport = zones === null ? null : new ZoneReport(zones, options.largestRequestBytes);
    target.addSource(this);
    this.device.setListenerAsleep(true);
  }

  /** Lets the queues decide with these latencies, or takes decisions back with null. */
  decideNatively(latenciesNs: Float64Array | null): void {
    if (latenciesNs === null) {
      this.device.decideHere();
      return;
    }
    const isFile = "fd" in this.store.nativeBytes;
    // Holes of a file, and its durability, are this thread's work.
    const own = latenciesNs.map((latencyNs, op) =>
      isFile && op !== Op.read && op !== Op.write ? -1 : latencyNs,
    );
    this.device.decideNatively(own);
  }

  poll(): void {
    if (this.isClosed) return;
    for (let queue = this.earliest(); queue >= 0; queue = this.earliest()) {
      if (this.requests.isFull) {
        this.waitForSlot();
        return;
      }
      this.submit(queue);
    }
  }

  settle(): void {
    for (let queue = 0; queue < this.queues.length; queue++) {
      if (this.isTold[queue] === 0) continue;
      this.isTold[queue] = 0;
      this.port.wakeQueue(queue);
    }
  }

  onScheduled(slot: RequestSlot, dueNs: number): void {
    let error = -ublkResultOfStatus[this.requests.status[slot]];
    if (error === 0 && this.requests.op[slot] === Op.zoneReport) error = this.answerReport(slot);
    const kind = this.hasMoved[slot] === 1 ? VerdictKind.completeMoved : VerdictKind.complete;
    this.tell(slot, kind, error, dueNs);
  }

  movePayload(slot: RequestSlot): void {
    if (this.requests.op[slot] === Op.append) {
      this.tell(slot, VerdictKind.moveTo, 0, this.requests.offsetBytes[slot]);
    } else {
      this.tell(slot, VerdictKind.move, 0, 0);
    }
  }

  onCompletion(slot: RequestSlot): void {
    this.requests.release(slot);
  }

  onCompletionsEnd(): void {}

  /** Nobody decides from here on: what the queues still have ends in EIO. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.target.removeSource(this);
    this.target.abandon(this);
    this.port.close();
  }

  private onArrivals(): void {
    while (!this.isClosed) {
      this.target.pump();
      this.device.setListenerAsleep(true);
      // What came in between has woken nobody.
      if (this.isWaitingForSlot || this.earliest() < 0) return;
      this.device.setListenerAsleep(false);
    }
  }

  /** The queue whose first request arrived before all others; -1 when there is none. */
  private earliest(): number {
    let first = -1;
    let firstNs = Number.POSITIVE_INFINITY;
    for (let queue = 0; queue < this.queues.length; queue++) {
      const shared = this.queues[queue];
      if (!shared.hasArrival() || shared.arrivalNs >= firstNs) continue;
      first = queue;
      firstNs = shared.arrivalNs;
    }
    return first;
  }

  private submit(queue: number): void {
    const { requests } = this;
    const shared = this.queues[queue];
    const slot = requests.acquire();
    assert(slot !== noSlot, "a request is taken when there is a slot for it");
    const { tag, op, flags, lengthBytes } = shared;
    requests.op[slot] = op;
    requests.flags[slot] = flags;
    requests.queue[slot] = queue;
    requests.offsetBytes[slot] = shared.offsetBytes;
    requests.lengthBytes[slot] = op > Op.append ? this.bytesOfZones(op, lengthBytes) : lengthBytes;
    requests.arrivalNs[slot] = shared.arrivalNs;
    this.tags[slot] = tag;
    this.hasMoved[slot] = 0;
    shared.take();
    let payload: Uint8Array | null = null;
    // To be durable before the reply, the bytes have to be in the store before the device asks it to sync.
    if (op === Op.write && (flags & Flag.fua) !== 0 && !this.store.isVolatile) {
      const target = this.payload.subarray(0, lengthBytes);
      // What cannot be had here cannot be had by the queue either, which then fails the request.
      if (this.port.readPayload(queue, tag, target) === 0) {
        payload = target;
        this.hasMoved[slot] = 1;
      }
    }
    this.target.submit(slot, payload, this);
  }

  /** What a request about zones is about: the kernel names the first zone, and of a report the bytes it takes. */
  private bytesOfZones(op: number, lengthBytes: number): number {
    const { zones, sizeBytes } = this.target;
    if (zones === null) return 0;
    if (op === Op.zoneResetAll) return sizeBytes;
    return op === Op.zoneReport ? (lengthBytes / blkZoneBytes) * zones.zoneBytes : zones.zoneBytes;
  }

  private answerReport(slot: RequestSlot): number {
    assert(this.zoneReport !== null, "only a zoned device is asked for its zones");
    const { offsetBytes, lengthBytes, queue } = this.requests;
    const report = this.zoneReport.write(offsetBytes[slot], lengthBytes[slot]);
    return this.port.writeAnswer(queue[slot], this.tags[slot], report);
  }

  private tell(slot: RequestSlot, kind: number, error: number, dueNs: number): void {
    const queue = this.requests.queue[slot];
    this.queues[queue].tell(this.tags[slot], kind, error, dueNs);
    this.isTold[queue] = 1;
  }

  private waitForSlot(): void {
    if (this.isWaitingForSlot) return;
    this.isWaitingForSlot = true;
    this.target.onceNotFull(() => {
      this.isWaitingForSlot = false;
      this.poll();
    });
  }

  private shareStore(): void {
    const { nativeBytes } = this.store;
    const errno =
      "fd" in nativeBytes
        ? this.port.useFile(nativeBytes.fd)
        : this.port.useMemory(nativeBytes.memory, nativeBytes.limitBytes);
    // Bytes that were swapped out, to this very device perhaps, would have to be fetched by who waits for them. Where it is
    // not allowed, the device is served all the same.
    if (errno === 0 && !("fd" in nativeBytes)) nativeBytes.memory.lock();
    if (errno === 0) return;
    this.port.close();
    throw new BlkError(
      "BLK_E_ATTACH",
      `the device's bytes cannot be shared with its queues (errno ${errno})`,
      "Raise the limit of open files: ulimit -n 4096",
    );
  }
}
