import { describe, expect, it } from "vitest";
import { thermalSchema } from "../../../../src/model/ssd/controller/schema.js";
import { Thermal, Throttle } from "../../../../src/model/ssd/controller/thermal.js";

/** At rest 30 + 1 * 8 = 38 degrees; the time constant is 120 s. */
const parameters = (written: Record<string, unknown> = {}) => thermalSchema.parse(written);
const secondNs = 1e9;
const tauNs = 120 * secondNs;
/** Time from `from` to `to` when it tends to `settled`: the formula. */
const courseNs = (from: number, to: number, settled: number) =>
  tauNs * Math.log((settled - from) / (settled - to));

describe("temperature", () => {
  it("follows the exponential of a body with one resistance and one capacity", () => {
    const thermal = new Thermal(parameters());
    expect(thermal.celsius).toBe(38);
    thermal.setActivePower(4, 0);
    thermal.advance(tauNs);
    expect(thermal.celsius).toBeCloseTo(70 - 32 * Math.exp(-1), 9);
    thermal.setActivePower(0, tauNs);
    thermal.advance(100 * tauNs);
    expect(thermal.celsius).toBeCloseTo(38, 9);
  });

  it("takes work as energy or as power alike", () => {
    const steady = new Thermal(parameters());
    const pieces = new Thermal(parameters());
    steady.setActivePower(5, 0);
    for (let ms = 1; ms <= 60_000; ms++) pieces.addEnergy(0.005, ms * 1e6);
    steady.advance(60 * secondNs);
    expect(pieces.celsius).toBeCloseTo(steady.celsius, 3);
  });

  it("does not depend on how time is sliced", () => {
    const whole = new Thermal(parameters());
    const sliced = new Thermal(parameters());
    whole.setActivePower(8, 0);
    sliced.setActivePower(8, 0);
    for (let s = 1; s <= 600; s++) sliced.advance(s * secondNs);
    whole.advance(600 * secondNs);
    expect(sliced.level).toBe(whole.level);
    expect(sliced.celsius).toBeCloseTo(whole.celsius, 9);
    expect(sliced.totalNs(Throttle.heavy)).toBeCloseTo(whole.totalNs(Throttle.heavy), 0);
  });
});

describe("throttling", () => {
  it("begins lightly and then heavily at the times the formula gives", () => {
    const thermal = new Thermal(parameters());
    thermal.setActivePower(8, 0); // settles at 102 degrees
    const lightNs = courseNs(38, 80, 102);
    const heavyNs = courseNs(38, 85, 102);
    // Exact but for rounding; what is asked for is 2 %.
    expect(thermal.nextEventNs() / lightNs).toBeCloseTo(1, 12);
    thermal.advance(lightNs - 1000);
    expect(thermal.level).toBe(Throttle.none);
    expect(thermal.speed).toBe(1);
    thermal.advance(lightNs + 1000);
    expect(thermal.level).toBe(Throttle.light);
    expect(thermal.speed).toBe(0.6);
    expect(thermal.nextEventNs() / heavyNs).toBeCloseTo(1, 9);
    thermal.advance(heavyNs + 1000);
    expect(thermal.level).toBe(Throttle.heavy);
    expect(thermal.speed).toBe(0.2);
    expect(thermal.nextEventNs()).toBe(Number.POSITIVE_INFINITY);
  });

  it("ends each level only when it has cooled by the hysteresis", () => {
    const thermal = new Thermal(parameters());
    thermal.setActivePower(8, 0);
    const hotNs = courseNs(38, 85, 102) + 1;
    thermal.advance(hotNs);
    thermal.setActivePower(0, hotNs);
    const cooled = (to: number) => hotNs + tauNs * Math.log((thermal.celsius - 38) / (to - 38));
    const [endOfHeavyNs, endOfLightNs] = [cooled(82), cooled(77)];
    thermal.advance(endOfHeavyNs - 1000);
    expect(thermal.level).toBe(Throttle.heavy);
    thermal.advance(endOfHeavyNs + 1000);
    expect(thermal.level).toBe(Throttle.light);
    thermal.advance(endOfLightNs - 1000);
    expect(thermal.level).toBe(Throttle.light);
    thermal.advance(endOfLightNs + 1000);
    expect(thermal.level).toBe(Throttle.none);
    expect(thermal.nextEventNs()).toBe(Number.POSITIVE_INFINITY);
  });

  it("counts transitions, time in each level, and time above warning and critical temperature", () => {
    const thermal = new Thermal(parameters());
    thermal.setActivePower(8, 0);
    thermal.advance(1000 * secondNs);
    const at = (celsius: number) => courseNs(38, celsius, 102);
    expect(thermal.transitionsTo(Throttle.light)).toBe(1);
    expect(thermal.transitionsTo(Throttle.heavy)).toBe(1);
    expect(thermal.totalNs(Throttle.light)).toBeCloseTo(at(85) - at(80), -3);
    expect(thermal.totalNs(Throttle.heavy)).toBeCloseTo(1000 * secondNs - at(85), -3);
    expect(thermal.totalWarningNs).toBeCloseTo(at(90) - at(82), -3);
    expect(thermal.totalCriticalNs).toBeCloseTo(1000 * secondNs - at(90), -3);
    thermal.setActivePower(0, 1000 * secondNs);
    thermal.advance(5000 * secondNs);
    thermal.setActivePower(8, 5000 * secondNs);
    thermal.advance(6000 * secondNs);
    expect(thermal.transitionsTo(Throttle.light)).toBe(2);
  });

  it("swings between on and off when throttled work is what heats it, and never skips a change", () => {
    const thermal = new Thermal(parameters({ heavy: { at: 84, speed: 0.1 } }));
    const power = () => 16 * thermal.speed;
    thermal.setActivePower(power(), 0);
    let changes = 0;
    for (let nowNs = thermal.nextEventNs(); nowNs < 3600 * secondNs; nowNs = thermal.nextEventNs()) {
      const before = thermal.level;
      thermal.advance(nowNs);
      expect(Math.abs(thermal.level - before)).toBe(1);
      thermal.setActivePower(power(), nowNs);
      changes++;
    }
    expect(changes).toBeGreaterThan(10);
    expect(thermal.celsius).toBeLessThanOrEqual(84);
  });

  it("refuses thresholds that contradict each other", () => {
    const issues = (written: Record<string, unknown>) =>
      thermalSchema.safeParse(written).error?.issues.map(({ path }) => path.join("."));
    expect(issues({ heavy: { at: 70 } })).toContain("heavy.at");
    expect(issues({ idlePower: 6 })).toEqual(["hysteresis"]);
    expect(issues({ warning: 95, critical: 90 })).toEqual(["critical"]);
  });
});
