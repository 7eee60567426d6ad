/**
 * Block traces of Microsoft Research Cambridge (Narayanan et al., FAST'08; SNIA IOTTA): a week of 36 volumes.
 *
 * `Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime`: times in units of 100 ns, the time stamp since 1601
 * (a Windows FILETIME), offset and size in bytes. A volume is called `hostname,disk`, as it stands in the file.
 */
import { Op } from "../base/request.js";
import type { LineReader } from "./lines.js";
import { emptyRecord, type TextTraceFormat, type TextTraceOptions, type TraceReader } from "./trace.js";

const unitNs = 100;

export const msrCsv: TextTraceFormat = {
  name: "msr",
  description: "CSV of the MSR Cambridge traces",
  defaultLoop: "open",
  matches: (line) => /^\d{15,20},[^,]*,\d+,(Read|Write),\d+,\d+,\d+\r?$/i.test(line),
  open: (lines, options) => new MsrReader(lines, options),
};

class MsrReader implements TraceReader {
  readonly record = emptyRecord();
  /** Name and number of the volume read. */
  private volume: { host: string; disk: string } | null = null;
  private readonly isChosen: boolean;
  private previousEndNs = Number.NaN;
  private firstTime: FileTime | null = null;

  constructor(
    private readonly lines: LineReader,
    { device }: TextTraceOptions,
  ) {
    this.isChosen = device !== undefined;
    if (device === undefined) return;
    const [host, disk] = device.split(",");
    this.volume = { host, disk: disk ?? "0" };
  }

  get position(): string {
    return `${this.lines.path}:${this.lines.lineNumber}`;
  }

  next(): boolean {
    const { lines, record } = this;
    for (;;) {
      if (!lines.next()) return false;
      if (lines.isEmpty) continue;
      if (lines.splitCommas() !== 7) {
        throw lines.error(
          `the line has ${lines.fieldCount} fields`,
          "Expected: Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime",
        );
      }
      const isHeading = lines.lineNumber === 1 && lines.is(0, "Timestamp");
      if (!isHeading && this.isOurs()) break;
    }
    if (lines.is(3, "Read") || lines.is(3, "read")) record.op = Op.read;
    else if (lines.is(3, "Write") || lines.is(3, "write")) record.op = Op.write;
    else
      throw lines.error(`"${lines.field(3)}" is neither Read nor Write`, "Check that this is an MSR trace");
    record.offsetBytes = lines.integer(4, "an offset in bytes");
    record.lengthBytes = lines.integer(5, "a size in bytes");
    record.serviceNs = lines.integer(6, "a response time") * unitNs;
    record.arrivalNs = this.sinceFirst();
    record.thinkNs = Math.max(0, record.arrivalNs - this.previousEndNs);
    this.previousEndNs = record.arrivalNs + record.serviceNs;
    return true;
  }

  private isOurs(): boolean {
    const { lines } = this;
    if (this.volume === null) this.volume = { host: lines.field(1), disk: lines.field(2) };
    if (lines.is(1, this.volume.host) && lines.is(2, this.volume.disk)) return true;
    if (this.isChosen) return false;
    throw lines.error(
      `the trace has requests of several volumes, ${this.volume.host},${this.volume.disk} and ${lines.field(1)},${lines.field(2)}`,
      "Choose one with --trace-device host,disk",
    );
  }

  /** Time since the first request. A FILETIME has 18 digits, too many for a float64: it is taken apart first. */
  private sinceFirst(): number {
    const time = readFileTime(this.lines);
    if (this.firstTime === null) this.firstTime = time;
    return ((time.high - this.firstTime.high) * lowRange + (time.low - this.firstTime.low)) * unitNs;
  }
}

interface FileTime {
  high: number;
  low: number;
}

const lowDigits = 10;
const lowRange = 10 ** lowDigits;

function readFileTime(lines: LineReader): FileTime {
  let high = 0;
  let low = 0;
  let length = 0;
  while (lines.byteOf(0, length) >= 0) length++;
  for (let i = 0; i < length; i++) {
    const digit = lines.byteOf(0, i) - 48;
    if (digit < 0 || digit > 9 || length > 20) {
      throw lines.error(
        `"${lines.field(0)}" is not a time stamp`,
        "Expected a Windows FILETIME, 100 ns since 1601",
      );
    }
    if (i < length - lowDigits) high = high * 10 + digit;
    else low = low * 10 + digit;
  }
  return { high, low };
}
