/**
 * The device: the one place where transport, fault, store, model and clock meet.
 *
 * Each request asks three questions. The faults judge it first (*what goes wrong?*), then its bytes move (*what?*, the
 * store), then the model says *when* it completes; only the reply waits. Bytes of writes, trims and zeroes move at
 * arrival, in arrival order. Bytes of reads are fetched when the reply is sent: a request that overlaps another in
 * flight may see either order, as on a real drive, and no memory is held while the model makes it wait.
 *
 * The model keeps its own timeline. It is advanced to the arrival instant before a request is handed in and to the
 * present when the timer fires, so what it decides never depends on how late the host woke up. The difference between
 * the reply and its due time is recorded for every completion as lateness.
 *
 * Everything here runs on one thread and nothing is allocated per request.
 */
import { assert } from "../base/assert.js";
import { BlkError } from "../base/errors.js";
import type { Extent, FaultExtent } from "../base/extent.js";
import type { NativeSparseMemory } from "../base/native.js";
import { Flag, Op, type RequestSlot, type RequestTable } from "../base/request.js";
import { Status } from "../base/status.js";
import type { BlockTarget, RequestOwner } from "../base/target.js";
import { formatSize } from "../base/units.js";
import type { FaultSet } from "../fault/set.js";
import { EventHeap } from "../model/event-heap.js";
import type { CompletionSink, Model } from "../model/model.js";
import type { Store } from "../store/store.js";
import type { Clock } from "./clock.js";
import type { DeviceStats } from "./stats.js";

/** What a device is, apart from its behaviour: the fields transports advertise. */
export interface DeviceIdentity {
  name: string;
  description: string;
  logicalBlockBytes: number;
  physicalBlockBytes: number;
  isReadOnly: boolean;
  isRotational: boolean;
  hasVolatileCache: boolean;
}

/** Told of what the model is asked and what it answers, in order: a recording. */
export interface ModelObserver {
  /** The request reaches the model at `requests.arrivalNs[slot]`. */
  arrival(slot: RequestSlot): void;
  /** The model lets it complete at `dueNs`; what faults add comes after that. */
  completion(slot: RequestSlot, dueNs: number): void;
}

export interface DeviceParts {
  identity: DeviceIdentity;
  requests: RequestTable;
  store: Store;
  model: Model;
  faults: FaultSet;
  clock: Clock;
  stats: DeviceStats;
  observer?: ModelObserver | null;
}

/** No fault holds the request. */
const notHeld = -1;

export class Device implements BlockTarget, CompletionSink {
  readonly name: string;
  readonly description: string;
  sizeBytes: number;
  readonly minimumBlockBytes: number;
  readonly preferredBlockBytes: number;
  readonly isReadOnly: boolean;
  readonly isRotational: boolean;
  readonly hasVolatileCache: boolean;
  readonly canTrim = true;
  readonly canZeroFast: boolean;
  readonly requests: RequestTable;
  readonly nativeMemory: NativeSparseMemory | null;

  private readonly store: Store;
  private readonly model: Model;
  private readonly faults: FaultSet;
  private readonly clock: Clock;
  private readonly stats: DeviceStats;
  private readonly observer: ModelObserver | null;

  /** Requests the model has finished with, by the time their reply is due (the model's time plus delays of faults). */
  private readonly due: EventHeap;
  private readonly owners: (RequestOwner | null)[];
  /** Where a fault's error lies, as `FaultVerdict` has it. */
  private readonly errorOffsets: Float64Array;
  /** Time faults add after the model. */
  private readonly delayNs: Float64Array;
  /** Which hold of a fault keeps the request after the model; `notHeld` for most. */
  private readonly holder: Int32Array;
  /** 1 while the request has been finished by the model but a fault holds it. */
  private readonly isHeldNow: Uint8Array;
  /** 1 while the store still makes data durable for the request. */
  private readonly isStoreBusy: Uint8Array;
  /** 1 when the reply was due while the store was busy: it goes out when the store is done. */
  private readonly isOverdue: Uint8Array;
  private readonly storeDone: ((status: Status) => void)[] = [];

  private readonly answered = new Set<RequestOwner>();
  private readonly fullListeners: (() => void)[] = [];
  private lastArrivalNs = 0;
  private heldCount = 0;
  private isPumping = false;

