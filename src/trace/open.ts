/**
 * Opens a trace, of the format given or the one its first lines show.
 */
import { BlkError } from "../base/errors.js";
import { alibabaCsv } from "./alibaba-csv.js";
import { blkparse, blkparseQueued } from "./blkparse.js";
import { disksimValidate } from "./disksim-validate.js";
import { fioIolog } from "./fio-iolog.js";
import { type ByteSource, LineReader, openFile } from "./lines.js";
import { msrCsv } from "./msr-csv.js";
import { isRecording, RecordingReader } from "./recording.js";
import type { Loop, TextTraceFormat, TextTraceOptions, TraceReader } from "./trace.js";

/** In the order they are tried: the first that matches is taken. */
const textFormats: readonly TextTraceFormat[] = [
  fioIolog,
  blkparse,
  blkparseQueued,
  disksimValidate,
  msrCsv,
  alibabaCsv,
];

const recordingFormat = {
  name: "recording",
  description: "blkforge's own, written by serve --record",
  defaultLoop: "open" as Loop,
};

/** Every format by name, with a line about it. */
export const traceFormats: readonly { name: string; description: string; defaultLoop: Loop }[] = [
  recordingFormat,
  ...textFormats,
];

export interface OpenTraceOptions extends TextTraceOptions {
  /** A name of `traceFormats`, or "auto". */
  format?: string | undefined;
  /** Where the bytes come from, instead of the file at `path`. */
  source?: ByteSource;
}

export interface OpenTrace {
  format: string;
  defaultLoop: Loop;
  reader: TraceReader;
  /** Set for recordings, which know more. */
  recording: RecordingReader | null;
  close(): void;
}

/** How much of a file is looked at to tell its format. */
const peekBytes = 8192;

/** @throws BlkError BLK_E_TRACE when the file cannot be read or its format is not known. */
export function openTrace(path: string, options: OpenTraceOptions = {}): OpenTrace {
  const { format = "auto", device, source = openFile(path) } = options;
  const lines = new LineReader(source, path);
  const close = () => lines.close();
  try {
    const isRecorded = isRecording(lines.peek(peekBytes));
    if (format === "recording" && !isRecorded) {
      throw new BlkError(
        "BLK_E_TRACE",
        `${path} is no recording`,
        "Leave out --format to have it recognised",
      );
    }
    if (isRecorded && (format === "auto" || format === "recording")) {
      const recording = new RecordingReader(lines);
      return {
        format: "recording",
        defaultLoop: recordingFormat.defaultLoop,
        reader: recording,
        recording,
        close,
      };
    }
    const found = format === "auto" ? detect(lines) : textFormats.find(({ name }) => name === format);
    if (found === undefined) throw unknown(path, format);
    const reader = found.open(lines, { device });
    return {
      format: found.name,
      defaultLoop: reader.defaultLoop ?? found.defaultLoop,
      reader,
      recording: null,
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

function detect(lines: LineReader): TextTraceFormat | undefined {
  const text = Buffer.from(lines.peek(peekBytes)).toString("latin1");
  const whole = text.split("\n").map((line) => line.trimEnd());
  // The last line may be cut off, unless it is the only one.
  const samples = whole.length > 1 ? whole.slice(0, -1) : whole;
  return textFormats.find(({ matches }) => samples.some((line) => matches(line)));
}

function unknown(path: string, format: string): BlkError {
  const names = traceFormats.map(({ name }) => name).join(", ");
  return format === "auto"
    ? new BlkError(
        "BLK_E_TRACE",
        `${path} has no format that is recognised`,
        `Give --format, one of ${names}`,
      )
    : new BlkError("BLK_E_TRACE", `"${format}" is no trace format`, `Choose from ${names}`);
}
