/**
 * How slow a device is, as a sequence of phases: from when on, and how many times slower than it should be.
 *
 * The sequence depends on the seed alone, never on requests. It has no end, so phases are drawn one by one.
 */
import type { Random } from "../../base/random.js";
import { draw } from "./draw.js";
import type { SlowEntry } from "./schema.js";

export class Phase {
  startNs = 0;
  /** Infinity for the last phase of all. */
  endNs = 0;
  /** Times slower; Infinity while the device stands still. */
  ratio = 1;
}

export interface Phases {
  /** Turns `phase` into the one that follows it; a new `Phase` into the first. */
  next(phase: Phase): void;
}

export type PhasedEntry = Exclude<SlowEntry, { kind: "requests" }>;

export function createPhases(entry: PhasedEntry, random: Random): Phases {
  switch (entry.kind) {
    case "episodes":
      return new Episodes(entry, random);
    case "stretches":
      return new Stretches(entry, random);
    case "timeline":
      return new Timeline(entry, random);
  }
}

class Episodes implements Phases {
  private isSlow = true;

  constructor(
    private readonly entry: Extract<SlowEntry, { kind: "episodes" }>,
    private readonly random: Random,
  ) {}

  next(phase: Phase): void {
    const { entry, random } = this;
    this.isSlow = !this.isSlow;
    phase.startNs = phase.endNs;
    phase.endNs += draw(this.isSlow ? entry.lasting : entry.between, random);
    phase.ratio = this.isSlow ? draw(entry.ratio, random) : 1;
  }
}

class Stretches implements Phases {
  private isSlow = true;

  constructor(
    private readonly entry: Extract<SlowEntry, { kind: "stretches" }>,
    private readonly random: Random,
  ) {}

  /** Runs of stretches that are not slow are one phase: their number is geometric. */
  next(phase: Phase): void {
    const { entry, random } = this;
    this.isSlow = !this.isSlow;
    phase.startNs = phase.endNs;
    const stretches = this.isSlow
      ? 1
      : Math.floor(Math.log(1 - random.next()) / Math.log(1 - entry.probability));
    // With probability 0 there is no slow stretch ever (0 divided by -0 otherwise).
    phase.endNs += entry.probability === 0 ? Number.POSITIVE_INFINITY : stretches * entry.length;
    phase.ratio = this.isSlow ? draw(entry.ratio, random) : 1;
  }
}

class Timeline implements Phases {
  private nextPhase = 0;

  constructor(
    private readonly entry: Extract<SlowEntry, { kind: "timeline" }>,
    private readonly random: Random,
  ) {}

  next(phase: Phase): void {
    const { phases } = this.entry;
    phase.startNs = phase.endNs;
    if (this.nextPhase === 0 && phases[0].at > phase.startNs) {
      phase.ratio = 1;
      phase.endNs = phases[0].at;
      return;
    }
    phase.ratio = draw(phases[this.nextPhase].ratio, this.random);
    this.nextPhase++;
    phase.endNs = phases[this.nextPhase]?.at ?? Number.POSITIVE_INFINITY;
  }
}
