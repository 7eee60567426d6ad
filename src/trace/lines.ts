/**
 * Lines of a text file and their fields, straight from the bytes: no string is made for a line that is as expected, so a
 * trace of a hundred million lines costs neither memory nor garbage collections.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { BlkError } from "../base/errors.js";

const windowBytes = 256 * 1024;
/** A longer line is no trace: process names and paths end far below. */
const maximumLineBytes = 64 * 1024;
const maximumFields = 32;

const newline = 10;
const carriageReturn = 13;
const tab = 9;
const blank = 32;
const comma = 44;
const dot = 46;
const zero = 48;
const nine = 57;

/** Powers of ten a float64 holds exactly. */
const powersOfTen = Array.from({ length: 23 }, (_, exponent) => 10 ** exponent);

/** Where bytes come from: fills `target` from its start, returns how many it got, 0 at the end. */
export interface ByteSource {
  read(target: Uint8Array): number;
  close(): void;
}

/** @throws BlkError BLK_E_TRACE when the file cannot be opened or read. */
export function openFile(path: string): ByteSource {
  const attempt = <T>(action: () => T): T => {
    try {
      return action();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new BlkError(
        "BLK_E_TRACE",
        `trace ${path} cannot be read: ${reason}`,
        "Check the path and its permissions",
      );
    }
  };
  const file = attempt(() => openSync(path, "r"));
  return {
    read: (target) => attempt(() => readSync(file, target)),
    close: () => closeSync(file),
  };
}

export class LineReader {
  /** Number of the present line, from 1. */
  lineNumber = 0;
  /** Fields found by the last `split`. */
  fieldCount = 0;

  private readonly window = Buffer.alloc(windowBytes);
  private filled = 0;
  private isAtEnd = false;
  /** Where the next line begins. */
  private nextStart = 0;
  /** Bounds of the present line. */
  private start = 0;
  private end = 0;
  private readonly fieldStarts = new Int32Array(maximumFields);
  private readonly fieldEnds = new Int32Array(maximumFields);

  /** @param path name of the file in messages. */
  constructor(
    private readonly source: ByteSource,
    readonly path: string,
  ) {}

  /** The first bytes of the file, without going on. To be asked before the first `next`. */
  peek(lengthBytes: number): Uint8Array {
    while (this.filled < lengthBytes && !this.isAtEnd) this.fill();
    return this.window.subarray(0, Math.min(lengthBytes, this.filled));
  }

  /** Goes to the next line; false at the end of the file. Empty lines are lines. */
  next(): boolean {
    let from = this.nextStart;
    for (;;) {
      const found = this.window.indexOf(newline, from);
      if (found >= 0 && found < this.filled) {
        this.setLine(found);
        this.nextStart = found + 1;
        return true;
      }
      from = this.filled;
      if (this.isAtEnd) break;
      if (this.filled - this.nextStart > maximumLineBytes) {
        this.lineNumber++;
        throw this.error(
          `the line is longer than ${maximumLineBytes} bytes`,
          "Check that this is a text trace",
        );
      }
      from -= this.makeRoom();
      this.fill();
    }
    // The last line may lack its newline.
    if (this.nextStart >= this.filled) return false;
    this.setLine(this.filled);
    this.nextStart = this.filled;
    return true;
  }

  /** Copies the next bytes, lines or not, to `target` from `offset` on; false when the file ends before that. */
  readBytes(target: Uint8Array, offset: number, lengthBytes: number): boolean {
    while (this.filled - this.nextStart < lengthBytes) {
      if (this.isAtEnd) return false;
      if (this.filled === windowBytes) this.makeRoom();
      this.fill();
    }
    const { window, nextStart } = this;
    for (let i = 0; i < lengthBytes; i++) target[offset + i] = window[nextStart + i];
    this.nextStart += lengthBytes;
    return true;
  }

  /** The present line as text. */
  text(): string {
    return this.window.toString("latin1", this.start, this.end);
  }

  get isEmpty(): boolean {
    return this.start === this.end;
  }

