/**
 * The state a drive is in at power-on, computed superblock by superblock instead of being written.
 *
 * fresh       nothing was ever written
 * sequential  filled in order: superblocks full one after the other
 * random      overwritten at random until nothing changes any more. Then a superblock written a share x of a cycle ago
 *             (x = 0 the newest, 1 the next victim) is valid to v^x, where v is what collection finds in its victims:
 *             each unit outlives so many random writes with that probability. v follows from the mean, which is what
 *             the host's data fill of the superblocks in use: (1 - v) / ln(1/v) = data / flash in use (Desnoyers,
 *             SYSTOR'12; for greedy collection the same law holds, as superblocks at each level of validity are found in
 *             inverse proportion to it: Van Houdt, SIGMETRICS'13).
 *
 * Which unit lies where is a random permutation (`layout.ts`).
 */
import type { Random } from "../../base/random.js";
import { Stream } from "./frontiers.js";
import type { Geometry } from "./geometry.js";
import { Layout } from "./layout.js";
import type { SsdParameters } from "./schema.js";
import type { Superblocks } from "./superblocks.js";

/** Puts superblocks into their state and returns where the host's data lie. */
export function precondition(
  { precondition: { state, fill }, gc }: SsdParameters,
  geometry: Geometry,
  superblocks: Superblocks,
  random: Random,
): Layout {
  const { hostUnits, superblockUnits } = geometry;
  const units = state === "fresh" ? 0 : Math.round(hostUnits * fill);
  const isRandom = state === "random" && units > 0;
  const valid = isRandom
    ? steadyState(units, superblockUnits, superblocks.count - freeInSteadyState(gc))
    : inOrder(units, superblockUnits);
  const layout = new Layout({ hostUnits, superblockUnits, valid, random: isRandom ? random : undefined });
  // Since the oldest was opened the host has written about what is invalid by now.
  const perSuperblock = isRandom ? superblockUnits - valid[0] : superblockUnits;
  valid.forEach((count, i) => {
    const superblock = superblocks.open(Stream.copy, false, (i - valid.length) * perSuperblock);
    superblocks.close(superblock, (i + 1 - valid.length) * perSuperblock);
    superblocks.valid[superblock] = count;
  });
  return layout;
}

/** Pacing is even in the middle between its two thresholds; without it collection begins below the upper one. */
function freeInSteadyState({ background, forced, pacing }: SsdParameters["gc"]): number {
  return pacing === "auto" ? Math.round((background + forced) / 2) : background;
}

function inOrder(units: number, superblockUnits: number): number[] {
  const count = Math.ceil(units / superblockUnits);
  return Array.from({ length: count }, (_, i) => Math.min(superblockUnits, units - i * superblockUnits));
}

/** Valid units of superblocks from the oldest to the newest. */
function steadyState(units: number, superblockUnits: number, superblocks: number): number[] {
  const victim = victimValidity(units / (superblocks * superblockUnits));
  const valid: number[] = [];
  let exact = 0;
  let given = 0;
  for (let i = 0; i < superblocks; i++) {
    // The mean of v^x over this superblock's share of the cycle.
    const from = 1 - (i + 1) / superblocks;
    const to = 1 - i / superblocks;
    const rate = Math.log(victim);
    const mean = rate === 0 ? 1 : (victim ** to - victim ** from) / (rate * (to - from));
    exact += mean * superblockUnits;
    const count = Math.max(0, Math.min(superblockUnits, Math.round(exact) - given, units - given));
    valid.push(count);
    given += count;
  }
  // What rounding left over goes where there is room, newest first.
  for (let i = superblocks - 1; i >= 0 && given < units; i--) {
    const more = Math.min(superblockUnits - valid[i], units - given);
    valid[i] += more;
    given += more;
  }
  return valid;
}

/** v of (1 - v) / ln(1/v) = `used`, by bisection: the left side rises from 0 to 1. */
export function victimValidity(used: number): number {
  let low = 0;
  let high = 1;
  for (let i = 0; i < 100; i++) {
    const v = (low + high) / 2;
    if ((1 - v) / Math.log(1 / v) < used) low = v;
    else high = v;
  }
  return (low + high) / 2;
}
