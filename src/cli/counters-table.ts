/** A device's counters for people: what was done, how long it took, and how late the emulator itself was. */
import type { LatencySummary } from "../base/histogram.js";
import { operations } from "../base/request.js";
import { formatTable } from "../base/table.js";
import { formatDuration, formatSize } from "../base/units.js";
import { formatFloor } from "../device/floor.js";
import type { DeviceDescription } from "../device/spec.js";
import type { DeviceCounters } from "../device/stats.js";

export function formatCounters(
  { operations: byOperation, lateness }: DeviceCounters,
  { seed, floorNs }: Pick<DeviceDescription, "seed" | "floorNs">,
): string {
  const rows = [["", "requests", "bytes", "errors", "mean", "p50", "p99", "max"]];
  for (const name of operations) {
    const { count, bytes, errors, latency } = byOperation[name];
    if (count > 0) rows.push([name, String(count), formatSize(bytes), String(errors), ...figures(latency)]);
  }
  rows.push(["lateness", String(lateness.count), "", "", ...figures(lateness)]);
  const floor = floorNs === null ? "" : `floor taken off the model: ${formatFloor(floorNs)}\n`;
  return `${formatTable(rows)}\nlateness = reply minus due time: the emulator's own error (seed ${seed})\n${floor}`;
}

function figures(summary: LatencySummary): string[] {
  const { count, meanNs, p50Ns, p99Ns, maxNs } = summary;
  return [meanNs, p50Ns, p99Ns, maxNs].map((ns) => (count === 0 ? "-" : formatDuration(ns)));
}
