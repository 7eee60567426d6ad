/**
 * The real clock: power-on is its creation, and deadlines are met by a kernel timer (`native/clock.cc`), typically
 * 20 to 60 us late and never early. libuv's own timers count milliseconds and would be of no use here. How a deadline is
 * waited for is the device's `timing`: see `spinNsOfTiming`.
 *
 * Where the native timer does not exist (elsewhere than on Linux) setTimeout stands in, up to 2 ms late; `resolutionNs`
 * tells which of the two it is, so that the server can say how exact it is.
 *
 * An armed clock keeps its thread alive, an idle one does not.
 */
import { loadNative, type NativeAddon, type NativeClock } from "../base/native.js";
import type { Clock } from "./clock.js";
import type { IdleStates } from "./idle-states.js";

const nsPerSecond = 1_000_000_000;
const nsPerMillisecond = 1_000_000;
/** The longest setTimeout can do; a later deadline is approached in steps. */
const longestTimeoutMs = 2 ** 31 - 1;

/** How a thread waits for a deadline. */
export const timings = ["sleep", "hybrid", "spin"] as const;
export type Timing = (typeof timings)[number];

/**
 * How long before its deadline a thread stops sleeping.
 *
 * sleep    never: late by what a wake-up takes, 20 to 100 us; costs nothing
 * hybrid   80 us, or more where wake-ups turn out to take longer (up to 0.4 ms): late by a few us; stays awake for 0.3 ms after each deadline too, since
 *          the next request is on its way; costs up to 0.4 ms of processor time a deadline, and nothing while idle
 * spin     always awake while anything is due: late by a few us; costs a processor
 */
export function spinNsOfTiming(timing: Timing): number {
  return { sleep: 0, hybrid: 80_000, spin: Number.MAX_SAFE_INTEGER }[timing];
}

/** A single processor is better spent on the client than on waiting. */
export function defaultTiming(processors: number): Timing {
  return processors > 1 ? "hybrid" : "sleep";
}

export interface LiveClockOptions {
  timing?: Timing;
  /** Limited while a deadline is armed, and closed with the clock. */
  idleStates?: IdleStates | null;
  /** The addon; handed in by tests only. */
  native?: Pick<NativeAddon, "Clock">;
}

export class LiveClock implements Clock {
  onDeadline: () => void = () => {};
  onRehearsal: () => void = () => {};

  readonly nativeClock: NativeClock | null;

  private readonly timer: Pick<NativeClock, "arm" | "close">;
  /** Power-on, on the clock that `process.hrtime()` reads. */
  readonly monotonicOriginNs: bigint;

  private readonly idleStates: IdleStates | null;
  private readonly originSeconds: number;
  private originNs: number;
  /** Arming keeps the thread awake for a while: the answer to a reply is the next request. */
  private readonly lingers: boolean;
  private armedNs = Number.POSITIVE_INFINITY;
  /** The grain of deadlines: 1 ns with the native timer, 1 ms without. */
  readonly resolutionNs: number;

  constructor({ timing = "sleep", idleStates = null, native = loadNative() }: LiveClockOptions = {}) {
    this.idleStates = idleStates;
    const fire = (): void => this.fire();
    this.lingers = timing !== "sleep" && native.Clock !== undefined;
    let originNs: bigint;
    if (native.Clock === undefined) {
      this.timer = new TimeoutTimer(this, fire);
      this.nativeClock = null;
      this.resolutionNs = nsPerMillisecond;
      originNs = process.hrtime.bigint();
    } else {
      const timer = new native.Clock(
        fire,
        spinNsOfTiming(timing),
        () => this.onRehearsal(),
        () => this.idleStates?.limit(),
      );
      this.timer = timer;
      this.nativeClock = timer;
      this.resolutionNs = 1;
      originNs = timer.originNs;
    }
    this.monotonicOriginNs = originNs;
    this.originSeconds = Number(originNs / BigInt(nsPerSecond));
    this.originNs = Number(originNs % BigInt(nsPerSecond));
  }

  nowNs(): number {
    // 39 ns and, once compiled, no allocation: V8 never builds the pair. hrtime.bigint() would make a BigInt each time.
    const [seconds, ns] = process.hrtime();
    return (seconds - this.originSeconds) * nsPerSecond + (ns - this.originNs);
  }

  arm(deadlineNs: number): void {
    // A system call is saved for the common case of a batch that changed nothing. Who spins makes none, and stays awake by each call.
    if (deadlineNs === this.armedNs && !this.lingers) return;
    this.armedNs = deadlineNs;
    if (this.idleStates !== null && deadlineNs !== Number.POSITIVE_INFINITY) this.idleStates.limit();
    this.timer.arm(deadlineNs);
  }

  /** Moves power-on back: for a clock nobody else reads, as its timer's deadlines stay where they are. */
  skip(ns: number): void {
    this.originNs -= ns;
  }

  /** Skips to the armed deadline and meets it; false when there is none. For a clock that skips. */
  meetDeadline(): boolean {
    if (this.armedNs === Number.POSITIVE_INFINITY) return false;
    this.skip(Math.max(0, this.armedNs - this.nowNs()));
    this.fire();
    return true;
  }

  close(): void {
    this.armedNs = Number.POSITIVE_INFINITY;
    this.timer.close();
    this.idleStates?.close();
  }

  private fire(): void {
    this.armedNs = Number.POSITIVE_INFINITY;
    this.onDeadline();
  }
}

/** Deadlines by setTimeout, which counts whole milliseconds and may be a fraction of one early. */
class TimeoutTimer {
  private timeout: NodeJS.Timeout | undefined;
  private isClosed = false;

  constructor(
    private readonly clock: Pick<Clock, "nowNs">,
    private readonly fire: () => void,
  ) {}

  arm(deadlineNs: number): void {
    clearTimeout(this.timeout);
    if (this.isClosed || deadlineNs === Number.POSITIVE_INFINITY) return;
    const delayMs = Math.max(0, Math.ceil((deadlineNs - this.clock.nowNs()) / nsPerMillisecond));
    this.timeout = setTimeout(
      () => {
        if (this.clock.nowNs() < deadlineNs) this.arm(deadlineNs);
        else this.fire();
      },
      Math.min(delayMs, longestTimeoutMs),
    );
  }

  close(): void {
    this.isClosed = true;
    clearTimeout(this.timeout);
  }
}
