/** `blkforge cleanup`: remove ublk devices whose servers have died. */
import { Command } from "commander";
import { UblkControl } from "../ublk/control.js";
import { cleanUp } from "../ublk/devices.js";

export const command = new Command("cleanup")
  .description(
    "Remove ublk devices of blkforge whose servers have died, and what was kept for them. Needs root.\n\n" +
      "Devices that can be recovered stay, unless --all is given. Those of other software are never touched.",
  )
  .option("--all", "recoverable devices too: whoever waits for them gets errors")
  .action(cleanup);

async function cleanup({ all = false }: { all?: boolean }): Promise<void> {
  const control = await UblkControl.open();
  try {
    const removed = await cleanUp(control, all);
    process.stdout.write(
      removed.length === 0
        ? "There was nothing to remove.\n"
        : removed.map(({ path, name }) => `Removed ${path} (${name})\n`).join(""),
    );
  } finally {
    control.close();
  }
}
