/**
 * A CSV file with one line per request, in order of completion: `operation,offset_bytes,length_bytes,queue,wanted_ns,
 * arrival_ns,completion_ns`. Times are printed so that reading them back gives the same float64.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { BlkError } from "../base/errors.js";
import { operations, type RequestSlot, type RequestTable } from "../base/request.js";
import type { CompletionObserver } from "./engine.js";

/** Characters gathered before they are written. */
const chunkLength = 64 * 1024;

export class RequestLog implements CompletionObserver {
  private readonly file: number;
  private text = "operation,offset_bytes,length_bytes,queue,wanted_ns,arrival_ns,completion_ns\n";

  /** @throws BlkError BLK_E_FILE when the file cannot be written. */
  constructor(
    private readonly path: string,
    private readonly requests: RequestTable,
  ) {
    this.file = this.attempt(() => openSync(path, "w"));
  }

  onCompletion(slot: RequestSlot, wantedNs: number, dueNs: number): void {
    const { op, offsetBytes, lengthBytes, queue, arrivalNs } = this.requests;
    this.text +=
      `${operations[op[slot]]},${offsetBytes[slot]},${lengthBytes[slot]},${queue[slot]},` +
      `${wantedNs},${arrivalNs[slot]},${dueNs}\n`;
    if (this.text.length >= chunkLength) this.flush();
  }

  close(): void {
    this.flush();
    closeSync(this.file);
  }

  private flush(): void {
    this.attempt(() => writeSync(this.file, this.text));
    this.text = "";
  }

  private attempt(action: () => number): number {
    try {
      return action();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new BlkError(
        "BLK_E_FILE",
        `log ${this.path} cannot be written: ${reason}`,
        "Choose another path for --log",
      );
    }
  }
}
