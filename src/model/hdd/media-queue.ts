/**
 * Media queue: commands that need the arm, and the choice of the next one.
 *
 * Shortest positioning time first looks at seek, settling and rotation together: what a drive's firmware does with
 * its queue (Jacobson and Wilkes, "Disk scheduling algorithms based on rotational position", HPL-CSP-91-7). Pure SPTF
 * can starve a command, so waiting can count against positioning (ageing), or a longest wait be set.
 *
 * The choice runs once per command over the whole queue; it is the hot loop of the simulator. What it needs of each
 * command is worked out once, on entry, into arrays by slot.
 */
import type { RequestSlot } from "../../base/request.js";
import { angleTolerance, type Mechanics } from "./mechanics.js";

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
  /** Positioning time of the command last chosen by `choose`, ageing not counted. */
  chosenNs = 0;

  private readonly slots: Int32Array;
  private isSweepingIn = true;

  constructor(
    capacity: number,
    private readonly targets: Targets,
    private readonly mechanics: Mechanics,
    private readonly policy: Policy,
  ) {
    this.slots = new Int32Array(capacity);
  }

  push(slot: RequestSlot): void {
    this.slots[this.length++] = slot;
  }

  at(index: number): RequestSlot {
    return this.slots[index];
  }

  /** Takes out the command at `index`, keeping the others in order of arrival. */
  take(index: number): RequestSlot {
    const { slots } = this;
    const slot = slots[index];
    const length = --this.length;
    for (let i = index; i < length; i++) slots[i] = slots[i + 1];
    return slot;
  }

  /** Index of the first read, among the `last` oldest commands, that begins within the blocks; -1 if none does. */
  findRead(fromBlock: number, toBlock: number, last: number): number {
    const { slots } = this;
    const { block, isWrite } = this.targets;
    for (let i = 0; i < last; i++) {
      const slot = slots[i];
      if (block[slot] >= fromBlock && block[slot] <= toBlock && isWrite[slot] === 0) {
        this.chosenNs = 0;
        return i;
      }
    }
    return -1;
  }

  /** Index of the command to serve next; the queue must not be empty. */
  choose(nowNs: number): number {
    const { policy } = this;
    let index = 0;
    const isOverdue =
      policy.maximumWaitNs > 0 && nowNs - this.targets.queuedNs[this.slots[0]] >= policy.maximumWaitNs;
    if (policy.order === "sptf" && !isOverdue) return this.chooseNearest(nowNs);
    if (policy.order === "elevator" && !isOverdue) index = this.chooseNextInSweep();
    this.chosenNs = this.positioningNs(this.slots[index], nowNs);
    return index;
  }

  private positioningNs(slot: RequestSlot, nowNs: number): number {
    const { targets, mechanics } = this;
    const moveNs = mechanics.moveNs(targets.cylinder[slot], targets.head[slot], targets.isWrite[slot] === 1);
    return mechanics.nextPassNs(targets.angle[slot], nowNs + moveNs) - nowNs;
  }

  private chooseNearest(nowNs: number): number {
    const { slots, length } = this;
    const { cylinder, head, angle, isWrite, queuedNs } = this.targets;
    const { seekNs, headSwitchNs, writeSettleNs, revolutionNs } = this.mechanics;
    const armCylinder = this.mechanics.cylinder;
    const armHead = this.mechanics.head;
    const { ageing } = this.policy;
    const perNs = 1 / revolutionNs;
    const nowRevolutions = nowNs * perNs - angleTolerance;
    let best = 0;
    let bestCost = Number.POSITIVE_INFINITY;
    let bestNs = 0;
    // Every command is worked out to the end: leaving out those whose seek alone is too long costs more in mispredicted
    // branches than it saves.
    for (let i = 0; i < length; i++) {
      const slot = slots[i];
      const delta = cylinder[slot] - armCylinder;
      let moveNs = seekNs[delta < 0 ? -delta : delta];
      if (head[slot] !== armHead && moveNs < headSwitchNs) moveNs = headSwitchNs;
      if (isWrite[slot] !== 0 && (delta !== 0 || head[slot] !== armHead)) moveNs += writeSettleNs;
      const credit = ageing === 0 ? 0 : ageing * (nowNs - queuedNs[slot]);
      const ahead = angle[slot] - (nowRevolutions + moveNs * perNs);
      const positioningNs = moveNs + (ahead - Math.floor(ahead)) * revolutionNs;
      if (positioningNs - credit < bestCost) {
        bestCost = positioningNs - credit;
        bestNs = positioningNs;
        best = i;
      }
    }
    this.chosenNs = bestNs;
    return best;
  }

  /** LOOK: the nearest cylinder in the direction of the arm; it turns round when nothing is left ahead. */
  private chooseNextInSweep(): number {
    const { slots, length, mechanics } = this;
    const { cylinder } = this.targets;
    for (;;) {
      let best = -1;
      let bestDistance = 0;
      for (let i = 0; i < length; i++) {
        const delta = cylinder[slots[i]] - mechanics.cylinder;
        const distance = this.isSweepingIn ? delta : -delta;
        if (distance >= 0 && (best === -1 || distance < bestDistance)) {
          best = i;
          bestDistance = distance;
        }
      }
      if (best !== -1) return best;
      this.isSweepingIn = !this.isSweepingIn;
    }
  }
}
