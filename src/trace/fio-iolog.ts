/**
 * fio's I/O logs, versions 2 and 3 (HOWTO, "Trace file format v2/v3").
 *
 * v2: `file action [offset length]`, with `wait` lines between: their microseconds add to the time before the next
 * request, as the documentation says. (fio's own reader, `read_iolog_get`, compares them with the milliseconds since its
 * start.) Version 3, `time file action ...`, has a time stamp on every line, microseconds since the log was begun
 * (`utime_since_now` in `log_io_u`). Every kind of sync is a flush. `add`, `open` and `close` do not reach a device.
 */
import type { BlkError } from "../base/errors.js";
import { Op } from "../base/request.js";
import { DeviceChoice, type LineReader } from "./lines.js";
import { emptyRecord, type TextTraceFormat, type TextTraceOptions, type TraceReader } from "./trace.js";

/** fio discards shorter waits: it cannot sleep that briefly. */
const shortestWaitUs = 100;

const header = /^fio version ([23]) iolog$/;

export const fioIolog: TextTraceFormat = {
  name: "iolog",
  description: "fio I/O log, version 2 (closed loop) or 3",
  defaultLoop: "open",
  matches: (line) => header.test(line),
  open: (lines, options) => {
    const version = lines.next() ? header.exec(lines.text())?.[1] : undefined;
    if (version === undefined) {
      throw lines.error(
        "a fio I/O log begins with its version",
        'The first line is "fio version 2 iolog" or 3',
      );
    }
    return version === "3" ? new Version3Reader(lines, options) : new Version2Reader(lines, options);
  },
};

abstract class IologReader implements TraceReader {
  readonly record = emptyRecord();
  protected readonly devices: DeviceChoice;

  constructor(
    protected readonly lines: LineReader,
    { device }: TextTraceOptions,
  ) {
    this.devices = new DeviceChoice(device);
  }

  get position(): string {
    return `${this.lines.path}:${this.lines.lineNumber}`;
  }

  abstract next(): boolean;

  /** Reads `file action offset length` from field `first` on; false when the line is no request. */
  protected readRequest(first: number): boolean {
    const { lines, record } = this;
    const action = first + 1;
    if (lines.fieldCount <= action) throw this.malformed();
    if (lines.is(action, "add") || lines.is(action, "open") || lines.is(action, "close")) return false;
    if (!this.devices.takes(lines, first)) return false;
    if (lines.is(action, "sync") || lines.is(action, "datasync") || lines.is(action, "syncfs")) {
      record.op = Op.flush;
      record.offsetBytes = 0;
      record.lengthBytes = 0;
      return true;
    }
    if (lines.is(action, "read")) record.op = Op.read;
    else if (lines.is(action, "write")) record.op = Op.write;
    else if (lines.is(action, "trim")) record.op = Op.trim;
    else
      throw lines.error(
        `"${lines.field(action)}" is no action`,
        "Known are read, write, trim, sync, datasync and wait",
      );
    if (lines.fieldCount <= action + 2) throw this.malformed();
    record.offsetBytes = lines.integer(action + 1, "an offset in bytes");
    record.lengthBytes = lines.integer(action + 2, "a length in bytes");
    return true;
  }

  protected malformed(): BlkError {
    return this.lines.error("the line is too short", "Expected: file action offset length");
  }
}

class Version2Reader extends IologReader {
  /** Without time stamps, and often without waits, requests follow each other. */
  readonly defaultLoop = "closed";
  private nowUs = 0;
  private waitUs = 0;

  next(): boolean {
    const { lines, record } = this;
    while (lines.next()) {
      if (lines.splitBlanks() === 0) continue;
      if (lines.fieldCount >= 3 && lines.is(1, "wait")) {
        const waitUs = lines.integer(2, "a time in microseconds");
        if (waitUs >= shortestWaitUs) this.waitUs += waitUs;
      } else if (this.readRequest(0)) {
        this.nowUs += this.waitUs;
        record.arrivalNs = this.nowUs * 1e3;
        record.thinkNs = this.waitUs * 1e3;
        this.waitUs = 0;
        return true;
      }
    }
    return false;
  }
}

class Version3Reader extends IologReader {
  next(): boolean {
    const { lines, record } = this;
    while (lines.next()) {
      if (lines.splitBlanks() === 0) continue;
      if (!this.readRequest(1)) continue;
      record.arrivalNs = lines.integer(0, "a time in microseconds") * 1e3;
      return true;
    }
    return false;
  }
}
