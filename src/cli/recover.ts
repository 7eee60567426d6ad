/**
 * `blkforge recover`: take over a ublk device whose server has died, and serve it until interrupted.
 *
 * A server that lives can be replaced too, by another version say: it is killed, which is the one way of leaving that every kernel
 * with recovery bears under load. The kernel's own way, quiescing (Linux 6.16), is not used, for the reason in docs/ublk.md.
 */
import { statSync } from "node:fs";
import { Command } from "commander";
import { BlkError, ExitCode, isSystemError } from "../base/errors.js";
import { waitFor } from "../linux/block-device.js";
import { UblkControl } from "../ublk/control.js";
import { listDevices } from "../ublk/devices.js";
import { readDeviceId } from "../ublk/names.js";
import { isAlive, loadState, type UblkState } from "../ublk/state.js";
import { readUblkOptions, recoverUblk, requestCapacityFor, type UblkCommandOptions } from "./attach-ublk.js";
import { type Attached, announce, Signals, serveUntilDetached } from "./attached.js";
import { formatCounters } from "./counters-table.js";
import { type DeviceOptions, readServerSpec } from "./serve-options.js";
import { startServing } from "./serving.js";
import { subtractFloor } from "./subtract-floor.js";

export const command = new Command("recover")
  .description(
    "Take over a ublk device whose server has died, and serve it until interrupted. Needs root.\n\n" +
      "It must have been attached with --recovery. Whatever was mounted carries on: requests the old server had not\n" +
      "answered are sent again. The device is served as its attach command said; faults set since then are gone.",
  )
  .argument("[device]", "such as /dev/ublkb0 (default: the only one that can be recovered)")
  .option("--replace", "when its server lives, kill it first")
  .option("--json", "print one JSON object instead of lines")
  .action(recover);

/** How long a dying server may take to be gone. */
const endDeadlineMs = 5_000;

type GivenOptions = DeviceOptions & UblkCommandOptions & { listen: string[] };

interface RecoverOptions {
  replace?: boolean;
  json?: boolean;
}

async function recover(
  path: string | undefined,
  { replace = false, json = false }: RecoverOptions,
): Promise<void> {
  const state = await findState(path, replace);
  const { profile, options, workingDirectory } = state.command;
  // Paths were given from there.
  process.chdir(workingDirectory);
  const given = withSizeOfImage(options as unknown as GivenOptions);
  const server = readServerSpec([{ profile, choice: given, listen: given.listen }], given);
  subtractFloor(server, given.subtractFloor, "ublk");
  const [spec] = server.devices;
  const plan = readUblkOptions(true, given, spec);
  spec.requestCapacity = requestCapacityFor(plan);
  const signals = new Signals();
  let attachment: Attached | null = null;
  const serving = await startServing(server, {
    api: given.api,
    resizeListener: {
      refuseResize: () => attachment?.refuseResize(),
      onResized: async (sizeBytes) => attachment?.resize(sizeBytes),
    },
  });
  const [device] = serving.devices;
  try {
    attachment = await recoverUblk(device, state);
    announce(attachment, device, { json, ...(given.api === undefined ? {} : { api: given.api }) }, {});
    await serveUntilDetached(attachment, serving, signals, false);
  } finally {
    signals.close();
    await serving.close();
  }
  if (given.stats) process.stderr.write(formatCounters(device.counters(), device.description));
  process.exitCode = ExitCode.ok;
}

/** The device may have grown since it was attached (`blkforge resize`), and its image with it. */
function withSizeOfImage(given: GivenOptions): GivenOptions {
  const { size, file } = given;
  return size === undefined || file === undefined ? given : { ...given, size: String(statSync(file).size) };
}

async function findState(path: string | undefined, isReplacing: boolean): Promise<UblkState> {
  if (path === undefined && isReplacing) {
    throw new BlkError(
      "BLK_E_USAGE",
      "it takes a name to replace a server that lives",
      "Such as: blkforge recover --replace /dev/ublkb0",
    );
  }
  const id = path === undefined ? await onlyRecoverable() : readDeviceId(path);
  const state = id === null ? null : loadState(id);
  if (state === null) {
    throw new BlkError(
      "BLK_E_USAGE",
      path === undefined ? "no device waits to be recovered" : `nothing is known of "${path}"`,
      "blkforge list shows the devices there are",
    );
  }
  if (!state.isRecoverable) {
    throw new BlkError(
      "BLK_E_USAGE",
      `/dev/ublkb${state.id} was attached without --recovery, so the kernel has given it up`,
      "Remove it with blkforge cleanup, and attach it anew",
    );
  }
  // Its image, its sockets and its place in the kernel are free only when it is gone, so nothing is prepared before.
  if (isReplacing && isAlive(state.server)) kill(state.server.pid);
  // A killed process takes a moment to be gone.
  if (!(await waitFor(() => !isAlive(state.server), endDeadlineMs))) {
    throw new BlkError(
      "BLK_E_DEVICE_BUSY",
      `/dev/ublkb${state.id} is served by process ${state.server.pid}`,
      "There is nothing to recover while that lives; --replace kills it first, and requests it has in hand are sent again",
    );
  }
  return state;
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    // It has ended by itself.
    if (!isSystemError(error, "ESRCH")) throw error;
  }
}

async function onlyRecoverable(): Promise<number | null> {
  const control = await UblkControl.open();
  try {
    // What was just killed the kernel may still take for live; beginning to recover waits for it.
    const waiting = (await listDevices(control)).filter(
      ({ id, isOrphan, state }) => isOrphan && state !== "dead" && loadState(id)?.isRecoverable,
    );
    if (waiting.length > 1) {
      throw new BlkError(
        "BLK_E_USAGE",
        `${waiting.length} devices wait to be recovered: ${waiting.map(({ path }) => path).join(", ")}`,
        "Name one; each has a server of its own",
      );
    }
    return waiting[0]?.id ?? null;
  } finally {
    control.close();
  }
}
