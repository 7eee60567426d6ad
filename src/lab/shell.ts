/**
 * `lab shell`: a guest with a person at its terminal.
 *
 * The caller's terminal is joined, raw, to the guest's virtio console, so every key reaches the guest's shell, Ctrl-C
 * included. One key stays here: Ctrl-] throws the guest away, whatever state it is in. Leaving the shell (`exit`,
 * Ctrl-D) detaches the device and switches the guest off in order.
 */
import type { Duplex } from "node:stream";
import type { ReadStream, WriteStream } from "node:tty";
import { BlkError } from "../base/errors.js";
import { type LabOptions, runGuest } from "./exec.js";

export interface LabShellOptions extends LabOptions {
  input: ReadStream;
  output: WriteStream;
}

/** Ctrl-], the key telnet leaves with. */
const leaveKey = 0x1d;

/**
 * @returns the shell's exit status, or undefined when the guest was left with Ctrl-].
 * @throws BlkError as `labExec` does, and BLK_E_USAGE when there is no terminal.
 */
export async function labShell(options: LabShellOptions): Promise<number | undefined> {
  const { input, output } = options;
  if (!input.isTTY || !output.isTTY) {
    throw new BlkError("BLK_E_USAGE", "a shell needs a terminal", "Use blkforge lab exec for scripts");
  }
  const left = new AbortController();
  const signal = options.signal === undefined ? left.signal : AbortSignal.any([left.signal, options.signal]);
  const device = options.device === undefined ? "" : `${options.device.profile} is $DEV. `;
  try {
    const result = await runGuest(
      { ...options, signal },
      {
        command: [
          `echo ${JSON.stringify(`${device}exit ends the guest, Ctrl-] throws it away.`).replace("$", "\\$")}; exec sh -l`,
        ],
        config: { input: "console", rows: output.rows || 25, columns: output.columns || 80 },
        connect: (machine) => joinTerminal(options, machine.console, () => left.abort(new LeftError())),
      },
    );
    return result.status;
  } catch (error) {
    if (error instanceof LeftError) return undefined;
    throw error;
  }
}

class LeftError extends Error {}

function joinTerminal(
  { input, output }: LabShellOptions,
  console: Duplex | undefined,
  onLeave: () => void,
): () => void {
  if (console === undefined) return () => {};
  const onInput = (bytes: Buffer): void => {
    if (bytes.includes(leaveKey)) onLeave();
    else console.write(bytes);
  };
  const wasRaw = input.isRaw;
  input.setRawMode(true);
  input.on("data", onInput);
  input.resume();
  console.on("data", (bytes: Buffer) => output.write(bytes));
  return () => {
    input.off("data", onInput);
    input.setRawMode(wasRaw);
    input.pause();
  };
}