  /** Splits the present line at runs of blanks and tabs; returns the number of fields. */
  splitBlanks(): number {
    const { window, end } = this;
    let count = 0;
    let at = this.start;
    while (count < maximumFields) {
      while (at < end && (window[at] === blank || window[at] === tab)) at++;
      if (at >= end) break;
      this.fieldStarts[count] = at;
      while (at < end && window[at] !== blank && window[at] !== tab) at++;
      this.fieldEnds[count++] = at;
    }
    this.fieldCount = count;
    return count;
  }

  /** Splits the present line at commas; returns the number of fields. */
  splitCommas(): number {
    const { window, end } = this;
    let count = 0;
    let at = this.start;
    while (count < maximumFields) {
      this.fieldStarts[count] = at;
      while (at < end && window[at] !== comma) at++;
      this.fieldEnds[count++] = at;
      if (at >= end) break;
      at++;
    }
    this.fieldCount = count;
    return count;
  }

  /** A field as text. */
  field(index: number): string {
    return this.window.toString("latin1", this.fieldStarts[index], this.fieldEnds[index]);
  }

  /** Byte `at` of a field; -1 beyond its end. */
  byteOf(index: number, at: number): number {
    const position = this.fieldStarts[index] + at;
    return position < this.fieldEnds[index] ? this.window[position] : -1;
  }

  /** Whether a field is exactly `word` (ASCII). */
  is(index: number, word: string): boolean {
    const start = this.fieldStarts[index];
    if (this.fieldEnds[index] - start !== word.length) return false;
    for (let i = 0; i < word.length; i++) if (this.window[start + i] !== word.charCodeAt(i)) return false;
    return true;
  }

  /** A field of digits only, up to 2^53. */
  integer(index: number, what: string): number {
    return this.scaled(index, 0, what);
  }

  /**
   * A field such as `12.345` times 10^`digits`, exactly, as an integer: nanoseconds from seconds with `digits` 9. Digits
   * after those are dropped.
   */
  scaled(index: number, digits: number, what: string): number {
    const { window } = this;
    const end = this.fieldEnds[index];
    let at = this.fieldStarts[index];
    let value = 0;
    let seen = 0;
    while (at < end && window[at] >= zero && window[at] <= nine) {
      value = value * 10 + (window[at++] - zero);
      seen++;
    }
    let left = digits;
    if (at < end && window[at] === dot && digits > 0) {
      at++;
      while (at < end && window[at] >= zero && window[at] <= nine) {
        if (left > 0) {
          value = value * 10 + (window[at] - zero);
          left--;
        }
        at++;
        seen++;
      }
    }
    value *= powersOfTen[left];
    if (at !== end || seen === 0 || value > Number.MAX_SAFE_INTEGER) {
      throw this.error(
        `"${this.field(index)}" is not ${what}`,
        `Check the line: ${this.text().slice(0, 80)}`,
      );
    }
    return value;
  }

  /** A mistake in the present line. */
  error(message: string, hint: string): BlkError {
    return new BlkError("BLK_E_TRACE", `${this.path}:${this.lineNumber}: ${message}`, hint);
  }

  close(): void {
    this.source.close();
  }

  private setLine(end: number): void {
    this.lineNumber++;
    this.start = this.nextStart;
    this.end = end > this.start && this.window[end - 1] === carriageReturn ? end - 1 : end;
  }

  /** Moves what is left to the front of the window; returns by how much. */
  private makeRoom(): number {
    const moved = this.nextStart;
    this.window.copyWithin(0, moved, this.filled);
    this.filled -= moved;
    this.nextStart = 0;
    return moved;
  }

  private fill(): void {
    const got = this.source.read(this.window.subarray(this.filled));
    this.filled += got;
    if (got === 0) this.isAtEnd = true;
  }
}

/** Refuses a trace of several devices unless one was chosen; skips the others' requests. */
export class DeviceChoice {
  private first: string | null = null;

  constructor(private readonly chosen: string | undefined) {}

  /** Whether the present line's request, of the device named in the given field, is to be read. */
  takes(lines: LineReader, field: number): boolean {
    if (this.chosen !== undefined) return lines.is(field, this.chosen);
    if (this.first === null) this.first = lines.field(field);
    if (lines.is(field, this.first)) return true;
    throw lines.error(
      `the trace has requests of several devices, ${this.first} and ${lines.field(field)}`,
      "Choose one with --trace-device",
    );
  }
}
