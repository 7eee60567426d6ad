/**
 * Which command the controller fetches next: the submission queues of an NVMe device, one per hardware queue.
 *
 * Round robin gives each queue that holds commands a turn of at most `burst` commands. Weighted round robin puts the
 * queues in classes: urgent ones go first whenever they hold anything; high, medium and low share what is left in
 * rounds of `weight` commands each, and within a class queues take turns as in round robin. A class without commands
 * forfeits its share, so the controller never idles while anything waits. (NVM Express Base Specification 1.4, 4.13
 * "Command Arbitration", and feature 01h in 5.21.1.1.) Admin commands, which precede even urgent ones, do not occur.
 *
 * Turns go around the queues that hold commands, in the order in which they came to hold any. A turn cut short by the
 * end of its class's share is over: the next round begins with the next queue.
 *
 * All queues share one table of links by slot, so nothing is allocated and nothing can overflow.
 */
import { assert } from "../../../base/assert.js";
import { noSlot, type RequestSlot } from "../../../base/request.js";
import type { ArbitrationParameters } from "./schema.js";

/** Priority of a submission queue as Create I/O Submission Queue encodes it (QPRIO). */
export const QueueClass = Object.freeze({ urgent: 0, high: 1, medium: 2, low: 3 });

const classCount = 4;
const none = -1;

export class Arbiter {
  /** Commands waiting in all queues. */
  length = 0;

  private readonly queues: number;
  private readonly isWeighted: boolean;
  /** Commands a queue may send in one turn; Infinity for no limit. */
  private readonly burst: number;
  /** Commands of a class per round, by class. */
  private readonly shares: Float64Array;
  private readonly classOf: Uint8Array;

  /** Chains of slots, by queue; links by slot. */
  private readonly first: Int32Array;
  private readonly last: Int32Array;
  private readonly nextSlot: Int32Array;
  private readonly lengths: Int32Array;

  /** The circle of queues that hold commands, by class: the one whose turn it is, and links by queue. */
  private readonly turn: Int32Array;
  private readonly lastInCircle: Int32Array;
  private readonly nextQueue: Int32Array;
  /** Commands left in the turn of each class's queue. */
  private readonly left: Float64Array;

  /** The class whose share is being used up, and what is left of it. */
  private roundClass: number = QueueClass.high;
  private roundLeft: number;

  /** @param capacity slots of the request table. */
  constructor(parameters: ArbitrationParameters, capacity: number) {
    const { queues, mechanism, burst, weights, classes } = parameters;
    this.queues = queues;
    this.isWeighted = mechanism === "weighted";
    this.burst = burst === unlimitedBurst ? Number.POSITIVE_INFINITY : 2 ** burst;
    // Zero-based, as the feature has them: 0 is one command.
    this.shares = Float64Array.of(0, weights.high + 1, weights.medium + 1, weights.low + 1);
    this.roundLeft = this.shares[QueueClass.high];
    this.classOf = Uint8Array.from({ length: queues }, (_, queue) =>
      this.isWeighted ? QueueClass[classes[queue] ?? "medium"] : QueueClass.medium,
    );
    this.first = new Int32Array(queues).fill(noSlot);
    this.last = new Int32Array(queues).fill(noSlot);
    this.nextSlot = new Int32Array(capacity).fill(noSlot);
    this.lengths = new Int32Array(queues);
    this.turn = new Int32Array(classCount).fill(none);
    this.lastInCircle = new Int32Array(classCount).fill(none);
    this.nextQueue = new Int32Array(queues).fill(none);
    this.left = new Float64Array(classCount);
  }

  /**
   * Whether a command that comes now and is fetched at once leaves everything as it is, so that it need not pass through: in
   * rounds of weighted turns it would count.
   */
  get canBePassed(): boolean {
    return this.length === 0 && !this.isWeighted;
  }

  /** Commands waiting in one queue. */
  lengthOf(queue: number): number {
    return this.lengths[queue];
  }

  /** A command enters its queue. A host with more queues than the device has shares them. */
  push(slot: RequestSlot, hardwareQueue: number): void {
    const queue = hardwareQueue % this.queues;
    this.nextSlot[slot] = noSlot;
    if (this.first[queue] === noSlot) {
      this.first[queue] = slot;
      this.joinCircle(queue);
    } else {
      this.nextSlot[this.last[queue]] = slot;
    }
    this.last[queue] = slot;
    this.lengths[queue]++;
    this.length++;
  }

  /** Takes the command whose turn it is; `noSlot` when all queues are empty. */
  next(): RequestSlot {
    if (this.length === 0) return noSlot;
    if (!this.isWeighted) return this.take(QueueClass.medium, false);
    if (this.turn[QueueClass.urgent] !== none) return this.take(QueueClass.urgent, false);
    while (this.roundLeft === 0 || this.turn[this.roundClass] === none) this.nextClass();
    this.roundLeft--;
    return this.take(this.roundClass, this.roundLeft === 0);
  }

  /** The next class of the round, with its whole share. */
  private nextClass(): void {
    this.roundClass = this.roundClass === QueueClass.low ? QueueClass.high : this.roundClass + 1;
    this.roundLeft = this.shares[this.roundClass];
  }

  /** Takes a command of the queue whose turn it is in a class that has one. */
  private take(chosen: number, isLastOfShare: boolean): RequestSlot {
    const queue = this.turn[chosen];
    assert(queue !== none, "a class is served only while one of its queues holds commands");
    const slot = this.first[queue];
    this.first[queue] = this.nextSlot[slot];
    this.lengths[queue]--;
    this.length--;
    if (--this.left[chosen] === 0 || isLastOfShare || this.first[queue] === noSlot) this.endTurn(chosen);
    return slot;
  }

  /** The queue's turn is over: it goes to the end of the circle, or out of it when empty. */
  private endTurn(chosen: number): void {
    const queue = this.turn[chosen];
    this.left[chosen] = this.burst;
    const next = this.nextQueue[queue];
    if (this.first[queue] === noSlot) {
      this.turn[chosen] = next;
      if (next === none) this.lastInCircle[chosen] = none;
      return;
    }
    if (next === none) return;
    this.turn[chosen] = next;
    this.nextQueue[this.lastInCircle[chosen]] = queue;
    this.lastInCircle[chosen] = queue;
    this.nextQueue[queue] = none;
  }

  private joinCircle(queue: number): void {
    const chosen = this.classOf[queue];
    this.nextQueue[queue] = none;
    if (this.turn[chosen] === none) {
      this.turn[chosen] = queue;
      this.left[chosen] = this.burst;
    } else {
      this.nextQueue[this.lastInCircle[chosen]] = queue;
    }
    this.lastInCircle[chosen] = queue;
  }
}

/** Feature 01h, AB: "a value of 111b indicates no limit". */
const unlimitedBurst = 7;
