/**
 * Whether the drive has anything to do, for how long it had, and what it does with the time when it has nothing: it sinks into
 * power states, from which the next command wakes it, collects ahead and folds its SLC cache.
 */
import type { EventLanes } from "../event-lanes.js";
import type { Collector } from "./collector.js";
import { Event } from "./events.js";
import type { SsdParameters } from "./schema.js";
import type { SlcCache } from "./slc-cache.js";

export class Activity {
  /** Commands in the drive, in its queues too; since when, and how long there were any before. */
  private commands = 0;
  private busySinceNs = 0;
  private busyNs = 0;
  private lastNs = 0;
  /** Exit latency of the power state the drive was in, for the command that wakes it. */
  private wakeNs = 0;
  private isAlarmSet = false;

  constructor(
    private readonly parameters: Pick<SsdParameters, "gc" | "slcCache" | "power">,
    private readonly collector: Collector,
    private readonly slcCache: SlcCache,
    private readonly events: EventLanes,
  ) {}

  /** A command has arrived. */
  begin(nowNs: number): void {
    this.collector.isIdleTime = false;
    this.collector.isFoldTime = false;
    if (this.commands++ > 0) return;
    this.busySinceNs = nowNs;
    this.wakeNs = this.recoveryNs(nowNs);
  }

  /** A command is complete. */
  end(nowNs: number): void {
    this.lastNs = nowNs;
    if (--this.commands === 0) this.busyNs += nowNs - this.busySinceNs;
  }

  /** Time the first command after a power state waits for the drive to wake. */
  takeWakeNs(): number {
    const { wakeNs } = this;
    this.wakeNs = 0;
    return wakeNs;
  }

  /** How long the drive had commands. */
  totalBusyNs(nowNs: number): number {
    return this.busyNs + (this.commands > 0 ? nowNs - this.busySinceNs : 0);
  }

  /** Sets the alarm for idle time, if it is used for anything. */
  waitForIdle(): void {
    if (this.isAlarmSet) return;
    const dueNs = this.nextIdleNs();
    if (dueNs === Number.POSITIVE_INFINITY) return;
    this.isAlarmSet = true;
    this.events.push(dueNs, Event.idle);
  }

  /** The alarm: tells collection what idle time it may use now. False if there is none after all. */
  useIdleTime(nowNs: number): boolean {
    this.isAlarmSet = false;
    if (this.commands > 0) return false;
    const { gc, slcCache } = this.parameters;
    // Compared as they were added: a difference could fall short of the limit by rounding, for ever.
    const { lastNs } = this;
    if (gc.idleAfter > 0 && nowNs >= lastNs + gc.idleAfter) this.collector.isIdleTime = true;
    if (slcCache.foldAfter > 0 && nowNs >= lastNs + slcCache.foldAfter) this.collector.isFoldTime = true;
    return true;
  }

  /** When idle time becomes long enough for the next thing it is used for; Infinity if there is none. */
  private nextIdleNs(): number {
    const { gc, slcCache } = this.parameters;
    const { collector, lastNs } = this;
    let dueNs = Number.POSITIVE_INFINITY;
    if (gc.idleAfter > 0 && !collector.isIdleTime) dueNs = lastNs + gc.idleAfter;
    if (slcCache.foldAfter > 0 && this.slcCache.used > 0 && !collector.isFoldTime)
      dueNs = Math.min(dueNs, lastNs + slcCache.foldAfter);
    return dueNs;
  }

  /** Exit latency of the power state the drive has sunk to. */
  private recoveryNs(nowNs: number): number {
    const { power } = this.parameters;
    const idleNs = nowNs - this.lastNs;
    let recoveryNs = 0;
    for (let i = 0; i < power.length && power[i].after <= idleNs; i++) recoveryNs = power[i].recovery;
    return recoveryNs;
  }
}
