/**
 * Temperature and throttling: a body with one thermal resistance R and one time constant, dT/dt = (T_settled - T) / tau
 * with T_settled = ambient + P * R. Between changes of power its course is an exponential, so the instant it crosses a
 * threshold is known by formula and nothing is polled. Short work may be told as energy instead: a jump of E * R / tau.
 *
 * Two thresholds (TMT1, TMT2 of feature 10h, host controlled thermal management) slow the device down, lightly and
 * heavily; each ends once it has cooled by the hysteresis. Counters are those of the health log. A real device has
 * several bodies (controller, flash, case) and more steps; its sensors are whole degrees.
 */
import { assert } from "../../../base/assert.js";
import type { ThermalParameters } from "./schema.js";

/** How hard it throttles. */
export const Throttle = Object.freeze({ none: 0, light: 1, heavy: 2 });

export class Thermal {
  /** One of `Throttle`. */
  level: number = Throttle.none;

  private readonly ambient: number;
  private readonly resistance: number;
  private readonly tauNs: number;
  private readonly idleWatts: number;
  private readonly hysteresis: number;
  /** By level: where it begins, and what speed it leaves. */
  private readonly thresholds: Float64Array;
  private readonly speeds: Float64Array;
  private readonly warning: number;
  private readonly critical: number;

  private nowNs = 0;
  private temperature: number;
  /** The temperature it tends to at the present power. */
  private settled: number;
  private nextNs = Number.POSITIVE_INFINITY;

  private readonly transitions = new Float64Array(3);
  private readonly throttledNs = new Float64Array(3);
  private warningNs = 0;
  private criticalNs = 0;

  /** Begins at rest, settled at idle power. */
  constructor(parameters: ThermalParameters) {
    const { light, heavy } = parameters;
    this.ambient = parameters.ambient;
    this.resistance = parameters.resistance;
    this.tauNs = parameters.timeConstant;
    this.idleWatts = parameters.idlePower;
    this.hysteresis = parameters.hysteresis;
    this.thresholds = Float64Array.of(Number.NEGATIVE_INFINITY, light.at, heavy.at, Number.POSITIVE_INFINITY);
    this.speeds = Float64Array.of(1, light.speed, heavy.speed);
    this.warning = parameters.warning;
    this.critical = parameters.critical;
    this.settled = this.ambient + this.idleWatts * this.resistance;
    this.temperature = this.settled;
    this.crossUpwards();
    this.nextNs = this.crossingNs();
  }

  /** Share of its dies the device may use now. */
  get speed(): number {
    return this.speeds[this.level];
  }

  /** Degrees Celsius at the instant it was advanced to. */
  get celsius(): number {
    return this.temperature;
  }

  /** From `nowNs` on the device draws so many watts beside those it draws at rest. */
  setActivePower(watts: number, nowNs: number): void {
    this.advance(nowNs);
    this.settled = this.ambient + (this.idleWatts + watts) * this.resistance;
    this.nextNs = this.crossingNs();
  }

  /** A piece of work, over at `nowNs`, has turned so many joules into heat. */
  addEnergy(joules: number, nowNs: number): void {
    this.advance(nowNs);
    this.temperature += (joules * 1e9 * this.resistance) / this.tauNs;
    this.crossUpwards();
    this.nextNs = this.crossingNs();
  }

  /** When throttling next changes at the present power; Infinity if never. */
  nextEventNs(): number {
    return this.nextNs;
  }

  /** Lets time pass. Work must not be told of a time before. */
  advance(toNs: number): void {
    while (this.nextNs <= toNs) {
      const isRising = this.settled > this.temperature;
      const threshold = isRising ? this.upper() : this.lower();
      this.pass(this.nextNs);
      // Exactly the threshold: what rounding left of the formula must not set the same crossing again.
      this.temperature = threshold;
      this.setLevel(isRising ? this.level + 1 : this.level - 1);
      this.nextNs = this.crossingNs();
    }
    if (toNs > this.nowNs) this.pass(toNs);
  }

  /** Times throttling of this level began (health log, "Thermal Management Temperature n Transition Count"). */
  transitionsTo(level: number): number {
    return this.transitions[level];
  }

  totalNs(level: number): number {
    return this.throttledNs[level];
  }

  /** Time at or above the warning temperature and below the critical one. */
  get totalWarningNs(): number {
    return this.warningNs;
  }

  get totalCriticalNs(): number {
    return this.criticalNs;
  }

  private upper(): number {
    return this.thresholds[this.level + 1];
  }

  private lower(): number {
    return this.thresholds[this.level] - this.hysteresis;
  }

  private setLevel(level: number): void {
    assert(level >= Throttle.none && level <= Throttle.heavy, "throttling has three levels");
    if (level > this.level) this.transitions[level]++;
    this.level = level;
  }

  private crossUpwards(): void {
    while (this.temperature >= this.upper()) this.setLevel(this.level + 1);
  }

  private crossingNs(): number {
    const threshold = this.settled > this.temperature ? this.upper() : this.lower();
    return this.nowNs + this.untilNs(threshold);
  }

  /** Time from now until the temperature is `threshold` at the present power; Infinity if it never is. */
  private untilNs(threshold: number): number {
    const distance = this.temperature - this.settled;
    const left = threshold - this.settled;
    // It tends to the settled temperature and never reaches it, nor anything beyond or behind.
    if (distance === 0 || left / distance <= 0 || left / distance > 1) return Number.POSITIVE_INFINITY;
    return this.tauNs * Math.log(distance / left);
  }

  /** Moves on to `toNs`, with no crossing in between. */
  private pass(toNs: number): void {
    const passedNs = toNs - this.nowNs;
    const aboveWarningNs = this.timeAbove(this.warning, passedNs);
    const aboveCriticalNs = this.timeAbove(this.critical, passedNs);
    this.warningNs += aboveWarningNs - aboveCriticalNs;
    this.criticalNs += aboveCriticalNs;
    this.throttledNs[this.level] += passedNs;
    this.temperature = this.settled + (this.temperature - this.settled) * Math.exp(-passedNs / this.tauNs);
    this.nowNs = toNs;
  }

  /** Of the coming `passedNs`, how long the temperature is at or above `threshold`. */
  private timeAbove(threshold: number, passedNs: number): number {
    const crossingNs = Math.min(this.untilNs(threshold), passedNs);
    return this.temperature >= threshold
      ? this.settled >= threshold
        ? passedNs
        : crossingNs
      : passedNs - crossingNs;
  }
}
