/**
 * DiskSim's `validate` traces: requests measured on a real drive, one at a time (`iotrace_validate_get_ioreq_event` in
 * DiskSim 4.0, Carnegie Mellon University).
 *
 * Six fields: `R|W  Hit|Miss|Doub|Trip  block  blocks  service-us  think-us`; blocks of 512 bytes, think time from this
 * request's completion to the issue of the next. The second field is the tracer's guess at the drive's cache and is not
 * used. Replay is closed; open replay issues at the instants of the measurement.
 */
import { Op } from "../base/request.js";
import type { LineReader } from "./lines.js";
import { emptyRecord, type TextTraceFormat, type TraceReader } from "./trace.js";

const blockBytes = 512;
/** Times have up to six decimals, microseconds: kept to the thousandth of a nanosecond. */
const timeDigits = 6;
const nsPerUnit = 1e3 / 10 ** timeDigits;

export const disksimValidate: TextTraceFormat = {
  name: "disksim",
  description: "DiskSim validate trace, measured on a real drive",
  defaultLoop: "closed",
  matches: (line) => /^\s*[RW]\s+(Hit|Miss|Doub|Trip)\s+\d+\s+\d+\s+[\d.]+\s+[\d.]+\s*$/.test(line),
  open: (lines) => new DisksimReader(lines),
};

class DisksimReader implements TraceReader {
  readonly record = emptyRecord();
  private issueNs = 0;
  private thinkNs = 0;

  constructor(private readonly lines: LineReader) {}

  get position(): string {
    return `${this.lines.path}:${this.lines.lineNumber}`;
  }

  next(): boolean {
    const { lines, record } = this;
    do {
      if (!lines.next()) return false;
    } while (lines.isEmpty);
    if (lines.splitBlanks() !== 6) {
      throw lines.error(
        `the line has ${lines.fieldCount} fields`,
        "Expected: R|W Hit|Miss block blocks service think",
      );
    }
    if (lines.is(0, "R")) record.op = Op.read;
    else if (lines.is(0, "W")) record.op = Op.write;
    else throw lines.error(`"${lines.field(0)}" is neither R nor W`, "Check that this is a validate trace");
    record.offsetBytes = lines.integer(2, "a block number") * blockBytes;
    record.lengthBytes = lines.integer(3, "a number of blocks") * blockBytes;
    record.serviceNs = lines.scaled(4, timeDigits, "a time in microseconds") * nsPerUnit;
    record.arrivalNs = this.issueNs;
    record.thinkNs = this.thinkNs;
    this.thinkNs = lines.scaled(5, timeDigits, "a time in microseconds") * nsPerUnit;
    this.issueNs += record.serviceNs + this.thinkNs;
    return true;
  }
}
