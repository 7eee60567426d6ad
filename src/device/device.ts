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
 * A floor, where one is given, is the time the transport itself takes: it is taken off what the model says, never below nothing.
 * A reply that is due early must be known early, so the model is run ahead of the present by up to the floor, from event to
 * event. A request that arrives in the meantime reaches the model at the event it was run to: at most a floor late.
 *
 * Everything here runs on one thread and nothing is allocated per request.
 */
import { assert } from "../base/assert.js";
import { BlkError } from "../base/errors.js";
import type { Extent, FaultExtent } from "../base/extent.js";
import type { HealthLog } from "../base/health.js";
import type { NativeSparseMemory } from "../base/native.js";
import { Flag, Op, operations, type RequestSlot, type RequestTable } from "../base/request.js";
import { Status } from "../base/status.js";
import type { NativeService, PollingTarget, RequestOwner, RequestSource } from "../base/target.js";
import { formatSize } from "../base/units.js";
import type { ZoneView } from "../base/zone.js";
import type { FaultSet } from "../fault/set.js";
import { EventHeap } from "../model/event-heap.js";
import type { CompletionSink, Model, ModelReport } from "../model/model.js";
import type { Store } from "../store/store.js";
import type { ZoneTable } from "../zone/table.js";
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
  /** The zones of a zoned device. */
  zones?: ZoneTable | null;
  /** Time to take off the model's, by operation code. */
  floorsNs?: Float64Array | null;
}

/**
 * Deadlines met one after the other before the sockets have their turn again: a drive's burst of completions, some 50 at intervals
 * of a microsecond, takes about ten such rounds.
 */
const mostRounds = 32;

/** No fault holds the request. */
const notHeld = -1;

export class Device implements PollingTarget, CompletionSink {
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
  readonly nativeService: NativeService | null;

  private readonly store: Store;
  private readonly model: Model;
  private readonly faults: FaultSet;
  private readonly clock: Clock;
  private readonly stats: DeviceStats;
  private readonly observer: ModelObserver | null;
  private readonly zoneTable: ZoneTable | null;

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
  /** One callback per slot, made when it is first needed: a flush allocates nothing, and a device in memory has none. */
  private readonly storeDone: (((status: Status) => void) | null)[];

  /** 1 once the owner has been told when the request is due. */
  private readonly isScheduled: Uint8Array;
  private readonly sources: RequestSource[] = [];

  /**
   * Whom to tell of the end of the round, each once, null who has gone since. Not a Set: V8 gives one a new table whenever it is
   * cleared, and lets the old lead to it, so that one table that has grown old keeps all later ones, and their owners, for as long.
   */
  private readonly answered: (RequestOwner | null)[] = [];
  private answeredCount = 0;
  private readonly fullListeners: (() => void)[] = [];
  /** When each request was seen to arrive; the model may have been told of a later instant. */
  private readonly seenNs: Float64Array;
  private readonly floorsNs: Float64Array;
  /** The largest floor: how far the model may be run ahead. */
  private readonly lookaheadNs: number;
  /** What the model's constant latencies leave of the floors, by operation; null for a model without. */
  private readonly latenciesNs: Float64Array | null;
  /** No request reaches the model before this: the latest arrival, or as far as the model has been run ahead. */
  private earliestArrivalNs = 0;
  private heldCount = 0;
  /** Requests whose owners count them. */
  private countedElsewhere = 0;
  private isPumping = false;
  /** What the clock has been armed for. */
  private deadlineNs = Number.POSITIVE_INFINITY;