  constructor({ identity, requests, store, model, faults, clock, stats, observer = null }: DeviceParts) {
    this.name = identity.name;
    this.description = identity.description;
    this.sizeBytes = store.sizeBytes;
    this.minimumBlockBytes = identity.logicalBlockBytes;
    this.preferredBlockBytes = Math.max(4096, identity.physicalBlockBytes);
    this.isReadOnly = identity.isReadOnly;
    this.isRotational = identity.isRotational;
    this.hasVolatileCache = identity.hasVolatileCache;
    this.canZeroFast = model.isZeroFast ?? false;
    this.requests = requests;
    this.nativeMemory = store.nativeMemory ?? null;
    this.store = store;
    this.model = model;
    this.faults = faults;
    this.clock = clock;
    this.stats = stats;
    this.observer = observer;

    const capacity = requests.capacity;
    this.due = new EventHeap(capacity);
    this.owners = new Array<RequestOwner | null>(capacity).fill(null);
    this.errorOffsets = new Float64Array(capacity);
    this.delayNs = new Float64Array(capacity);
    this.holder = new Int32Array(capacity);
    this.isHeldNow = new Uint8Array(capacity);
    this.isStoreBusy = new Uint8Array(capacity);
    this.isOverdue = new Uint8Array(capacity);
    // One callback per slot, made once: a flush allocates nothing.
    for (let slot = 0; slot < capacity; slot++) {
      this.storeDone.push((status) => this.onStoreDone(slot, status));
    }
    clock.onDeadline = () => this.pump();
  }

  /** A fault that is set later meets the bytes in their place: it comes in the midst of the write, as a drive's errors do. */
  canLand(offsetBytes: number, lengthBytes: number): boolean {
    return this.faults.isEmpty && this.store.canLand?.(offsetBytes, lengthBytes) === true;
  }

  nowNs(): number {
    return this.clock.nowNs();
  }

  submit(slot: RequestSlot, payload: Uint8Array | null, owner: RequestOwner): void {
    const { requests } = this;
    // Two connections may have stamped their batches in the other order than they are handed in.
    const arrivalNs = Math.max(requests.arrivalNs[slot], this.lastArrivalNs);
    requests.arrivalNs[slot] = arrivalNs;
    this.lastArrivalNs = arrivalNs;
    this.owners[slot] = owner;
    this.isStoreBusy[slot] = 0;
    this.isOverdue[slot] = 0;
    this.isHeldNow[slot] = 0;

    const verdict = this.faults.judge(slot, arrivalNs);
    this.delayNs[slot] = verdict.delayNs;
    this.holder[slot] = verdict.holder;
    requests.status[slot] = verdict.status;
    this.errorOffsets[slot] = verdict.errorOffsetBytes;
    if (verdict.status === Status.ok) this.moveBytes(slot, payload);

    this.model.advance(arrivalNs, this);
    this.observer?.arrival(slot);
    this.model.arrive(slot, arrivalNs);
  }

  pump(): void {
    // A reply may make a transport submit more; the outer round sees to those.
    if (this.isPumping) return;
    this.isPumping = true;
    const nowNs = this.clock.nowNs();
    this.model.advance(nowNs, this);
    while (this.due.nextNs <= nowNs) {
      const slot = this.due.pop();
      if (this.isStoreBusy[slot] === 1) this.isOverdue[slot] = 1;
      else this.reply(slot, nowNs);
    }
    this.endReplies();
    this.isPumping = false;
    this.stats.setGauges(this.requests.inFlight, this.heldCount);
    this.clock.arm(Math.min(this.model.nextEventNs(), this.due.nextNs));
  }

  /** Called by the model: `slot` completes at `dueNs`. */
  complete(slot: RequestSlot, dueNs: number): void {
    this.observer?.completion(slot, dueNs);
    const replyNs = dueNs + this.delayNs[slot];
    this.requests.dueNs[slot] = replyNs;
    if (this.holder[slot] === notHeld) {
      this.due.push(replyNs, slot);
    } else {
      this.isHeldNow[slot] = 1;
      this.heldCount++;
    }
  }

  read(slot: RequestSlot, fromBytes: number, target: Uint8Array): Status {
    return this.store.read(this.requests.offsetBytes[slot] + fromBytes, target);
  }

  errorOffsetBytes(slot: RequestSlot): number {
    return this.errorOffsets[slot];
  }

  extents(offsetBytes: number, lengthBytes: number): Iterable<Extent> {
    return this.store.extents(offsetBytes, lengthBytes);
  }

  faultExtents(offsetBytes: number, lengthBytes: number): Iterable<FaultExtent> {
    return this.faults.extents(offsetBytes, lengthBytes);
  }

  abandon(owner: RequestOwner): void {
    for (let slot = 0; slot < this.requests.capacity; slot++) {
      if (this.owners[slot] !== owner) continue;
      this.owners[slot] = null;
      // Nobody waits for a held request any more. The others finish in their own time, as in a drive.
      if (this.holder[slot] === notHeld) continue;
      this.faults.forget(this.holder[slot]);
      if (this.isHeldNow[slot] === 1) this.letGo(slot, this.clock.nowNs());
      else this.holder[slot] = notHeld;
    }
    this.answered.delete(owner);
    this.pump();
  }

