/**
 * A device whose clock goes slow: whatever its model is, everything in it takes `ratio` times longer during a slow phase,
 * and nothing happens at all while it stands still. So latency, throughput and the device's own queueing change together, as
 * with a drive that fails slow.
 *
 * The model inside lives in its own time, which runs at 1/ratio of the host's; arrivals, events and completions are
 * translated. What a model says of where time went is in its own time too, so it is not passed on.
 */
import type { HealthLog } from "../../base/health.js";
import type { RequestSlot } from "../../base/request.js";
import type { CompletionSink, Model, ModelReport } from "../model.js";
import { Phase, type Phases } from "./phases.js";

export class SlowClock implements Model, CompletionSink {
  readonly isZeroFast?: boolean;
  readonly grow?: (sizeBytes: number) => void;
  readonly health?: (nowNs: number) => HealthLog;

  private readonly phase = new Phase();
  /** The model's time at the beginning of the phase, and the latest it was told of. */
  private phaseInnerNs = 0;
  private innerNowNs = 0;
  private lastDueNs = 0;
  /** Who is told of completions, while `advance` runs. */
  private sink: CompletionSink | null = null;

  constructor(
    private readonly inner: Model,
    private readonly phases: Phases,
  ) {
    phases.next(this.phase);
    if (inner.isZeroFast !== undefined) this.isZeroFast = inner.isZeroFast;
    if (inner.grow !== undefined) this.grow = (sizeBytes) => inner.grow?.(sizeBytes);
    if (inner.health !== undefined) this.health = (nowNs) => inner.health!(this.innerAt(nowNs));
  }

  arrive(slot: RequestSlot, nowNs: number): void {
    this.innerNowNs = this.innerAt(nowNs);
    this.inner.arrive(slot, this.innerNowNs);
  }

  /** The end of a phase counts as an event: what comes after it is not translated yet. */
  nextEventNs(): number {
    const innerNs = this.inner.nextEventNs();
    return innerNs === Number.POSITIVE_INFINITY ? innerNs : Math.min(this.toHost(innerNs), this.phase.endNs);
  }

  advance(toNs: number, done: CompletionSink): void {
    const { phase } = this;
    this.sink = done;
    while (phase.endNs <= toNs) {
      this.advanceInner(phase.endNs);
      this.phaseInnerNs = this.innerAt(phase.endNs);
      this.phases.next(phase);
    }
    this.advanceInner(toNs);
    this.sink = null;
  }

  report(nowNs: number): ModelReport {
    return {
      ...this.inner.report?.(this.innerAt(nowNs)),
      slowRatio: Math.min(this.phase.ratio, Number.MAX_VALUE),
    };
  }

  /** Called by the model inside. */
  complete(slot: RequestSlot, innerDueNs: number): void {
    // Rounding must not carry a completion past the end of its phase, nor in front of an earlier one.
    this.lastDueNs = Math.max(this.lastDueNs, Math.min(this.toHost(innerDueNs), this.phase.endNs));
    this.sink?.complete(slot, this.lastDueNs);
  }

  /** Runs the model inside up to a moment of the present phase. */
  private advanceInner(toNs: number): void {
    if (this.phase.ratio === Number.POSITIVE_INFINITY) return;
    this.innerNowNs = this.innerAt(toNs);
    this.inner.advance(this.innerNowNs, this);
    // An event announced for this very moment may lie behind it by a rounding error of the model's time.
    for (;;) {
      const nextNs = this.inner.nextEventNs();
      if (this.toHost(nextNs) > toNs) return;
      this.innerNowNs = nextNs;
      this.inner.advance(nextNs, this);
    }
  }

  /** As `toInner`, and never before what the model was told of. */
  private innerAt(hostNs: number): number {
    return Math.max(this.innerNowNs, this.toInner(hostNs));
  }

  /** The model's time at a moment of the host's in the present phase. */
  private toInner(hostNs: number): number {
    return this.phaseInnerNs + (hostNs - this.phase.startNs) / this.phase.ratio;
  }

  private toHost(innerNs: number): number {
    const passedNs = innerNs - this.phaseInnerNs;
    // At a standstill not even what is due at once happens before the end (0 times infinity is no time).
    return this.phase.ratio === Number.POSITIVE_INFINITY
      ? Number.POSITIVE_INFINITY
      : this.phase.startNs + passedNs * this.phase.ratio;
  }
}
