/**
 * Keeps the machine's processors out of idle states they are slow to leave, while requests are under way.
 *
 * While a request is under way its client sleeps, and so does the processor it ran on. Woken, a processor takes from a microsecond to some
 * hundred to be back, all of which the client takes for the device's. The kernel can be asked to do without such states
 * (/dev/cpu_dma_latency, Documentation/power/pm_qos_interface.rst), as cyclictest and tuned's latency profiles do. That costs power, or
 * of a virtual machine processor time, so it is asked for only until requests stop coming.
 */
import { accessSync, closeSync, constants, openSync, readFileSync, writeSync } from "node:fs";

const requestPath = "/dev/cpu_dma_latency";
const driverPath = "/sys/devices/system/cpu/cpuidle/current_driver";

/** What says that any state will do: PM_QOS_CPU_LATENCY_DEFAULT_VALUE (include/linux/pm_qos.h). */
const anyUs = 2_000_000_000;
/** Leaves a processor its first state (C1: 1 to 2 us in drivers/idle/intel_idle.c and on ACPI). */
const firstStateUs = 2;
/** How long requests have to be missed for: once to twice this. */
const patienceMs = 250;

/**
 * The slowest states to put up with, by what leaving them takes; null where nothing can be had: there is no such driver, or we may not
 * ask it.
 */
export function bestIdleLimitUs(): number | null {
  let driver: string;
  try {
    driver = readFileSync(driverPath, "utf8").trim();
    accessSync(requestPath, constants.W_OK);
  } catch {
    return null;
  }
  if (driver === "none") return null;
  // A virtual processor that halts comes back when its host sees fit, whatever it says of itself: it must not halt at all.
  return driver === "haltpoll" ? 0 : firstStateUs;
}

export class IdleStates {
  private readonly limitUs: number;
  private readonly fd: number;
  private readonly request = new Int32Array(1);
  private timer: NodeJS.Timeout | null = null;
  private isWanted = false;

  private constructor(limitUs: number, fd: number) {
    this.limitUs = limitUs;
    this.fd = fd;
  }

  /** Null when it cannot be opened after all. */
  static open(limitUs: number, path = requestPath): IdleStates | null {
    try {
      return new IdleStates(limitUs, openSync(path, "w"));
    } catch {
      return null;
    }
  }

  /** A request is under way. Cheap enough for each. */
  limit(): void {
    this.isWanted = true;
    if (this.timer !== null) return;
    this.ask(this.limitUs);
    this.timer = setInterval(() => this.letGo(), patienceMs);
    this.timer.unref();
  }

  close(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
    // With its descriptor the request is gone.
    closeSync(this.fd);
  }

  private letGo(): void {
    if (!this.isWanted && this.timer !== null) {
      clearInterval(this.timer);
      this.timer = null;
      this.ask(anyUs);
    }
    this.isWanted = false;
  }

  private ask(limitUs: number): void {
    this.request[0] = limitUs;
    writeSync(this.fd, this.request);
  }
}