  constructor(parts: DeviceParts) {
    const { identity, requests, store, model, faults, clock, stats, observer = null, zones = null } = parts;
    const { floorsNs = null } = parts;
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
    this.nativeMemory = "memory" in store.nativeBytes ? store.nativeBytes.memory : null;
    this.store = store;
    this.model = model;
    this.faults = faults;
    this.clock = clock;
    this.stats = stats;
    this.observer = observer;
    this.zoneTable = zones;

    const capacity = requests.capacity;
    this.due = new EventHeap(capacity);
    this.owners = new Array<RequestOwner | null>(capacity).fill(null);
    this.errorOffsets = new Float64Array(capacity);
    this.delayNs = new Float64Array(capacity);
    this.holder = new Int32Array(capacity);
    this.isHeldNow = new Uint8Array(capacity);
    this.isStoreBusy = new Uint8Array(capacity);
    this.isOverdue = new Uint8Array(capacity);
    this.storeDone = new Array<((status: Status) => void) | null>(capacity).fill(null);
    this.seenNs = new Float64Array(capacity);
    this.floorsNs = floorsNs ?? new Float64Array(operations.length);
    this.lookaheadNs = Math.max(...this.floorsNs);
    this.latenciesNs =
      model.constantLatenciesNs?.map((latencyNs, op) => Math.max(0, latencyNs - this.floorsNs[op])) ?? null;
    this.isScheduled = new Uint8Array(capacity);
    this.nativeService = floorsNs === null ? this.offerNativeService() : null;
    faults.onChange = () => this.tellNativeService();
    this.tellNativeService();
    clock.onDeadline = () => this.meetDeadlines();
    // Nothing is due yet, so nothing happens; but all that decides and replies has run.
    clock.onRehearsal = () => this.pump();
  }

  /** A fault that is set later meets the bytes in their place: it comes in the midst of the write, as a drive's errors do. */
  canLand(offsetBytes: number, lengthBytes: number): boolean {
    return (
      this.faults.isEmpty &&
      this.zoneTable === null &&
      this.store.canLand?.(offsetBytes, lengthBytes) === true
    );
  }

  get zones(): ZoneView | null {
    return this.zoneTable;
  }

  nowNs(): number {
    return this.clock.nowNs();
  }

  submit(slot: RequestSlot, payload: Uint8Array | null, owner: RequestOwner): void {
    const { requests } = this;
    // Two connections may have stamped their batches in the other order than they are handed in.
    const arrivalNs = Math.max(requests.arrivalNs[slot], this.earliestArrivalNs);
    this.seenNs[slot] = requests.arrivalNs[slot];
    requests.arrivalNs[slot] = arrivalNs;
    this.earliestArrivalNs = arrivalNs;
    this.owners[slot] = owner;
    if (owner.onScheduled !== undefined) this.countedElsewhere++;
    this.isStoreBusy[slot] = 0;
    this.isOverdue[slot] = 0;
    this.isHeldNow[slot] = 0;
    this.isScheduled[slot] = 0;

    const verdict = this.faults.judge(slot, arrivalNs);
    this.delayNs[slot] = verdict.delayNs;
    this.holder[slot] = verdict.holder;
    requests.status[slot] = verdict.status;
    this.errorOffsets[slot] = verdict.errorOffsetBytes;
    if (verdict.status === Status.ok && this.keepsZoneRules(slot)) this.moveBytes(slot, payload, owner);

    this.model.advance(arrivalNs, this);
    this.observer?.arrival(slot);
    this.model.arrive(slot, arrivalNs);
    if (this.latenciesNs !== null && verdict.holder === notHeld) {
      this.schedule(slot, this.seenNs[slot] + this.latenciesNs[requests.op[slot]] + verdict.delayNs);
    }
  }

  pump(): void {
    // A reply may make a transport submit more; the outer round sees to those.
    if (this.isPumping) return;
    this.isPumping = true;
    const nowNs = this.clock.nowNs();
    for (const source of this.sources) source.poll();
    this.runModel(nowNs);
    while (this.due.nextNs <= nowNs) {
      const slot = this.due.pop();
      if (this.isStoreBusy[slot] === 1) this.isOverdue[slot] = 1;
      else this.reply(slot, nowNs);
    }
    this.endReplies();
    for (const source of this.sources) source.settle();
    this.isPumping = false;
    this.tellGauges();
    this.deadlineNs = Math.min(this.model.nextEventNs() - this.lookaheadNs, this.due.nextNs);
    this.clock.arm(this.deadlineNs);
  }

  /** What falls due while replies are sent goes before new requests: to read these takes longer than a reply. */
  private meetDeadlines(): void {
    for (let round = 0; round < mostRounds; round++) {
      this.pump();
      if (this.deadlineNs > this.clock.nowNs()) return;
    }
  }

