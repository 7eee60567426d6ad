/** Heat of the flash's operations, and throttling: dies that may work at once as the drive gets hot. */
import type { ModelObserver } from "../observer.js";
import { type Thermal, Throttle } from "./controller/thermal.js";
import type { Flash } from "./flash.js";
import type { Geometry } from "./geometry.js";

export class Heat {
  /** The level of throttling the dies have been told of. */
  private throttle: number = Throttle.none;

  constructor(
    readonly thermal: Thermal,
    private readonly dieWatts: number,
    private readonly flash: Flash,
    private readonly geometry: Geometry,
    private readonly observer: ModelObserver | null,
  ) {
    flash.limit(geometry.dies);
  }

  /** The heat of an operation; throttling may begin or end with it. */
  warm(arrayNs: number, nowNs: number): void {
    const { thermal, geometry } = this;
    thermal.addEnergy(this.dieWatts * arrayNs * 1e-9, nowNs);
    if (thermal.level === this.throttle) return;
    this.throttle = thermal.level;
    this.flash.limit(Math.max(1, Math.round(geometry.dies * thermal.speed)));
    this.observer?.level("dies allowed", nowNs, Math.round(geometry.dies * thermal.speed));
  }
}
