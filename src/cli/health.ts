/** `blkforge health`: the health log a running device keeps, in the forms of `nvme smart-log`. */
import { Command } from "commander";
import { BlkError } from "../base/errors.js";
import { encodeHealthLog, formatHealthLog, healthLogJson } from "../model/ssd/controller/health.js";
import { type ApiOptions, addApiOptions, connect, print } from "./api-options.js";

interface Options extends ApiOptions {
  binary?: true;
}

export const command = addApiOptions(
  new Command("health")
    .description(
      "Shows the SMART/health log of a running device as `nvme smart-log` would, from what it really did: data read and\n" +
        "written, wear, temperature, throttling. With --json the keys are those of `nvme smart-log -o json`.",
    )
    .argument("[device]", "device to speak to (default: the only one served)")
    .option("--binary", "print the 512 bytes of log page 02h"),
)
  .addHelpText(
    "after",
    `
Examples:
  blkforge health --api unix:/tmp/blkforge.api
  blkforge health --json | jq .percent_used             # with BLKFORGE_API set
  blkforge health --binary | xxd | head`,
  )
  .action(health);

async function health(name: string | undefined, options: Options): Promise<void> {
  if (name !== undefined && options.device !== undefined && name !== options.device) {
    throw new BlkError("BLK_E_USAGE", `"${name}" and --device ${options.device} are two devices`, "Name one");
  }
  const device = await connect(name === undefined ? options : { ...options, device: name });
  const log = await device.health();
  if (options.binary) process.stdout.write(encodeHealthLog(log));
  else print(options, healthLogJson(log), () => formatHealthLog(log, device.name));
}
