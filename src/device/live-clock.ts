/**
 * The real clock: power-on is its creation, and deadlines are met by a kernel timer (`native/clock.cc`), typically
 * 20 to 60 us late and never early. libuv's own timers count milliseconds and would be of no use here.
 *
 * Where the native timer does not exist (elsewhere than on Linux) setTimeout stands in, up to 2 ms late; `resolutionNs`
 * tells which of the two it is, so that the server can say how exact it is.
 *
 * An armed clock keeps its thread alive, an idle one does not.
 */
import { loadNative, type NativeAddon, type NativeClock } from "../base/native.js";
import type { Clock } from "./clock.js";

const nsPerSecond = 1_000_000_000;
const nsPerMillisecond = 1_000_000;
/** The longest setTimeout can do; a later deadline is approached in steps. */
const longestTimeoutMs = 2 ** 31 - 1;

export class LiveClock implements Clock {
  onDeadline: () => void = () => {};

  private readonly timer: Pick<NativeClock, "arm" | "close">;
  private readonly originSeconds: number;
  private readonly originNs: number;
  private armedNs = Number.POSITIVE_INFINITY;
  /** The grain of deadlines: 1 ns with the native timer, 1 ms without. */
  readonly resolutionNs: number;

  /** @param native the addon; handed in by tests only. */
  constructor(native: Pick<NativeAddon, "Clock"> = loadNative()) {
    const fire = (): void => this.fire();
    let originNs: bigint;
    if (native.Clock === undefined) {
      this.timer = new TimeoutTimer(this, fire);
      this.resolutionNs = nsPerMillisecond;
      originNs = process.hrtime.bigint();
    } else {
      const timer = new native.Clock(fire);
      this.timer = timer;
      this.resolutionNs = 1;
      originNs = timer.originNs;
    }
    this.originSeconds = Number(originNs / BigInt(nsPerSecond));
    this.originNs = Number(originNs % BigInt(nsPerSecond));
  }

  nowNs(): number {
    // 39 ns and, once compiled, no allocation: V8 never builds the pair. hrtime.bigint() would make a BigInt each time.
    const [seconds, ns] = process.hrtime();
    return (seconds - this.originSeconds) * nsPerSecond + (ns - this.originNs);
  }

  arm(deadlineNs: number): void {
    // A system call is saved for the common case of a batch that changed nothing.
    if (deadlineNs === this.armedNs) return;
    this.armedNs = deadlineNs;
    this.timer.arm(deadlineNs);
  }

  close(): void {
    this.armedNs = Number.POSITIVE_INFINITY;
    this.timer.close();
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
