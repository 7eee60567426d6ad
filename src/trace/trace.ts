/**
 * What every trace format gives: requests one after the other, in one row that is filled anew each time. Readers
 * stream; their memory does not grow with the trace.
 */
import type { LineReader } from "./lines.js";

/** One request of a trace. */
export interface TraceRecord {
  /** See `Op`. */
  op: number;
  /** Bits of `Flag`. */
  flags: number;
  queue: number;
  offsetBytes: number;
  lengthBytes: number;
  /** From the trace's start; NaN where the format has no time stamps. */
  arrivalNs: number;
  /** From the previous request's completion to this one's issue; NaN where the format does not tell. */
  thinkNs: number;
  /** How long the real device took; NaN where the format does not tell. */
  serviceNs: number;
}

export function emptyRecord(): TraceRecord {
  return {
    op: 0,
    flags: 0,
    queue: 0,
    offsetBytes: 0,
    lengthBytes: 0,
    arrivalNs: Number.NaN,
    thinkNs: Number.NaN,
    serviceNs: Number.NaN,
  };
}

/** How a trace is replayed: each request at its time stamp, or one at a time, after the one before and a think time. */
export const loops = ["open", "closed"] as const;

export type Loop = (typeof loops)[number];

export interface TraceReader {
  /** The request `next` came to. */
  readonly record: TraceRecord;
  /** How this trace is replayed unless asked otherwise, where that is not the format's own way. */
  readonly defaultLoop?: Loop;
  /** Line (or record) in the file it stands at, for messages. */
  readonly position: string;
  /** Goes to the next request; false at the end. */
  next(): boolean;
}

export interface TextTraceOptions {
  /**
   * Which device's requests to read, in the trace's own words (`8,0`, `usr_0`, a file name). Without it, a trace of several
   * devices is refused: mixed up, their offsets would mean nothing.
   */
  device?: string | undefined;
}

/** One text format; see the files beside this one. */
export interface TextTraceFormat {
  name: string;
  description: string;
  /** How it is replayed unless asked otherwise. */
  defaultLoop: Loop;
  /** Whether a line looks like this format. Several lines are tried, so comments and headings need not match. */
  matches(line: string): boolean;
  open(lines: LineReader, options: TextTraceOptions): TraceReader;
}