  onceNotFull(listener: () => void): void {
    this.fullListeners.push(listener);
  }

  /** Lets go every request the given hold of a fault keeps; they complete now, or at their due time if that is later. */
  release(holder: number): void {
    const nowNs = this.clock.nowNs();
    for (let slot = 0; slot < this.requests.capacity; slot++) {
      if (this.owners[slot] === null || this.holder[slot] !== holder) continue;
      if (this.isHeldNow[slot] === 1) this.letGo(slot, nowNs);
      else this.holder[slot] = notHeld;
    }
    this.pump();
  }

  /**
   * Makes the device larger while requests flow.
   *
   * @throws BlkError BLK_E_SIZE when the hardware modelled cannot grow; what the store says when it has no room.
   */
  grow(sizeBytes: number): void {
    const { store, model } = this;
    if (store.grow === undefined || model.grow === undefined) {
      throw new BlkError(
        "BLK_E_SIZE",
        `"${this.name}" has its capacity for life, as the hardware it models`,
        "Serve it anew with another --size; instant and fixed devices can grow while they are in use",
      );
    }
    if (sizeBytes < this.sizeBytes) {
      throw new BlkError(
        "BLK_E_SIZE",
        `${formatSize(sizeBytes)} is less than the ${formatSize(this.sizeBytes)} "${this.name}" has; a device in use only grows`,
        "Serve it anew with another --size",
      );
    }
    store.grow(sizeBytes);
    model.grow(sizeBytes);
    this.faults.grow(sizeBytes);
    this.sizeBytes = sizeBytes;
  }

  /** Requests a hang keeps from completing. */
  get held(): number {
    return this.heldCount;
  }

  private moveBytes(slot: RequestSlot, payload: Uint8Array | null): void {
    const { requests, store } = this;
    const op = requests.op[slot];
    if (op === Op.read) return;
    let status: Status = Status.ok;
    if (op === Op.write) {
      assert(
        payload !== null || store.canLand !== undefined,
        "a write comes with its payload, or that has landed",
      );
      if (payload !== null) status = store.write(requests.offsetBytes[slot], payload);
    } else if (op === Op.trim) {
      status = store.trim(requests.offsetBytes[slot], requests.lengthBytes[slot]);
    } else if (op === Op.zeroes) {
      const keepAllocated = (requests.flags[slot] & Flag.noHole) !== 0;
      status = store.zero(requests.offsetBytes[slot], requests.lengthBytes[slot], keepAllocated);
    }
    requests.status[slot] = status;
    const mustBeDurable = op === Op.flush || (requests.flags[slot] & Flag.fua) !== 0;
    if (status === Status.ok && mustBeDurable && !store.isVolatile) {
      this.isStoreBusy[slot] = 1;
      store.flush(this.storeDone[slot]);
    }
  }

  private onStoreDone(slot: RequestSlot, status: Status): void {
    if (status !== Status.ok) this.requests.status[slot] = status;
    this.isStoreBusy[slot] = 0;
    if (this.isOverdue[slot] === 0) return;
    this.isOverdue[slot] = 0;
    this.reply(slot, this.clock.nowNs());
    this.endReplies();
    this.stats.setGauges(this.requests.inFlight, this.heldCount);
  }

  private reply(slot: RequestSlot, nowNs: number): void {
    const { requests } = this;
    this.stats.recordCompletion(
      requests.op[slot],
      requests.lengthBytes[slot],
      requests.status[slot] !== Status.ok,
      nowNs - requests.arrivalNs[slot],
      nowNs - requests.dueNs[slot],
    );
    const owner = this.owners[slot];
    this.owners[slot] = null;
    if (owner === null) {
      requests.release(slot);
    } else {
      this.answered.add(owner);
      owner.onCompletion(slot);
    }
  }

  private endReplies(): void {
    for (const owner of this.answered) owner.onCompletionsEnd();
    this.answered.clear();
    // Listeners may fill the table again and wait anew, so each round takes only those who wait now.
    for (let waiting = this.fullListeners.length; waiting > 0 && !this.requests.isFull; waiting--) {
      this.fullListeners.shift()?.();
    }
  }

  private letGo(slot: RequestSlot, nowNs: number): void {
    this.isHeldNow[slot] = 0;
    this.holder[slot] = notHeld;
    this.heldCount--;
    this.requests.dueNs[slot] = Math.max(this.requests.dueNs[slot], nowNs);
    this.due.push(this.requests.dueNs[slot], slot);
  }
}
