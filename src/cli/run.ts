/** `blkforge run`: serve a device for one command, and pass on its exit status. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { BlkError } from "../base/errors.js";
import { formatCounters } from "./counters-table.js";
import { addDeviceOptions, type DeviceOptions, readServerSpec } from "./serve-options.js";
import { onStopSignal, startServing } from "./serving.js";
import { subtractFloor } from "./subtract-floor.js";

export const command = addDeviceOptions(
  new Command("run")
    .description(
      "Serve a device on a private socket, run a command with NBD_URI set, and pass on its exit status.\n" +
        "BLKFORGE_API is set too, so the command can add faults with `blkforge fault add`.",
    )
    .argument("<profile>", "name of a profile (see blkforge profiles), or a YAML file")
    .argument("<command...>", "the command and its arguments, after --"),
)
  .addHelpText(
    "after",
    `
Examples:
  blkforge run hdd-7200 -- sh -c 'nbdinfo "$NBD_URI"'
  blkforge run fixed --set latency=1ms --stats -- \\
      sh -c 'fio --name=t --ioengine=nbd --uri="$NBD_URI" --rw=randread --runtime=5 --time_based'`,
  )
  .action(run);

async function run(profile: string, argv: string[], options: DeviceOptions): Promise<void> {
  const directory = mkdtempSync(join(process.env.XDG_RUNTIME_DIR ?? tmpdir(), "blkforge-"));
  try {
    const api = options.api ?? `unix:${join(directory, "api.sock")}`;
    const listen = [`nbd+unix:///?socket=${join(directory, "nbd.sock")}`];
    const spec = readServerSpec([{ profile, choice: options, listen }], options);
    subtractFloor(spec, options.subtractFloor, "nbd-user");
    const serving = await startServing(spec, {
      api,
    });
    const [device] = serving.devices;
    try {
      const environment = { NBD_URI: device.description.uris[0], BLKFORGE_API: api };
      process.exitCode = await Promise.race([
        runChild(argv, environment),
        serving.ended.then(() => {
          throw new BlkError("BLK_E_INTERNAL", "the device ended before the command did");
        }),
      ]);
    } finally {
      await serving.close();
    }
    if (options.stats) process.stderr.write(formatCounters(device.counters(), device.description));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Resolves to the exit status, or 128 + signal number as shells have it. Signals to us go on to the command. */
function runChild([file, ...args]: string[], environment: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: "inherit", env: { ...process.env, ...environment } });
    const stopListening = onStopSignal((signal) => child.kill(signal));
    child.once("error", (error) => {
      stopListening();
      reject(
        new BlkError("BLK_E_COMMAND", `cannot run "${file}": ${error.message}`, "Check that it is installed"),
      );
    });
    child.once("exit", (status, signal) => {
      stopListening();
      resolve(status ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
}