  /** Called by the model: `slot` completes at `dueNs`. */
  complete(slot: RequestSlot, dueNs: number): void {
    this.observer?.completion(slot, dueNs);
    const flooredNs = Math.max(this.seenNs[slot], dueNs - this.floorsNs[this.requests.op[slot]]);
    const replyNs = flooredNs + this.delayNs[slot];
    this.requests.dueNs[slot] = replyNs;
    if (this.holder[slot] === notHeld) {
      this.schedule(slot, replyNs);
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
      if (owner.onScheduled !== undefined) this.countedElsewhere--;
      // Nobody waits for a held request any more. The others finish in their own time, as in a drive.
      if (this.holder[slot] === notHeld) continue;
      this.faults.forget(this.holder[slot]);
      if (this.isHeldNow[slot] === 1) this.letGo(slot, this.clock.nowNs());
      else this.holder[slot] = notHeld;
    }
    const at = this.answered.indexOf(owner);
    if (at >= 0) this.answered[at] = null;
    this.pump();
  }

  addSource(source: RequestSource): void {
    this.sources.push(source);
  }

  removeSource(source: RequestSource): void {
    this.sources.splice(this.sources.indexOf(source), 1);
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
    if (store.grow === undefined || model.grow === undefined || this.zoneTable !== null) {
      throw new BlkError(
        "BLK_E_SIZE",
        `"${this.name}" has its capacity for life, as the hardware it models`,
        "Serve it anew with another --size; cloud volumes and the simple models can grow while they are in use",
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

  /**
   * The log the modelled device keeps of its own health.
   *
   * @throws BlkError BLK_E_HEALTH when it keeps none.
   */
  health(): HealthLog {
    const { model } = this;
    if (model.health === undefined) {
      throw new BlkError(
        "BLK_E_HEALTH",
        `"${this.name}" keeps no health log`,
        "Solid-state drives keep one; blkforge stats shows the counters of any device",
      );
    }
    this.pump();
    return model.health(this.clock.nowNs());
  }

  /** What the model tells of its state beside the counters; nothing from most. */
  modelReport(): ModelReport {
    this.pump();
    return this.model.report?.(this.clock.nowNs()) ?? {};
  }

  /**
   * What each operation takes, by its code, where that is all there is to decide; null while something else wants to see
   * every request. See `Model`.
   */
  get constantLatenciesNs(): Float64Array | null {
    const { latenciesNs } = this;
    return this.observer === null && this.faults.isEmpty && this.zoneTable === null ? latenciesNs : null;
  }

  /** Requests a hang keeps from completing. */
  get held(): number {
    return this.heldCount;
  }

  /**
   * What native code needs to complete requests in this device's place, when it may; null when it never may. Not where a floor is taken
   * off: it was measured, and holds, for what is decided here, as most models are.
   */
  private offerNativeService(): NativeService | null {
    const { clock, stats, latenciesNs } = this;
    const { nativeBytes } = this.store;
    // On a virtual clock everything takes its time from that.
    if (latenciesNs === null || clock.nativeClock == null || !("memory" in nativeBytes)) return null;
    return {
      latenciesNs: new Float64Array(2),
      inHand: new Int32Array(1),
      counters: stats.nativeCells,
      limitBytes: nativeBytes.limitBytes,
      clock: clock.nativeClock,
    };
  }

  /** Native code may complete what nobody else wants to see. */
  private tellNativeService(): void {
    const { nativeService, constantLatenciesNs } = this;
    if (nativeService === null) return;
    for (const op of [Op.read, Op.write]) nativeService.latenciesNs[op] = constantLatenciesNs?.[op] ?? -1;
  }

  private tellGauges(): void {
    const elsewhere = this.nativeService?.inHand[0] ?? 0;
    this.stats.setGauges(this.requests.inFlight - this.countedElsewhere + elsewhere, this.heldCount);
  }

  /** To the present, and on to the events whose replies the floor calls for already. */
  private runModel(nowNs: number): void {
    const { model, lookaheadNs } = this;
    model.advance(nowNs, this);
    this.earliestArrivalNs = Math.max(this.earliestArrivalNs, nowNs);
    if (lookaheadNs === 0) return;
    for (let nextNs = model.nextEventNs(); nextNs <= nowNs + lookaheadNs; nextNs = model.nextEventNs()) {
      model.advance(nextNs, this);
      this.earliestArrivalNs = Math.max(this.earliestArrivalNs, nextNs);
    }
  }

  /** The one place where the rules of zones are asked: before any byte moves. Zone management is done here. */
  private keepsZoneRules(slot: RequestSlot): boolean {
    const { requests, zoneTable } = this;
    if (zoneTable === null && requests.op[slot] < Op.append) return true;
    const status = zoneTable === null ? Status.notsupp : zoneTable.judge(requests, slot);
    requests.status[slot] = status;
    return status === Status.ok;
  }

  private moveBytes(slot: RequestSlot, payload: Uint8Array | null, owner: RequestOwner): void {
    const { requests, store } = this;
    const op = requests.op[slot];
    if (op === Op.read) return;
    let status: Status = Status.ok;
    if (op === Op.write || op === Op.append) {
      if (payload !== null) {
        status = store.write(requests.offsetBytes[slot], payload);
      } else {
        assert(owner.movePayload !== undefined, "a write is submitted with its payload, or by who moves it");
        // Once the write pointer has moved, the bytes must find room: it is made now.
        if (
          this.zoneTable !== null &&
          !this.zoneTable.isConventional(this.zoneTable.zoneOf(requests, slot))
        ) {
          status = store.zero(requests.offsetBytes[slot], requests.lengthBytes[slot], true);
        }
        if (status === Status.ok) owner.movePayload(slot);
      }
    } else if (op === Op.trim) {
      status = store.trim(requests.offsetBytes[slot], requests.lengthBytes[slot]);
    } else if (op === Op.zeroes) {
      const keepAllocated = (requests.flags[slot] & Flag.noHole) !== 0;
      status = store.zero(requests.offsetBytes[slot], requests.lengthBytes[slot], keepAllocated);
    }
    requests.status[slot] = status;
    const isWritten = op === Op.write || op === Op.append || op === Op.zeroes;
    if (status === Status.ok && isWritten) this.zoneTable?.wrote(requests, slot);
    const mustBeDurable = op === Op.flush || (requests.flags[slot] & Flag.fua) !== 0;
    if (status === Status.ok && mustBeDurable && !store.isVolatile) {
      this.isStoreBusy[slot] = 1;
      this.storeDone[slot] ??= (result) => this.onStoreDone(slot, result);
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
    for (const source of this.sources) source.settle();
    this.tellGauges();
  }

  private reply(slot: RequestSlot, nowNs: number): void {
    const { requests } = this;
    const owner = this.owners[slot];
    if (owner?.onScheduled === undefined) {
      this.stats.recordCompletion(
        requests.op[slot],
        requests.lengthBytes[slot],
        requests.status[slot] !== Status.ok,
        nowNs - this.seenNs[slot],
        nowNs - requests.dueNs[slot],
      );
    } else {
      this.countedElsewhere--;
      this.schedule(slot, requests.dueNs[slot]);
    }
    this.owners[slot] = null;
    if (owner === null) {
      requests.release(slot);
    } else {
      this.noteAnswered(owner);
      owner.onCompletion(slot);
    }
  }

  /** Replies of a round mostly follow others to the same owner, so the latest are looked at first, and none of earlier rounds. */
  private noteAnswered(owner: RequestOwner): void {
    for (let i = this.answeredCount - 1; i >= 0; i--) if (this.answered[i] === owner) return;
    this.answered[this.answeredCount++] = owner;
  }

  private endReplies(): void {
    for (let i = 0; i < this.answeredCount; i++) {
      const owner = this.answered[i];
      this.answered[i] = null;
      owner?.onCompletionsEnd();
    }
    this.answeredCount = 0;
    // Listeners may fill the table again and wait anew, so each round takes only those who wait now.
    for (let waiting = this.fullListeners.length; waiting > 0 && !this.requests.isFull; waiting--) {
      this.fullListeners.shift()?.();
    }
  }

  /** Tells an owner that keeps time by itself, once, unless the store still works on what its status will be. */
  private schedule(slot: RequestSlot, dueNs: number): void {
    const owner = this.owners[slot];
    if (owner?.onScheduled === undefined || this.isScheduled[slot] === 1 || this.isStoreBusy[slot] === 1)
      return;
    this.isScheduled[slot] = 1;
    owner.onScheduled(slot, dueNs);
  }

  private letGo(slot: RequestSlot, nowNs: number): void {
    this.isHeldNow[slot] = 0;
    this.holder[slot] = notHeld;
    this.heldCount--;
    this.requests.dueNs[slot] = Math.max(this.requests.dueNs[slot], nowNs);
    this.schedule(slot, this.requests.dueNs[slot]);
    this.due.push(this.requests.dueNs[slot], slot);
  }
}
