/**
 * One conversation with a guest, from power-on to power-off: follows what it says on the control port, passes its
 * command's streams on, and holds every stage to a deadline.
 *
 * A run has succeeded only when the guest itself said so: it must report the command's status and the orderly end of
 * every later stage. QEMU's own exit says nothing, except that a guest which ends in the middle has crashed.
 *
 * Deadlines are in the host's time, also when the guest's is virtual: they are there for guests that hang.
 */
import { createInterface } from "node:readline";
import type { Duplex, Writable } from "node:stream";
import { BlkError } from "../base/errors.js";
import { lastLines, type Machine, type MachineExit } from "./machine.js";

/** Stages of a guest, in order. */
export type GuestStage = "boot" | "serve" | "attach" | "command" | "detach" | "power off";

export interface SessionOptions {
  hasDevice: boolean;
  /** Where the command's output goes; what has no sink is dropped. */
  stdout?: Writable;
  stderr?: Writable;
  /** Milliseconds per stage. */
  deadlinesMs: Record<GuestStage, number>;
  onStage?: (stage: GuestStage) => void;
  signal?: AbortSignal;
}

export interface SessionResult {
  /** The command's exit status, 128 + n when signal n ended it. */
  status: number;
  /** The lines the server printed before it was ready: its URIs. */
  uris: string[];
  /** Of the server, once it was told to stop. */
  serverStatus?: number;
  serverLog: string;
  kernelLog: string;
  /** Milliseconds of host time that each stage took. */
  stagesMs: Partial<Record<GuestStage, number>>;
}

/**
 * A guest's kernel that met its own half-written code while it booted, before anything of ours ran.
 *
 * Linux patches its code in place behind an int3, which the other CPUs step over. QEMU emulates several CPUs on threads of
 * their own, where one may still run its translation of the int3 when the kernel has done with it. Seen with Linux 7.2 and 2 or 4
 * CPUs, now and then (not once in twelve boots in a row); another boot goes well.
 */
export class PatchingPanic extends BlkError {}

/** How many lines of a log an error shows: as many as a screen has room for beside the rest. */
const shownLogLines = 30;
const keptServerLogBytes = 256 * 1024;

/**
 * Follows a guest to its end.
 *
 * @throws BlkError BLK_E_VM_DEADLINE when a stage takes too long, BLK_E_VM when the guest fails or crashes, a PatchingPanic
 * when emulation may be why; the machine has been killed by then.
 */
export async function runSession(machine: Machine, options: SessionOptions): Promise<SessionResult> {
  const session = new Session(machine, options);
  try {
    return await session.run();
  } finally {
    machine.kill();
    session.stop();
  }
}

class Session {
  readonly #machine: Machine;
  readonly #options: SessionOptions;
  #stage: GuestStage = "boot";
  #stageBegunMs = performance.now();
  #timer: NodeJS.Timeout | undefined;
  #status: number | undefined;
  #serverStatus: number | undefined;
  #serverLog = "";
  readonly #uris: string[] = [];
  readonly #stagesMs: Partial<Record<GuestStage, number>> = {};
  readonly #output: ByteCounter;
  readonly #errors: ByteCounter;
  #reject: (error: Error) => void = () => {};

  constructor(machine: Machine, options: SessionOptions) {
    this.#machine = machine;
    this.#options = options;
    this.#output = new ByteCounter(machine.ports.output, options.stdout);
    this.#errors = new ByteCounter(machine.ports.errors, options.stderr);
  }

