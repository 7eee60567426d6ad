/**
 * Block traces of Alibaba Cloud (Li et al., IISWC'20; github.com/alibaba/block-traces): a month of 1000 volumes.
 *
 * `device_id,opcode,offset,length,timestamp`: opcode R or W, offset and length in bytes, microseconds since 1970. The
 * volumes lie mixed in one file: choose one by its number.
 */
import { Op } from "../base/request.js";
import { DeviceChoice, type LineReader } from "./lines.js";
import { emptyRecord, type TextTraceFormat, type TextTraceOptions, type TraceReader } from "./trace.js";

export const alibabaCsv: TextTraceFormat = {
  name: "alibaba",
  description: "CSV of the Alibaba Cloud block traces",
  defaultLoop: "open",
  matches: (line) => /^\d+,[RW],\d+,\d+,\d+\r?$/.test(line),
  open: (lines, options) => new AlibabaReader(lines, options),
};

class AlibabaReader implements TraceReader {
  readonly record = emptyRecord();
  private readonly devices: DeviceChoice;
  private firstUs = Number.NaN;

  constructor(
    private readonly lines: LineReader,
    { device }: TextTraceOptions,
  ) {
    this.devices = new DeviceChoice(device);
  }

  get position(): string {
    return `${this.lines.path}:${this.lines.lineNumber}`;
  }

  next(): boolean {
    const { lines, record } = this;
    for (;;) {
      if (!lines.next()) return false;
      if (lines.isEmpty) continue;
      if (lines.splitCommas() !== 5) {
        throw lines.error(
          `the line has ${lines.fieldCount} fields`,
          "Expected: device_id,opcode,offset,length,timestamp",
        );
      }
      const isHeading = lines.lineNumber === 1 && lines.is(0, "device_id");
      if (!isHeading && this.devices.takes(lines, 0)) break;
    }
    if (lines.is(1, "R")) record.op = Op.read;
    else if (lines.is(1, "W")) record.op = Op.write;
    else throw lines.error(`"${lines.field(1)}" is neither R nor W`, "Check that this is an Alibaba trace");
    record.offsetBytes = lines.integer(2, "an offset in bytes");
    record.lengthBytes = lines.integer(3, "a length in bytes");
    const timeUs = lines.integer(4, "a time in microseconds");
    if (Number.isNaN(this.firstUs)) this.firstUs = timeUs;
    record.arrivalNs = (timeUs - this.firstUs) * 1e3;
    return true;
  }
}
