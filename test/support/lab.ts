/**
 * Runs a shell script in the VM with a device attached, for tests of the real kernel. BLKFORGE_KERNEL=7 has them before
 * another than the lab's own.
 */
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { type LabExecOptions, type LabResult, labExec } from "../../src/lab/exec.js";

/**
 * A script takes up to five minutes under software emulation, and a multiple of that on a machine that does other things too. Somewhat
 * less than a test's own limit (vitest.config.ts), as the guest's end tells more.
 */
export const guestCommandMs = 1_000_000;

export interface LabRun extends LabResult {
  stdout: string;
  stderr: string;
}

/** Runs `script` in the guest; fails with all that was said unless it exits 0 and the server ended well. */
export async function inGuest(script: string, options: Omit<LabExecOptions, "command">): Promise<LabRun> {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const output = Promise.all([text(stdout), text(stderr)]);
  let result: LabResult;
  try {
    const kernel = process.env.BLKFORGE_KERNEL;
    result = await labExec({
      ...(kernel === undefined ? {} : { kernel }),
      deadlinesMs: { command: guestCommandMs },
      ...options,
      command: [`set -eu\n${script}`],
      stdout,
      stderr,
    });
  } finally {
    stdout.end();
    stderr.end();
  }
  const [out, err] = await output;
  const said = `${out}\n${err}\nserver:\n${result.serverLog}\nkernel:\n${result.kernelLog.slice(-4000)}`;
  if (result.status !== 0) throw new Error(`the guest's script exited ${result.status}\n${said}`);
  if (options.device !== undefined && result.serverStatus !== 0) {
    throw new Error(`the server ended with status ${result.serverStatus}\n${said}`);
  }
  if (/Oops|BUG:|Call Trace|blocked for more than/.test(result.kernelLog))
    throw new Error(`the kernel complained\n${said}`);
  return { ...result, stdout: out, stderr: err };
}