  async run(): Promise<SessionResult> {
    const { ports, exited } = this.#machine;
    ports.log.on("data", (chunk: Buffer) => {
      this.#serverLog = (this.#serverLog + chunk.toString()).slice(-keptServerLogBytes);
    });
    const ended = new Promise<never>((_, reject) => {
      this.#reject = reject;
    });
    // It may be rejected after the race below was decided.
    ended.catch(() => {});
    this.#options.signal?.throwIfAborted();
    this.#options.signal?.addEventListener("abort", this.#abort);
    this.#enter("boot");

    const conversation = this.#converse();
    conversation.catch(() => {});
    await Promise.race([conversation, ended]);
    await Promise.race([exited, ended]);
    this.#leave();
    return {
      status: this.#status!,
      uris: this.#uris,
      ...(this.#serverStatus === undefined ? {} : { serverStatus: this.#serverStatus }),
      serverLog: this.#serverLog,
      kernelLog: this.#machine.kernelLog(),
      stagesMs: this.#stagesMs,
    };
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener("abort", this.#abort);
    for (const port of Object.values(this.#machine.ports)) port.destroy();
    this.#machine.console?.destroy();
  }

  readonly #abort = (): void => {
    this.#reject(this.#options.signal?.reason);
  };

  async #converse(): Promise<void> {
    const { control } = this.#machine.ports;
    for await (const line of createInterface({ input: control })) {
      const space = line.indexOf(" ");
      const word = space < 0 ? line : line.slice(0, space);
      const rest = space < 0 ? "" : line.slice(space + 1);
      switch (word) {
        case "booted":
          this.#enter(this.#options.hasDevice ? "serve" : "command");
          break;
        case "serve":
          this.#uris.push(rest);
          break;
        case "serving":
          this.#enter("attach");
          break;
        case "command":
          if (this.#stage !== "command") this.#enter("command");
          break;
        case "exit": {
          const [status, outputBytes, errorBytes] = rest.split(" ").map(Number);
          if (![status, outputBytes, errorBytes].every(Number.isSafeInteger))
            throw this.#failure(`command ${line}`);
          const hasArrived = await Promise.all([
            this.#output.reach(outputBytes),
            this.#errors.reach(errorBytes),
          ]);
          if (hasArrived.includes(false)) throw this.#crash(await this.#machine.exited);
          this.#status = status;
          this.#enter("detach");
          control.write("ok\n");
          break;
        }
        case "served":
          this.#serverStatus = Number(rest);
          break;
        case "detached":
          this.#enter("power off");
          break;
        case "fail":
          throw this.#failure(rest);
        case "off":
          return;
      }
    }
    // The port was closed: QEMU has ended, and `exited` says how. Only an orderly end may pass.
    if (this.#stage !== "power off") throw this.#crash(await this.#machine.exited);
  }

  #enter(stage: GuestStage): void {
    this.#leave();
    this.#stage = stage;
    this.#stageBegunMs = performance.now();
    this.#options.onStage?.(stage);
    this.#timer = setTimeout(() => this.#reject(this.#missedDeadline()), this.#options.deadlinesMs[stage]);
  }

  #leave(): void {
    clearTimeout(this.#timer);
    if (this.#timer !== undefined) this.#stagesMs[this.#stage] = performance.now() - this.#stageBegunMs;
  }

  #missedDeadline(): BlkError {
    const seconds = this.#options.deadlinesMs[this.#stage] / 1000;
    return new BlkError(
      "BLK_E_VM_DEADLINE",
      `the guest did not finish the stage "${this.#stage}" within ${seconds} s${this.#logs()}`,
      this.#stage === "command"
        ? "Give it more time with --timeout, or look for what it waits for"
        : "The end of its log, above, shows how far it came",
    );
  }

  #failure(text: string): BlkError {
    const space = text.indexOf(" ");
    return new BlkError(
      "BLK_E_VM",
      `in the guest, the stage "${text.slice(0, space)}" failed: ${text.slice(space + 1).trim()}${this.#logs()}`,
    );
  }

  #crash(exit: MachineExit): BlkError {
    const how = exit.signal === null ? `with status ${exit.status}` : `by ${exit.signal}`;
    const said = exit.message === "" ? "" : `\n  ${exit.message.replaceAll("\n", "\n  ")}`;
    // A panic's reason stands above a long backtrace.
    const log = this.#machine.kernelLog();
    const panic = /Kernel panic - .*/.exec(log)?.[0];
    const reason = panic === undefined ? `QEMU exited ${how}` : panic.trimEnd();
    const isPatching = this.#stage === "boot" && panic !== undefined && /Oops: int3\b/.test(log);
    return new (isPatching ? PatchingPanic : BlkError)(
      "BLK_E_VM",
      `the guest ended in the stage "${this.#stage}": ${reason}${said}${this.#logs()}`,
    );
  }

  #logs(): string {
    const show = (title: string, lines: readonly string[]): string =>
      lines.length === 0 ? "" : `\n${title}:\n${lines.map((line) => `  ${line}`).join("\n")}`;
    const kernel = lastLines(this.#machine.kernelLog(), shownLogLines);
    return [
      show("End of the server's log", lastLines(this.#serverLog, shownLogLines)),
      show("End of the kernel's log", kernel.length === 0 ? ["(nothing was logged)"] : kernel),
      "\n",
    ].join("");
  }
}

/** Passes a stream on and counts it, so that somebody can wait for its n-th byte. */
class ByteCounter {
  readonly #source: Duplex;
  #bytes = 0;
  #onBytes: () => void = () => {};

  constructor(source: Duplex, sink?: Writable) {
    this.#source = source;
    source.on("data", (chunk: Buffer) => {
      this.#bytes += chunk.length;
      const isTaken = sink?.write(chunk) ?? true;
      if (!isTaken) {
        source.pause();
        sink?.once("drain", () => source.resume());
      }
      this.#onBytes();
    });
  }

  /** Resolves to true when that many bytes have come, to false when the stream ends before. */
  reach(bytes: number): Promise<boolean> {
    return new Promise((resolve) => {
      this.#onBytes = () => {
        if (this.#bytes >= bytes) resolve(true);
      };
      this.#onBytes();
      if (this.#source.closed) resolve(this.#bytes >= bytes);
      this.#source.once("close", () => resolve(this.#bytes >= bytes));
    });
  }
}
