/** NBD servers to compare: each on a Unix socket in a private directory, stopped and cleaned up after use. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const bin = resolve(import.meta.dirname, "../../bin/blkforge.js");

/** A server waits this long for its socket at most; nbdkit and blkforge need a tenth of a second. */
const startDeadlineMs = 20_000;

/** The command that serves on `socketPath`. */
export type ServerCommand = (socketPath: string) => string[];

export function blkforge(...args: string[]): ServerCommand {
  return (socketPath) => [
    process.execPath,
    bin,
    "serve",
    ...args,
    "--listen",
    `nbd+unix:///?socket=${socketPath}`,
  ];
}

export function nbdkit(...args: string[]): ServerCommand {
  return (socketPath) => ["nbdkit", "--foreground", "--unix", socketPath, ...args];
}

/** qemu-nbd on an image file, which is best put on a tmpfs. */
export function qemuNbd(image: string): ServerCommand {
  return (socketPath) => [
    "qemu-nbd",
    ...["--format=raw", "--persistent", "--shared=0", "--cache=writeback", `--socket=${socketPath}`, image],
  ];
}

/** Starts a server, calls `use` with its URI and process id and stops the server, whatever happens. */
export async function withServer<T>(
  command: ServerCommand,
  use: (uri: string, pid: number) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "blkforge-bench-"));
  const socketPath = join(directory, "nbd.sock");
  const [file, ...args] = command(socketPath);
  const server = spawn(file, args, { stdio: ["ignore", "ignore", "pipe"] });
  // Shown only when something goes wrong: nbdkit complains of the probe that looks whether it is up.
  let complaints = "";
  server.stderr.on("data", (chunk) => {
    complaints = (complaints + chunk).slice(-4096);
  });
  try {
    await connectable(socketPath, server);
    return await use(`nbd+unix:///?socket=${socketPath}`, server.pid ?? 0);
  } catch (error) {
    process.stderr.write(complaints);
    throw error;
  } finally {
    server.kill("SIGTERM");
    if (server.exitCode === null && server.signalCode === null) await once(server, "exit");
    rmSync(directory, { recursive: true, force: true });
  }
}

async function connectable(socketPath: string, server: ChildProcess): Promise<void> {
  const deadlineMs = Date.now() + startDeadlineMs;
  for (;;) {
    const isUp = await new Promise<boolean>((answer) => {
      const socket = connect(socketPath, () => {
        socket.destroy();
        answer(true);
      });
      socket.once("error", () => answer(false));
    });
    if (isUp) return;
    if (server.exitCode !== null) throw new Error(`${server.spawnargs.join(" ")} exited ${server.exitCode}`);
    if (Date.now() > deadlineMs) throw new Error(`${server.spawnargs.join(" ")} opened no socket in time`);
    await sleep(20);
  }
}
