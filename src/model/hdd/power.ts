/**
 * Power states: a drive left alone unloads its heads, then slows down, then stops; the next access waits until it is
 * ready again. Which state it is in follows from how long it has been idle, so nothing happens while it sleeps.
 *
 * The host's own commands for power (STANDBY IMMEDIATE and the like) do not reach a block device, so are not modelled.
 */
import type { HddParameters } from "./schema.js";

export class Power {
  /** From light to deep. */
  private readonly states: HddParameters["power"];
  private lastUseNs = 0;

  constructor(states: HddParameters["power"]) {
    this.states = states;
  }

  /** An access begins: how long until the drive is ready for it. */
  recoveryNs(nowNs: number): number {
    const idleNs = nowNs - this.lastUseNs;
    let recoveryNs = 0;
    for (let i = 0; i < this.states.length && this.states[i].after <= idleNs; i++) {
      recoveryNs = this.states[i].recovery;
    }
    return recoveryNs;
  }

  used(untilNs: number): void {
    if (untilNs > this.lastUseNs) this.lastUseNs = untilNs;
  }
}
