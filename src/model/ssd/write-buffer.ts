/**
 * Write buffer: data of the host that the controller holds until they are programmed.
 *
 * A write needs room for its data before it may send them; without room it waits, first come, first served. Data that have
 * come in wait in order for their place on flash, which collection may hold up. What is programmed makes room again.
 * A FLUSH or FUA write on a drive without power-loss protection sends what came before it to flash, program units filled
 * up with nothing, and waits for it; with protection neither waits.
 *
 * Units written twice while they are in the program unit being filled are programmed once.
 */
import type { RequestSlot } from "../../base/request.js";
import { Ring } from "../ring.js";
import type { Collector } from "./collector.js";
import type { SsdCounters } from "./counters.js";
import type { Frontiers } from "./frontiers.js";
import { type Mapping, nowhere } from "./mapping.js";

export interface WriteBufferOptions {
  capacityUnits: number;
  /** Programs with data of the host that may be under way. */
  mostPrograms: number;
  mapping: Mapping;
  frontiers: Frontiers;
  collector: Collector;
  counters: SsdCounters;
  /** Which stream data go to that replace those at an address, or none. */
  streamOf(before: number): number;
  /** Requests there can be. */
  requests: number;
}

export class WriteBuffer {
  /** Units that occupy it, from when their write was let in until they are programmed. */
  used = 0;
  readonly capacityUnits: number;
  /** Units the host has sent in all. */
  private accepted = 0;
  /** Of these, how many have found their place. */
  private placed = 0;

  /** Runs of units that have come in and have no place yet. */
  private readonly firstUnit: Float64Array;
  private readonly lengthUnits: Float64Array;
  private head = 0;
  private runs = 0;

  /** Commands that wait for what came before them to be on flash: up to which unit, and then for which program. */
  private readonly draining: Ring;
  /** How many of them, from the first on, wait for programs only. */
  private padded = 0;
  private readonly target: Float64Array;
  private readonly sequence: Float64Array;

  private readonly mostPrograms: number;
  private readonly mapping: Mapping;
  private readonly frontiers: Frontiers;
  private readonly collector: Collector;
  private readonly counters: SsdCounters;
  private readonly streamOf: (before: number) => number;

  constructor(options: WriteBufferOptions) {
    this.capacityUnits = options.capacityUnits;
    this.mostPrograms = options.mostPrograms;
    this.mapping = options.mapping;
    this.frontiers = options.frontiers;
    this.collector = options.collector;
    this.counters = options.counters;
    this.streamOf = options.streamOf;
    // A run holds one unit or more, so there are no more runs than units; one larger than all comes alone.
    this.firstUnit = new Float64Array(options.capacityUnits + 1);
    this.lengthUnits = new Float64Array(options.capacityUnits + 1);
    this.draining = new Ring(options.requests);
    this.target = new Float64Array(options.requests);
    this.sequence = new Float64Array(options.requests);
  }

  /** Whether everything the host has sent is on flash. */
  get isClean(): boolean {
    return this.used === 0;
  }

  /** Lets a write in, if there is room; one larger than the buffer has it for itself. */
  admit(units: number): boolean {
    if (this.used > 0 && this.used + units > this.capacityUnits) return false;
    this.used += units;
    return true;
  }

  /** Data have come in. */
  accept(firstUnit: number, units: number): void {
    let tail = this.head + this.runs++;
    if (tail >= this.firstUnit.length) tail -= this.firstUnit.length;
    this.firstUnit[tail] = firstUnit;
    this.lengthUnits[tail] = units;
    this.accepted += units;
  }

  /** A command waits until all that has come in is on flash. */
  drain(slot: RequestSlot): void {
    this.target[slot] = this.accepted;
    this.draining.push(slot);
  }

  /** Finds places for data, in order, as far as collection and the programs under way allow. */
  place(nowNs: number): void {
    const { frontiers, collector, mapping, counters } = this;
    while (this.runs > 0) {
      const { head } = this;
      const unit = this.firstUnit[head];
      if (frontiers.hostPrograms >= this.mostPrograms) break;
      const before = mapping.locate(unit);
      const stream = this.streamOf(before);
      if (before >= 0 && frontiers.isBeingFilled(stream, before)) {
        counters.absorbed++;
        this.used--;
      } else {
        if (!collector.hostMayPlace(stream)) break;
        frontiers.put(stream, unit, before === nowhere ? nowhere : mapping.superblockOf(before), true, nowNs);
        collector.allow();
      }
      counters.hostWritten++;
      this.placed++;
      this.firstUnit[head]++;
      if (--this.lengthUnits[head] === 0) {
        this.runs--;
        this.head = head + 1 === this.firstUnit.length ? 0 : head + 1;
      }
      this.padFor(nowNs);
    }
    this.padFor(nowNs);
  }

  /** A command whose wait has ended, removed from those that wait; -1 if there is none. */
  takeDrained(): RequestSlot {
    const { draining } = this;
    if (this.padded === 0 || !this.frontiers.isOnFlash(this.sequence[draining.first])) return -1;
    this.padded--;
    return draining.shift();
  }

  /** Data of the host have been programmed. */
  programmed(units: number): void {
    this.used -= units;
  }

  /**
   * A write waits for room that no program under way will make, because what fills the buffer fills no program unit:
   * sends it to flash as it is.
   */
  padIfStuck(nowNs: number): void {
    if (this.runs === 0 && this.frontiers.hostPrograms === 0) this.frontiers.pad(nowNs);
  }

  /** Pads what the commands that wait need, in order, once all of it has a place. */
  private padFor(nowNs: number): void {
    const { draining, frontiers } = this;
    while (this.padded < draining.length) {
      const slot = draining.at(this.padded);
      if (this.placed < this.target[slot]) return;
      frontiers.pad(nowNs);
      this.sequence[slot] = frontiers.lastSequence;
      this.padded++;
    }
  }
}
