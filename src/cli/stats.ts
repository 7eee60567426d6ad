/** `blkforge stats`: what a running device has done, how long it took, and how late it was. */
import { Command } from "commander";
import { formatDuration, formatSize } from "../base/units.js";
import type { StatsReport } from "../control/stats-shape.js";
import { formatModelReport } from "../model/report-text.js";
import { type ApiOptions, addApiOptions, connect, print } from "./api-options.js";
import { formatCounters } from "./counters-table.js";
import { faultTable } from "./fault-text.js";

export const command = addApiOptions(new Command("stats"))
  .description(
    "Shows the counters of a running device: requests, bytes, errors, latency from arrival to reply, how late\n" +
      "the emulator itself was, and what its faults did. Reading never disturbs the device.",
  )
  .addHelpText(
    "after",
    `
Examples:
  blkforge serve fixed --listen 'nbd+unix:///?socket=/tmp/disk' --api unix:/tmp/blkforge.api &
  blkforge stats --api unix:/tmp/blkforge.api
  BLKFORGE_API=unix:/tmp/blkforge.api blkforge stats --json | jq .operations.read.latency.p99Ns`,
  )
  .action(async (options: ApiOptions) => {
    const stats = await (await connect(options)).stats();
    print(options, stats, () => statsText(stats));
  });

function statsText(stats: StatsReport): string {
  const lines = [
    `${stats.device}: up ${formatDuration(stats.uptimeNs)}, ${stats.inFlight} in flight, ${stats.held} held by faults, ` +
      `${formatSize(stats.store.allocatedBytes)} allocated`,
    formatCounters(stats, stats).trimEnd(),
  ];
  if (Object.keys(stats.model).length > 0) lines.push("", formatModelReport(stats.model));
  if (stats.faults.length > 0) lines.push("", faultTable(stats.faults));
  return lines.join("\n");
}
