/**
 * Recordings: blkforge's own trace of what a model was asked and what it decided, exact to the bit. `serve --record`
 * writes one on the device thread; replaying it through the same model, seed and size must give the same completion
 * times, and `simulate --trace` proves it.
 *
 * Layout: a line `blkforge recording 1`, a line of JSON (the header), then records, little-endian:
 *
 *   arrival     32 bytes  u8 1, u8 op, u8 flags, u8 0, u16 queue, u16 slot, f64 arrivalNs, f64 offset, f64 length
 *   completion  16 bytes  u8 2, 5 bytes 0, u16 slot, f64 dueNs
 *   end         16 bytes  u8 3, 7 bytes 0, f64 number of arrivals
 *
 * Times are the model's: when it was handed the request, and when it said the request completes (a fault's delay comes
 * after that and is not in here). A slot names the last request that arrived in it. A recording without its end was cut
 * off, by a crash say, and is good up to there.
 */
import { assert } from "../base/assert.js";
import { BlkError } from "../base/errors.js";
import { operations, type RequestSlot, type RequestTable } from "../base/request.js";
import type { LineReader } from "./lines.js";
import { emptyRecord, type TraceReader } from "./trace.js";

export interface RecordingHeader {
  schemaVersion: 1;
  /** Name or path of the profile as it was given. */
  profile: string;
  /** `--set path=value` as given. */
  settings: string[];
  seed: number;
  sizeBytes: number;
  /** Capacity of the device's request table. */
  tableCapacity: number;
}

const magic = "blkforge recording 1";
const arrivalKind = 1;
const completionKind = 2;
const endKind = 3;
const arrivalBytes = 32;
const completionBytes = 16;

/** Bytes gathered before they are written: 2000 requests and more. */
const bufferBytes = 64 * 1024;

/**
 * Writes a recording. Nothing is allocated per record; `write` is called with full buffers, which are reused as soon as
 * it returns.
 *
 * @example
 * const recorder = new RecordingWriter(header, requests, (bytes) => writeSync(file, bytes));
 * recorder.arrival(slot);            // right before model.arrive(slot, requests.arrivalNs[slot])
 * recorder.completion(slot, dueNs);  // when the model reports it
 * recorder.end();
 */
export class RecordingWriter {
  private readonly buffer = new Uint8Array(bufferBytes);
  private readonly view = new DataView(this.buffer.buffer);
  private length = 0;
  private arrivals = 0;

  constructor(
    header: RecordingHeader,
    private readonly requests: RequestTable,
    private readonly write: (bytes: Uint8Array) => void,
  ) {
    // Slots are written in 16 bits.
    assert(requests.capacity <= 65_536, "a recorded device's request table has at most 65536 slots");
    write(Buffer.from(`${magic}\n${JSON.stringify(header)}\n`));
  }

  /** The request in `slot`, whose row is filled and whose `arrivalNs` is what the model is told, reaches the model. */
  arrival(slot: RequestSlot): void {
    const { requests, view } = this;
    const at = this.room(arrivalBytes);
    view.setUint8(at, arrivalKind);
    view.setUint8(at + 1, requests.op[slot]);
    view.setUint8(at + 2, requests.flags[slot]);
    view.setUint8(at + 3, 0);
    view.setUint16(at + 4, requests.queue[slot], true);
    view.setUint16(at + 6, slot, true);
    view.setFloat64(at + 8, requests.arrivalNs[slot], true);
    view.setFloat64(at + 16, requests.offsetBytes[slot], true);
    view.setFloat64(at + 24, requests.lengthBytes[slot], true);
    this.arrivals++;
  }

  /** The model reports that the request in `slot` completes at `dueNs`. */
  completion(slot: RequestSlot, dueNs: number): void {
    const { view } = this;
    const at = this.room(completionBytes);
    view.setFloat64(at, 0, true);
    view.setUint8(at, completionKind);
    view.setUint16(at + 6, slot, true);
    view.setFloat64(at + 8, dueNs, true);
  }

  /** Hands what is gathered to `write`. */
  flush(): void {
    if (this.length > 0) this.write(this.buffer.subarray(0, this.length));
    this.length = 0;
  }

