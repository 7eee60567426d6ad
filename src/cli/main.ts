/**
 * The command line: one file per command, loaded only when it is asked for, so that `blkforge --help` costs little
 * more than Node's own start.
 *
 * Exit statuses: 0 ok, 1 a check failed, 2 usage, 3 environment (no module, no permission). `run` and `lab exec` pass
 * on the status of the command they ran.
 */
import { Command, CommanderError } from "commander";
import { BlkError, ExitCode } from "../base/errors.js";
import { packageVersion } from "../base/version.js";

interface Entry {
  summary: string;
  /** Done before the command is loaded: what may begin the program anew. */
  begin?: (args: readonly string[]) => Promise<void>;
  load: () => Promise<{ command: Command }>;
}

const commands: Record<string, Entry> = {
  serve: { summary: "serve a device over NBD until interrupted", load: () => import("./serve.js") },
  run: {
    summary: "serve a device for one command, and pass on its exit status",
    load: () => import("./run.js"),
  },
  attach: {
    summary: "serve a device and attach it to this machine's kernel",
    begin: async (args) => {
      if (args.some((arg) => arg === "--ublk" || arg.startsWith("--ublk="))) await becomeDiskServer(args);
    },
    load: () => import("./attach.js"),
  },
  detach: { summary: "detach a device from this machine's kernel", load: () => import("./detach.js") },
  list: { summary: "list the ublk devices of this machine", load: () => import("./list.js") },
  recover: {
    summary: "take over a ublk device whose server has died",
    begin: becomeDiskServer,
    load: () => import("./recover.js"),
  },
  cleanup: {
    summary: "remove ublk devices whose servers have died",
    load: () => import("./cleanup.js"),
  },
  resize: { summary: "make a running device larger", load: () => import("./resize.js") },
  doctor: {
    summary: "say what this machine lacks for each way of use, and what mends it",
    load: () => import("./doctor.js"),
  },
  profiles: { summary: "list device profiles, or show one", load: () => import("./profiles.js") },
  "calibrate-floor": {
    summary: "measure the time a transport itself takes, for --subtract-floor",
    load: () => import("./calibrate-floor.js"),
  },
  simulate: {
    summary: "run a workload or a trace through a model in virtual time",
    load: () => import("./simulate.js"),
  },
  fault: {
    summary: "add, list, release and remove faults of a running device",
    load: () => import("./fault.js"),
  },
  stats: {
    summary: "show what a running device has done, and how late it was",
    load: () => import("./stats.js"),
  },
  health: {
    summary: "show a running device's health log, as nvme smart-log does",
    load: () => import("./health.js"),
  },
  lab: {
    summary: "run a command in a VM with the device attached to a real kernel",
    load: () => import("./lab.js"),
  },
};

/** Runs one command line (without `node` and the script) and resolves to the exit status. */
export async function main(args: string[]): Promise<number> {
  const program = new Command("blkforge")
    .description(
      "Block devices that behave like particular hardware, for the real Linux I/O stack.\n" +
        "Timing, faults and randomness are under your control; every run repeats from its seed.",
    )
    .version(packageVersion(), "-V, --version")
    .exitOverride()
    .showHelpAfterError("(add --help for what is possible)")
    .addHelpText("after", examples);
  const wanted = args.find((arg) => !arg.startsWith("-") && arg !== "help");
  for (const [name, { summary, begin, load }] of Object.entries(commands)) {
    if (name === wanted) {
      if (begin !== undefined && !args.includes("--help") && !args.includes("-h")) await begin(args);
      const { command } = await load();
      program.addCommand(overrideExit(command).summary(summary));
    } else {
      program.command(name).summary(summary).description(summary);
    }
  }
  try {
    await program.parseAsync(args, { from: "user" });
    return typeof process.exitCode === "number" ? process.exitCode : ExitCode.ok;
  } catch (error) {
    return report(error);
  }
}

/** Loaded only for those who serve disks of this machine. */
async function becomeDiskServer(args: readonly string[]): Promise<void> {
  const disks = await import("./server-process.js");
  disks.becomeDiskServer(args);
}

const examples = `
Examples:
  blkforge serve hdd-7200 --listen nbd+unix:///disk?socket=/tmp/disk.sock
  blkforge run fixed --set latency=1ms -- sh -c 'nbdinfo "$NBD_URI"'
  blkforge lab exec --device hdd-7200 --time virtual -- fio --name=t --filename=\\$DEV --rw=randread --runtime=5

Each command explains itself: blkforge serve --help`;

function overrideExit(command: Command): Command {
  command.exitOverride().showHelpAfterError("(add --help for what is possible)");
  for (const child of command.commands) overrideExit(child);
  return command;
}

/** One clear line for what the world did; a stack only for what we did. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  if (error instanceof BlkError) {
    process.stderr.write(`blkforge: ${error.toLine()}\n`);
    return error.exitCode;
  }
  process.stderr.write(`blkforge: ${error instanceof Error ? error.stack : String(error)}\n`);
  return ExitCode.checkFailed;
}
