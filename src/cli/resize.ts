/** `blkforge resize`: make a running device larger. */
import { Command } from "commander";
import { formatSize, parseSize } from "../base/units.js";
import { type ApiOptions, addApiOptions, connect, print } from "./api-options.js";

export const command = addApiOptions(
  new Command("resize")
    .description(
      "Make a running device larger. A kernel it is attached to sees the new size at once (blkforge attach); other\n" +
        "clients when they connect anew. Devices whose model is laid out over a capacity, as hard disks are, cannot grow.",
    )
    .argument("<size>", "the new capacity: 2G, 1T"),
)
  .addHelpText(
    "after",
    `
Examples:
  blkforge resize 2G --api unix:/run/blkforge.api && resize2fs /dev/nbd0`,
  )
  .action(async (size: string, options: ApiOptions) => {
    const sizeBytes = parseSize(size);
    const device = await (await connect(options)).resize(sizeBytes);
    print(
      options,
      { schemaVersion: 1, device },
      () => `${device.name} has ${formatSize(device.sizeBytes)} now`,
    );
  });