  /** Marks the recording as complete. */
  end(): void {
    const at = this.room(completionBytes);
    this.view.setFloat64(at, 0, true);
    this.view.setUint8(at, endKind);
    this.view.setFloat64(at + 8, this.arrivals, true);
    this.flush();
  }

  private room(bytes: number): number {
    if (this.length + bytes > bufferBytes) this.flush();
    const at = this.length;
    this.length += bytes;
    return at;
  }
}

/** Whether a file that begins with these bytes is a recording. */
export function isRecording(firstBytes: Uint8Array): boolean {
  return Buffer.from(firstBytes.subarray(0, magic.length)).toString("latin1") === magic;
}

/** Told of every recorded completion, by the position of its request among all arrivals, from 0. */
export type OnRecordedCompletion = (ordinal: number, dueNs: number) => void;

export class RecordingReader implements TraceReader {
  readonly record = emptyRecord();
  readonly header: RecordingHeader;
  /** Set by whoever wants to know; called while `next` looks for the next arrival. */
  onCompletion: OnRecordedCompletion | null = null;
  /** Whether the recording's end was reached and found whole; meaningful after `next` returned false. */
  isComplete = false;

  private arrivals = 0;
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  /** Position of each slot's last arrival among all; -1 for none. */
  private readonly ordinalOfSlot = new Float64Array(65_536).fill(-1);

  constructor(private readonly lines: LineReader) {
    this.header = readHeader(lines);
    this.bytes = new Uint8Array(arrivalBytes);
    this.view = new DataView(this.bytes.buffer);
  }

  get position(): string {
    return `${this.lines.path}: request ${this.arrivals}`;
  }

  next(): boolean {
    const { lines, bytes, view, record } = this;
    // What is cut off within a record ends the recording like what is cut off between two.
    while (lines.readBytes(bytes, 0, completionBytes)) {
      const kind = bytes[0];
      const slot = view.getUint16(6, true);
      if (kind === completionKind) {
        const ordinal = this.ordinalOfSlot[slot];
        if (ordinal < 0) throw this.damaged(`a completion in slot ${slot}, where nothing has arrived`);
        this.onCompletion?.(ordinal, view.getFloat64(8, true));
      } else if (kind === arrivalKind) {
        if (!lines.readBytes(bytes, completionBytes, arrivalBytes - completionBytes)) return false;
        if (bytes[1] >= operations.length) throw this.damaged(`an operation of unknown code ${bytes[1]}`);
        record.op = bytes[1];
        record.flags = bytes[2];
        record.queue = view.getUint16(4, true);
        record.arrivalNs = view.getFloat64(8, true);
        record.offsetBytes = view.getFloat64(16, true);
        record.lengthBytes = view.getFloat64(24, true);
        this.ordinalOfSlot[slot] = this.arrivals++;
        return true;
      } else if (kind === endKind) {
        this.isComplete = view.getFloat64(8, true) === this.arrivals;
        if (!this.isComplete) throw this.damaged("an end that counts other arrivals than there are");
        return false;
      } else {
        throw this.damaged(`a record of unknown kind ${kind}`);
      }
    }
    return false;
  }

  private damaged(what: string): BlkError {
    return new BlkError(
      "BLK_E_TRACE",
      `${this.position}: the recording is damaged: ${what}`,
      "Record it again",
    );
  }
}

const damagedHeader = "the recording's header is damaged";

function readHeader(lines: LineReader): RecordingHeader {
  lines.next();
  lines.next();
  let header: Partial<RecordingHeader>;
  try {
    header = JSON.parse(lines.text()) as Partial<RecordingHeader>;
  } catch {
    throw lines.error(damagedHeader, "Record it again");
  }
  const { schemaVersion, profile, settings, seed, sizeBytes, tableCapacity } = header;
  if (schemaVersion !== 1) {
    throw lines.error(
      `the recording has schema version ${schemaVersion}`,
      "This version of blkforge reads version 1",
    );
  }
  const isWhole =
    typeof profile === "string" &&
    Array.isArray(settings) &&
    Number.isSafeInteger(seed) &&
    Number.isSafeInteger(sizeBytes) &&
    Number.isSafeInteger(tableCapacity);
  if (!isWhole) throw lines.error(damagedHeader, "Record it again");
  return header as RecordingHeader;
}
