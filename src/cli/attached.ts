/**
 * What `attach` and `recover` do once a device is in the kernel: tell, and serve until it is detached.
 */
import { BlkError } from "../base/errors.js";
import type { DeviceHandle } from "../device/host.js";
import type { Serving } from "./serving.js";

/** A device of this machine's kernel, whichever driver carries it. */
export interface Attached {
  /** Such as "/dev/nbd0". */
  readonly path: string;
  /** Resolves when somebody else has detached it; rejects when it can be served no longer. */
  readonly ended: Promise<void>;
  /** @throws BlkError when the driver cannot have another size */
  refuseResize(): void;
  resize(sizeBytes: number): Promise<void>;
  /** Resolves to who still holds it. @throws BlkError BLK_E_DEVICE_BUSY: it stays attached */
  detach(isForced: boolean): Promise<string[]>;
  /** Lets go of a device that somebody else has detached. */
  close(): Promise<void>;
}

export interface AnnounceOptions {
  json?: boolean;
  api?: string;
}

export function announce(
  { path }: Attached,
  device: DeviceHandle,
  { json, api }: AnnounceOptions,
  transport: Record<string, unknown>,
): void {
  const { uris, ...description } = device.description;
  if (!json) {
    process.stdout.write(`${[path, ...uris, "ready"].join("\n")}\n`);
    return;
  }
  const more = {
    ...transport,
    ...(uris.length === 0 ? {} : { uris }),
    ...(api === undefined ? {} : { api }),
    pid: process.pid,
  };
  process.stdout.write(
    `${JSON.stringify({ schemaVersion: 1, ready: true, path, ...description, ...more })}\n`,
  );
}

export async function serveUntilDetached(
  attachment: Attached,
  { ended }: Serving,
  signals: Signals,
  isForced: boolean,
): Promise<void> {
  try {
    for (let asked = 0; ; asked++) {
      const event = await Promise.race([
        signals.next(),
        attachment.ended.then(() => "detached" as const),
        ended.then(() => "detached" as const),
      ]);
      if (event === "detached") {
        await attachment.close();
        return;
      }
      try {
        const holders = await attachment.detach(isForced || asked > 0 || event === "SIGUSR2");
        if (holders.length > 0) say(`${attachment.path} is detached, and was still ${holders.join(", ")}`);
        return;
      } catch (error) {
        if (!(error instanceof BlkError && error.code === "BLK_E_DEVICE_BUSY")) throw error;
        say(
          `${error.message}; it stays attached. Give it up and interrupt again, or interrupt again to pull it`,
        );
      }
    }
  } catch (error) {
    // Whatever went wrong: a device nobody serves must not stay, or its users would wait for it.
    await attachment.detach(true).catch(() => {});
    throw error;
  }
}

function say(text: string): void {
  process.stderr.write(`blkforge: ${text}\n`);
}

type StopSignal = "SIGINT" | "SIGTERM" | "SIGUSR2";

/** SIGINT, SIGTERM and SIGUSR2 (detach, whoever holds it), one after the other. */
export class Signals {
  private resolve: ((signal: StopSignal) => void) | null = null;
  private first: StopSignal | null = null;

  constructor() {
    for (const signal of ["SIGINT", "SIGTERM", "SIGUSR2"] as const) process.on(signal, this.onSignal);
  }

  next(): Promise<StopSignal> {
    if (this.first !== null) {
      const signal = this.first;
      this.first = null;
      return Promise.resolve(signal);
    }
    return new Promise((resolve) => {
      this.resolve = resolve;
    });
  }

  close(): void {
    for (const signal of ["SIGINT", "SIGTERM", "SIGUSR2"] as const) process.off(signal, this.onSignal);
  }

  private readonly onSignal = (signal: NodeJS.Signals): void => {
    if (this.resolve === null) {
      // During the start, or while it is detached: the first is kept, a second is impatience.
      if (this.first !== null) process.exit(signal === "SIGINT" ? 130 : 143);
      this.first = signal as StopSignal;
      return;
    }
    const { resolve } = this;
    this.resolve = null;
    resolve(signal as StopSignal);
  };
}
