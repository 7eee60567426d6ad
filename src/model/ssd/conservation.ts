/** What must hold whatever a drive has done: nothing is lost or counted twice. It looks at every unit, so it is for tests. */
import { assert } from "../../base/assert.js";
import { Work } from "./flash.js";
import { nowhere } from "./mapping.js";
import type { SsdParts } from "./parts.js";
import type { SsdParameters } from "./schema.js";

export function assertConservation(parts: SsdParts, parameters: SsdParameters["flash"], nowNs: number): void {
  assertMapping(parts);
  assertWork(parts);
  assertTime(parts, parameters, nowNs);
}

function assertMapping({ superblocks, mapping, geometry }: SsdParts): void {
  let valid = 0;
  for (let i = 0; i < superblocks.count; i++) valid += superblocks.valid[i];
  assert(valid === mapping.mapped, "valid units are the mapped ones");
  let mapped = 0;
  for (let unit = 0; unit < geometry.hostUnits; unit++) {
    const address = mapping.locate(unit);
    if (address === nowhere) continue;
    mapped++;
    assert(mapping.unitAt(address) === unit, "the way back from flash leads to the same unit");
  }
  assert(mapped === mapping.mapped, "mapped units are counted");
}

function assertWork({ superblocks, flash, geometry, frontiers, counters }: SsdParts): void {
  const { programmed, copied, folded, levelled, padding, erased } = counters;
  assert(
    frontiers.sent + frontiers.unsent === programmed + copied + folded + levelled + padding,
    "what is programmed is data of the host, copies, folds, levelling and padding",
  );
  assert(superblocks.erasesDone === erased, "every superblock collected is erased once");
  assert(flash.done[Work.erase] >= erased * geometry.dies, "every die erases its share");
}

function assertTime(
  { flash, geometry, pageTimes }: SsdParts,
  { program, erase, suspend }: SsdParameters["flash"],
  nowNs: number,
): void {
  const { lanes } = flash;
  // Time is counted when an operation begins.
  const begunNs = Math.max(program, erase) + suspend.resume + suspend.time + lanes * pageTimes.longestReadNs;
  for (let die = 0; die < geometry.dies; die++) {
    assert(flash.dieBusyNs[die] <= nowNs * lanes + begunNs, "a die works no longer than time has passed");
  }
}
