/** `blkforge list`: the ublk devices of this machine, and which of them nobody serves any more. */
import { Command } from "commander";
import { formatTable } from "../base/table.js";
import { formatSize } from "../base/units.js";
import { UblkControl } from "../ublk/control.js";
import { type ListedDevice, listDevices } from "../ublk/devices.js";

export const command = new Command("list")
  .description(
    "List the ublk devices of this machine, whoever serves them. Needs root.\n\n" +
      "An orphan's server has died: blkforge recover takes it over where that was allowed for, blkforge cleanup removes it.",
  )
  .option("--json", "print JSON")
  .action(list);

async function list({ json = false }: { json?: boolean }): Promise<void> {
  const control = await UblkControl.open();
  try {
    const devices = await listDevices(control);
    process.stdout.write(
      json ? `${JSON.stringify({ schemaVersion: 1, devices }, null, 2)}\n` : formatDevices(devices),
    );
  } finally {
    control.close();
  }
}

export function formatDevices(devices: readonly ListedDevice[]): string {
  if (devices.length === 0) return "There are no ublk devices.\n";
  const rows = [["device", "state", "queues", "depth", "size", "server", "serves"]];
  for (const device of devices) {
    const { path, state, queues, depth, sizeBytes, pid, name, isOrphan, isRecoverable } = device;
    const server = pid !== null ? String(pid) : isRecoverable ? "died, recoverable" : isOrphan ? "died" : "-";
    const size = sizeBytes === null ? "-" : formatSize(sizeBytes);
    rows.push([path, state, String(queues), String(depth), size, server, name ?? "(other software)"]);
  }
  return `${formatTable(rows)}\n`;
}
