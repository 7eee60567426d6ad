/** What the commands that steer a running device share: where its API is, which device, how to answer. */
import { type Command, Option } from "commander";
import { BlkError } from "../base/errors.js";
import { ControlClient } from "../control/client.js";
import type { DeviceControl } from "../control/control.js";

export interface ApiOptions {
  api?: string;
  device?: string;
  json?: true;
}

export function addApiOptions(command: Command): Command {
  return command
    .addOption(new Option("--api <unix:path>", "address of the control API").env("BLKFORGE_API"))
    .option("--device <name>", "device to speak to (default: the only one served)")
    .option("--json", "print JSON");
}

/** @throws BlkError BLK_E_USAGE without an address, BLK_E_API when nobody answers there, BLK_E_DEVICE_UNKNOWN */
export function connect({ api, device }: ApiOptions): Promise<DeviceControl> {
  if (api === undefined) {
    throw new BlkError(
      "BLK_E_USAGE",
      "no API address is given",
      "Serve the device with --api unix:PATH, and give the same --api here or in BLKFORGE_API",
    );
  }
  return new ControlClient(api).device(device);
}

/** One answer on stdout: JSON when asked for, otherwise the text for people. */
export function print(options: ApiOptions, answer: unknown, text: () => string): void {
  process.stdout.write(options.json ? `${JSON.stringify(answer, null, 2)}\n` : `${text()}\n`);
}
