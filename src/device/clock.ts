/**
 * The contract of a device's clock: what time is it, and call me at the deadline.
 *
 * Time is nanoseconds since power-on in a float64, which is exact to 104 days. There is one deadline, the device's next
 * event; arming replaces it. Live devices run on `LiveClock`, tests and simulations on `VirtualClock`.
 */
import type { NativeClock } from "../base/native.js";

export interface Clock {
  /** The timer behind a clock on real time, where it is the addon's. */
  readonly nativeClock?: NativeClock | null;

  /** Never decreases. Cheap enough to ask for every request. */
  nowNs(): number;

  /**
   * Replaces the deadline. When it has come, `onDeadline` is called once, never before `arm` returns and never early;
   * then nothing is armed. A deadline in the past is due at once; Infinity disarms.
   */
  arm(deadlineNs: number): void;

  /** Set by the one who arms. */
  onDeadline: () => void;

  /**
   * Called shortly before a deadline that was slept for, by clocks on real time: a long sleep leaves the caches cold, and what
   * runs once now is quick when it matters.
   */
  onRehearsal: () => void;

  /** Disarms for good and releases what the clock holds. */
  close(): void;
}
