/**
 * Media queue: commands that need the arm, and the choice of the next one.
 *
 * Shortest positioning time first looks at seek, settling and rotation together: what a drive's firmware does with
 * its queue (Jacobson and Wilkes, "Disk scheduling algorithms based on rotational position", HPL-CSP-91-7). Pure SPTF
 * can starve a command, so waiting can count against positioning (ageing), or a longest wait be set.
 *
 * The choice is the hot loop of the simulator. What it needs of each command is worked out once, on entry, into arrays by
 * slot, and the queue is kept in order of cylinders, so that only commands near the arm are looked at.
 */
import { noSlot, type RequestSlot } from "../../base/request.js";
import { angleTolerance, type Mechanics } from "./mechanics.js";

/** Further than any cylinder. */
const tooFar = 0x7fffffff;

export interface Policy {
  order: "sptf" | "elevator" | "fcfs";
  /** How much one unit of waiting counts against one of positioning. */
  ageing: number;
  /** A command that has waited this long goes first; 0 for never. */
  maximumWaitNs: number;
}

/** Where each command in the request table begins, by slot; shared by the queues of all arms. */
export class Targets {
  readonly block: Float64Array;
  readonly end: Float64Array;
  readonly cylinder: Int32Array;
  readonly head: Uint8Array;
  /** In revolutions. */
  readonly angle: Float64Array;
  readonly isWrite: Uint8Array;
  readonly queuedNs: Float64Array;

  constructor(capacity: number) {
    this.block = new Float64Array(capacity);
    this.end = new Float64Array(capacity);
    this.cylinder = new Int32Array(capacity);
    this.head = new Uint8Array(capacity);
    this.angle = new Float64Array(capacity);
    this.isWrite = new Uint8Array(capacity);
    this.queuedNs = new Float64Array(capacity);
  }
}

export class MediaQueue {
  length = 0;
  /** Positioning time of the command last chosen, and the same less what its waiting counts for. */
  chosenNs = 0;
  chosenCost = 0;

  /** Commands by cylinder; within one, by arrival. */
  private readonly slots: Int32Array;
  /** Neighbours in order of arrival, by slot. */
  private readonly older: Int32Array;
  private readonly newer: Int32Array;
  private oldest: RequestSlot = noSlot;
  private newest: RequestSlot = noSlot;
  private isSweepingIn = true;

  constructor(
    capacity: number,
    private readonly targets: Targets,
    private readonly mechanics: Mechanics,
    private readonly policy: Policy,
  ) {
    this.slots = new Int32Array(capacity);
    this.older = new Int32Array(capacity);
    this.newer = new Int32Array(capacity);
  }

  push(slot: RequestSlot): void {
    const { slots } = this;
    const place = this.placeAfter(this.targets.cylinder[slot]);
    for (let i = this.length++; i > place; i--) slots[i] = slots[i - 1];
    slots[place] = slot;
    this.older[slot] = this.newest;
    this.newer[slot] = noSlot;
    if (this.newest === noSlot) this.oldest = slot;
    else this.newer[this.newest] = slot;
    this.newest = slot;
  }

  remove(slot: RequestSlot): void {
    const { slots, older, newer } = this;
    const length = --this.length;
    for (let i = slots.indexOf(slot); i < length; i++) slots[i] = slots[i + 1];
    if (slot === this.oldest) this.oldest = newer[slot];
    else newer[older[slot]] = newer[slot];
    if (slot === this.newest) this.newest = older[slot];
    else older[newer[slot]] = older[slot];
  }

  /** The read that begins first within the blocks; `noSlot` if none does. First come, first served asks the oldest only. */
  findRead(fromBlock: number, toBlock: number): RequestSlot {
    const { slots, policy } = this;
    const { block, isWrite } = this.targets;
    let found = noSlot;
    for (let i = 0; i < this.length; i++) {
      const slot = slots[i];
      if (block[slot] < fromBlock || block[slot] > toBlock || isWrite[slot] !== 0) continue;
      if (policy.order === "fcfs" && slot !== this.oldest) continue;
      if (found === noSlot || block[slot] < block[found]) found = slot;
    }
    return found;
  }

  /** Whether a write waits that begins at `block`. */
  hasWriteAt(block: number): boolean {
    for (let i = 0; i < this.length; i++) {
      const slot = this.slots[i];
      if (this.targets.block[slot] === block && this.targets.isWrite[slot] === 1) return true;
    }
    return false;
  }

