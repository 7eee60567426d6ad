/**
 * A drive whose medium is written in place (3D XPoint): parallel units, no erasing, no translation layer, no buffer to
 * speak of. A request's pieces go to the units their addresses belong to, scattered by a hash; each unit serves one after
 * the other. Front end and link are those of the flash model. The structure is NVMeVirt's NVM model (Kim et al., FAST'23).
 */
import { Random } from "../../base/random.js";
import { Op, type RequestSlot, type RequestTable } from "../../base/request.js";
import { Breakdown } from "../breakdown.js";
import { EventHeap } from "../event-heap.js";
import type { CompletionSink, Model } from "../model.js";
import { Arbiter } from "./controller/arbiter.js";
import { Completions, type SteppedDrive } from "./controller/completions.js";
import { Direction, Link } from "./controller/link.js";
import { ControllerTime } from "./controller-time.js";
import type { SsdParameters } from "./schema.js";

type Direct = NonNullable<SsdParameters["direct"]>;

export interface CreateDirectOptions {
  parameters: SsdParameters;
  direct: Direct;
  requests: RequestTable;
  seed: number;
}

const eventBits = 24;
const eventMask = (1 << eventBits) - 1;
const Event = Object.freeze({
  fetch: 0,
  decoded: 1 << eventBits,
  /** The medium has given a read's data, or the link a write's. */
  moved: 2 << eventBits,
  complete: 3 << eventBits,
});

export class DirectModel implements Model, SteppedDrive {
  readonly breakdown: Breakdown;
  private readonly requests: RequestTable;
  private readonly parameters: SsdParameters;
  private readonly direct: Direct;
  private readonly random: Random;
  private readonly events: EventHeap;
  private readonly arbiter: Arbiter;
  private readonly completions: Completions;
  private readonly link: Link;
  private readonly controllerTime: ControllerTime;
  private readonly unitFreeNs: Float64Array;
  private active = 0;
  private controllerFreeNs = 0;
  private isFetchSet = false;

  constructor({ parameters, direct, requests, seed }: CreateDirectOptions) {
    const { capacity } = requests;
    this.requests = requests;
    this.parameters = parameters;
    this.direct = direct;
    this.random = new Random(seed, "model/ssd/direct");
    this.breakdown = new Breakdown(capacity);
    // Each request has one event waiting, and the controller one.
    this.events = new EventHeap(capacity + 1);
    this.arbiter = new Arbiter(parameters.queue.arbitration, capacity);
    this.completions = new Completions(parameters.queue, requests);
    this.controllerTime = new ControllerTime(parameters.firmware, parameters.queue.maximumTransfer, requests);
    this.link = new Link(parameters.link);
    this.unitFreeNs = new Float64Array(direct.units);
  }

  arrive(slot: RequestSlot, nowNs: number): void {
    while (this.events.nextNs <= nowNs) this.step();
    this.breakdown.reset(slot);
    this.arbiter.push(slot, this.requests.queue[slot]);
    this.fetch(nowNs);
  }

  nextEventNs(): number {
    return this.completions.nextEventNs(this.events.nextNs);
  }

  advance(toNs: number, done: CompletionSink): void {
    this.completions.advance(this, toNs, done);
  }

  get nextStepNs(): number {
    return this.events.nextNs;
  }

  step(): void {
    const nowNs = this.events.nextNs;
    const event = this.events.pop();
    const slot = event & eventMask;
    switch (event - slot) {
      case Event.fetch:
        this.isFetchSet = false;
        this.fetch(nowNs);
        break;
      case Event.decoded:
        this.serve(slot, nowNs);
        break;
      case Event.moved:
        this.moved(slot, nowNs);
        break;
      default:
        this.complete(slot, nowNs);
    }
  }

  private fetch(nowNs: number): void {
    const { arbiter, parameters, requests } = this;
    const { firmware, queue } = parameters;
    while (arbiter.length > 0 && this.active < queue.depth) {
      if (this.controllerFreeNs > nowNs) {
        if (!this.isFetchSet) this.events.push(this.controllerFreeNs, Event.fetch);
        this.isFetchSet = true;
        return;
      }
      const slot = arbiter.next();
      const op = requests.op[slot];
      this.active++;
      this.controllerFreeNs = nowNs + this.controllerTime.busyNs(slot);
      const overheadNs =
        op === Op.read
          ? firmware.read
          : op === Op.write
            ? firmware.write
            : op === Op.flush
              ? firmware.flush
              : firmware.trim;
      this.breakdown.overheadNs[slot] = overheadNs;
      this.events.push(nowNs + overheadNs, Event.decoded | slot);
    }
  }

  private serve(slot: RequestSlot, nowNs: number): void {
    switch (this.requests.op[slot]) {
      case Op.read:
        this.events.push(this.access(slot, this.direct.read, nowNs), Event.moved | slot);
        break;
      case Op.write:
        this.events.push(this.transfer(slot, Direction.toDevice, nowNs), Event.moved | slot);
        break;
      default:
        // Nothing volatile to flush; trimmed and zeroed ranges are marked.
        this.complete(slot, nowNs);
    }
  }

  private moved(slot: RequestSlot, nowNs: number): void {
    const { latencyNs } = this.link;
    const endNs =
      this.requests.op[slot] === Op.read
        ? this.transfer(slot, Direction.toHost, nowNs)
        : this.access(slot, this.direct.write, nowNs);
    this.events.push(endNs + latencyNs, Event.complete | slot);
  }

  private transfer(slot: RequestSlot, direction: number, nowNs: number): number {
    const bytes = this.requests.lengthBytes[slot];
    this.breakdown.transferNs[slot] = this.link.timeNs(bytes);
    return this.link.reserve(direction, bytes, nowNs);
  }

  /** Accesses every unit a request touches; returns when the last is done. */
  private access(slot: RequestSlot, timeNs: number, nowNs: number): number {
    const { requests, direct, unitFreeNs } = this;
    const first = Math.floor(requests.offsetBytes[slot] / direct.unitSize);
    const end = Math.ceil((requests.offsetBytes[slot] + requests.lengthBytes[slot]) / direct.unitSize);
    let lastNs = nowNs;
    for (let piece = first; piece < end; piece++) {
      const unit = scatter(piece) % direct.units;
      let takesNs = timeNs;
      if (direct.delay !== undefined && this.random.next() < direct.delay.rate)
        takesNs += this.random.nextExponential(direct.delay.mean);
      const doneNs = Math.max(nowNs, unitFreeNs[unit]) + takesNs;
      unitFreeNs[unit] = doneNs;
      if (doneNs > lastNs) lastNs = doneNs;
    }
    this.breakdown.mediaNs[slot] = timeNs;
    return lastNs;
  }

  private complete(slot: RequestSlot, nowNs: number): void {
    const { breakdown } = this;
    this.active--;
    const partsNs = breakdown.overheadNs[slot] + breakdown.mediaNs[slot] + breakdown.transferNs[slot];
    breakdown.queueNs[slot] = nowNs - this.requests.arrivalNs[slot] - partsNs;
    this.completions.push(slot, nowNs);
    if (this.arbiter.length > 0) this.fetch(nowNs);
  }
}

/** Spreads piece numbers so that no stride falls on one unit: Fibonacci hashing (Knuth, vol. 3, 6.4). */
function scatter(piece: number): number {
  const low = piece >>> 0;
  const hash = Math.imul(low ^ (low >>> 15), 0x9e3779b1);
  return (hash ^ (hash >>> 16)) >>> 0;
}
