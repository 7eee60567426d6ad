/** Runs the built command as users do, and stops it whatever the test did. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { onTestFinished } from "vitest";
import type { DeviceDescription } from "../../src/device/spec.js";

export const blkforgeBin = resolve(import.meta.dirname, "../../bin/blkforge.js");

export interface CommandResult {
  status: number;
  stdout: string;
  stderr: string;
}

/** A directory that goes away with the test. */
export function scratchDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "blkforge-test-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Runs a program to its end; never rejects for a non-zero status. */
export function command(file: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    execFile(
      file,
      args,
      { env: { ...process.env, ...env }, maxBuffer: 64 << 20, timeout: 110_000 },
      (error, stdout, stderr) => {
        if (error !== null && typeof error.code !== "number") {
          reject(new Error(`${file} ${args.join(" ")}: ${error.message}\n${stderr}`));
        } else resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
      },
    );
  });
}

/** As `command`, and fails the test with the program's own words unless it exits 0. */
export async function succeed(file: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  const { status, stdout, stderr } = await command(file, args, env);
  if (status !== 0) throw new Error(`${file} ${args.join(" ")} exited ${status}\n${stdout}\n${stderr}`);
  return stdout;
}

export function blkforge(args: string[], env: NodeJS.ProcessEnv = {}): Promise<CommandResult> {
  return command(process.execPath, [blkforgeBin, ...args], env);
}

export interface RunningServer {
  uri: string;
  uris: string[];
  devices: DeviceDescription[];
  socketPath: string;
  process: ChildProcess;
  stderr: () => string;
  /** Sends a signal and waits for the end; resolves to the exit status (null when a signal ended it). */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/**
 * Starts `blkforge serve` on a socket in a scratch directory (`isListening`, or wherever it likes) and waits until it
 * is ready.
 */
export async function serve(args: string[], { isListening = true } = {}): Promise<RunningServer> {
  const socketPath = join(scratchDirectory(), "nbd.sock");
  const uri = `nbd+unix:///?socket=${socketPath}`;
  const child = spawn(
    process.execPath,
    [blkforgeBin, "serve", ...args, ...(isListening ? ["--listen", uri] : []), "--json"],
    {
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let stderr = "";
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const exited = once(child, "exit");
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await exited;
  });
  const firstLine = await new Promise<string>((resolve, reject) => {
    let stdout = "";
    child.stdout.on("data", (chunk) => {
      stdout += chunk;
      if (stdout.includes("\n")) resolve(stdout);
    });
    exited.then(([status]) => reject(new Error(`serve ${args.join(" ")} exited ${status}: ${stderr}`)));
  });
  const { devices } = JSON.parse(firstLine) as { devices: DeviceDescription[] };
  return {
    uri,
    uris: devices.flatMap(({ uris }) => uris),
    devices,
    socketPath,
    process: child,
    stderr: () => stderr,
    stop: async (signal = "SIGTERM") => {
      child.kill(signal);
      const [status] = await exited;
      return status;
    },
  };
}