  /** The command to serve next; the queue must not be empty. */
  choose(nowNs: number): RequestSlot {
    const { order } = this.policy;
    let slot = this.oldest;
    if (!this.isOverdue(nowNs)) {
      if (order === "sptf") return this.chooseNearest(nowNs);
      if (order === "elevator") slot = this.chooseNextInSweep();
    }
    this.chosenNs = this.positioningNs(slot, nowNs);
    this.chosenCost = this.chosenNs - this.credit(slot, nowNs);
    return slot;
  }

  /** Whether the command that has waited longest must go first. */
  isOverdue(nowNs: number): boolean {
    const { maximumWaitNs } = this.policy;
    return maximumWaitNs > 0 && nowNs - this.targets.queuedNs[this.oldest] >= maximumWaitNs;
  }

  /** What a command's waiting counts for, against positioning time. */
  credit(slot: RequestSlot, nowNs: number): number {
    return this.policy.ageing * (nowNs - this.targets.queuedNs[slot]);
  }

  private positioningNs(slot: RequestSlot, nowNs: number): number {
    const { targets, mechanics } = this;
    const moveNs = mechanics.moveNs(targets.cylinder[slot], targets.head[slot], targets.isWrite[slot] === 1);
    return mechanics.nextPassNs(targets.angle[slot], nowNs + moveNs) - nowNs;
  }

  /**
   * Goes from the arm outwards, the nearer side first, until the seek alone is longer than the best positioning time:
   * of 32 random commands about eight are looked at.
   */
  private chooseNearest(nowNs: number): RequestSlot {
    const { slots, length } = this;
    const { cylinder, head, angle, isWrite, queuedNs } = this.targets;
    const { seekNs, leastSeekNs, headSwitchNs, writeSettleNs, revolutionNs } = this.mechanics;
    const armCylinder = this.mechanics.cylinder;
    const armHead = this.mechanics.head;
    const { ageing } = this.policy;
    const perNs = 1 / revolutionNs;
    const nowRevolutions = nowNs * perNs - angleTolerance;
    const mostCredit = ageing * (nowNs - queuedNs[this.oldest]);
    let inner = this.placeAfter(armCylinder);
    let outer = inner - 1;
    let best = noSlot;
    let bestCost = Number.POSITIVE_INFINITY;
    let bestNs = 0;
    for (;;) {
      const innerDistance = inner < length ? cylinder[slots[inner]] - armCylinder : tooFar;
      const outerDistance = outer >= 0 ? armCylinder - cylinder[slots[outer]] : tooFar;
      const distance = Math.min(innerDistance, outerDistance);
      if (distance === tooFar || leastSeekNs[distance] - mostCredit >= bestCost) break;
      const slot = innerDistance < outerDistance ? slots[inner++] : slots[outer--];
      let moveNs = seekNs[distance];
      if (head[slot] !== armHead && moveNs < headSwitchNs) moveNs = headSwitchNs;
      if (isWrite[slot] !== 0 && (distance !== 0 || head[slot] !== armHead)) moveNs += writeSettleNs;
      const ahead = angle[slot] - (nowRevolutions + moveNs * perNs);
      const positioningNs = moveNs + (ahead - Math.floor(ahead)) * revolutionNs;
      const cost = positioningNs - ageing * (nowNs - queuedNs[slot]);
      // Of two commands for the same place the older goes first.
      if (cost < bestCost || (cost === bestCost && queuedNs[slot] < queuedNs[best])) {
        bestCost = cost;
        bestNs = positioningNs;
        best = slot;
      }
    }
    this.chosenNs = bestNs;
    this.chosenCost = bestCost;
    return best;
  }

  /** LOOK: the nearest cylinder in the direction of the arm; it turns round when nothing is left ahead. */
  private chooseNextInSweep(): RequestSlot {
    const { slots, mechanics } = this;
    // Commands of the arm's own cylinder count as ahead in both directions.
    const behind = this.placeAfter(mechanics.cylinder - 1);
    const ahead = this.placeAfter(mechanics.cylinder);
    if (this.isSweepingIn ? behind === this.length : ahead === 0) this.isSweepingIn = !this.isSweepingIn;
    return this.isSweepingIn ? slots[behind] : slots[ahead - 1];
  }

  /** Where a command for `cylinder` belongs: behind all of the same cylinder or a lower one. */
  private placeAfter(cylinder: number): number {
    const { slots } = this;
    const of = this.targets.cylinder;
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (of[slots[middle]] <= cylinder) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
