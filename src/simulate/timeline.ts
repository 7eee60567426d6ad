/**
 * Timeline: what a device did inside, as Chrome trace events, for Perfetto (ui.perfetto.dev) and chrome://tracing.
 *
 * Each die, channel and collection of garbage is a track with its spans; levels (buffer, free superblocks) are counters;
 * commands of the host are spans of their own. The file is written as it goes and bounded, so that a long run does not
 * fill the disk: the beginning is kept, and the end of the file says how much was left out.
 *
 * Format: "Trace Event Format" (Chromium project), JSON array form; times are microseconds.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { BlkError } from "../base/errors.js";
import { operations, type RequestSlot, type RequestTable } from "../base/request.js";
import type { CompletionObserver } from "./engine.js";

/** About 120 bytes each: 240 MB, what a browser still opens. */
const defaultMostEvents = 2_000_000;
const chunkLength = 1 << 16;

export class Timeline {
  private readonly file: number;
  private pending = "[\n";
  private events = 0;
  private leftOut = 0;
  /** Track names already introduced, by process and thread. */
  private readonly processes = new Map<string, number>();
  private readonly threads = new Set<string>();

  /** @throws BlkError BLK_E_WORKLOAD when the file cannot be written. */
  constructor(
    readonly path: string,
    private readonly mostEvents = defaultMostEvents,
  ) {
    try {
      this.file = openSync(path, "w");
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new BlkError("BLK_E_WORKLOAD", `timeline ${path} cannot be written: ${reason}`, "Check the path");
    }
  }

  /** Something on a resource took from `startNs` to `endNs`. */
  span(track: string, number: number, name: string, startNs: number, endNs: number): void {
    if (this.isFull()) return;
    const process = this.processOf(track);
    this.introduce(process, number, `${track} ${number}`);
    this.write(
      `{"ph":"X","pid":${process},"tid":${number},"name":${JSON.stringify(name)},` +
        `"ts":${microseconds(startNs)},"dur":${microseconds(endNs - startNs)}}`,
    );
  }

  /** A quantity changed. */
  level(name: string, nowNs: number, value: number): void {
    if (this.isFull()) return;
    const process = this.processOf("levels");
    this.write(
      `{"ph":"C","pid":${process},"name":${JSON.stringify(name)},"ts":${microseconds(nowNs)},"args":{"value":${value}}}`,
    );
  }

  /** An observer of completions that draws each command; those in flight together lie on tracks of their own. */
  commands(requests: RequestTable): CompletionObserver {
    return {
      onCompletion: (slot: RequestSlot, _wantedNs: number, dueNs: number) => {
        this.span("command", slot, operations[requests.op[slot]], requests.arrivalNs[slot], dueNs);
      },
    };
  }

  close(): void {
    this.write(`{"ph":"i","s":"g","pid":0,"tid":0,"name":"${this.leftOut} events left out","ts":0}`, true);
    this.pending += "\n]\n";
    this.flush();
    closeSync(this.file);
  }

  private isFull(): boolean {
    if (this.events < this.mostEvents) return false;
    this.leftOut++;
    return true;
  }

  private processOf(track: string): number {
    let process = this.processes.get(track);
    if (process === undefined) {
      process = this.processes.size + 1;
      this.processes.set(track, process);
      this.write(
        `{"ph":"M","pid":${process},"name":"process_name","args":{"name":${JSON.stringify(track)}}}`,
      );
    }
    return process;
  }

  private introduce(process: number, thread: number, name: string): void {
    const key = `${process}/${thread}`;
    if (this.threads.has(key)) return;
    this.threads.add(key);
    this.write(
      `{"ph":"M","pid":${process},"tid":${thread},"name":"thread_name","args":{"name":${JSON.stringify(name)}}}`,
    );
  }

  private write(event: string, isLast = false): void {
    this.events++;
    this.pending += isLast ? event : `${event},\n`;
    if (this.pending.length >= chunkLength) this.flush();
  }

  private flush(): void {
    writeSync(this.file, this.pending);
    this.pending = "";
  }
}

/** Three digits are nanoseconds. */
function microseconds(ns: number): string {
  return (ns / 1000).toFixed(3);
}
