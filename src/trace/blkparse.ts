/**
 * Text output of blkparse in its default format: `major,minor cpu sequence seconds.nanoseconds pid action rwbs sector +
 * sectors [process]`.
 *
 * Read are the D events, requests as issued to the driver: what the device itself saw, after merging and scheduling.
 * `blkparse-q` reads the Q events instead, requests as submitted to the block layer. Other events, messages and the
 * summary at the end are passed over. In `rwbs` (`blk_fill_rwbs` in the kernel's blktrace.c) an F before the operation is a
 * flush before it, an F after it is FUA; a flush with data becomes two requests at the same time.
 */
import { Flag, Op } from "../base/request.js";
import { DeviceChoice, type LineReader } from "./lines.js";
import { emptyRecord, type TextTraceFormat, type TextTraceOptions, type TraceReader } from "./trace.js";

/** Sectors are 512 bytes in the block layer, whatever the device's own block. */
const sectorBytes = 512;

const fields = { device: 0, cpu: 1, time: 3, action: 5, rwbs: 6, sector: 7, plus: 8, sectors: 9 } as const;

const linePattern = /^\s*\d+,\d+\s+\d+\s+\d+\s+\d+\.\d+\s+\d+\s+[A-Z]{1,2}\s+[A-Z]+\b/;

function format(name: string, action: "D" | "Q", description: string): TextTraceFormat {
  return {
    name,
    description,
    defaultLoop: "open",
    matches: (line) => linePattern.test(line),
    open: (lines, options) => new BlkparseReader(lines, action, options),
  };
}

export const blkparse = format("blkparse", "D", "blkparse text, requests as issued to the device (D)");
export const blkparseQueued = format(
  "blkparse-q",
  "Q",
  "blkparse text, requests as submitted to the block layer (Q)",
);

const letter = (text: string) => text.charCodeAt(0);
const letters = { D: letter("D"), F: letter("F"), N: letter("N"), R: letter("R"), W: letter("W") } as const;

class BlkparseReader implements TraceReader {
  readonly record = emptyRecord();
  private readonly devices: DeviceChoice;
  /** The data part of a write with a flush before it, still to be given. */
  private hasWriteAfterFlush = false;
  private writeOffsetBytes = 0;
  private writeLengthBytes = 0;
  private writeFlags = 0;

  constructor(
    private readonly lines: LineReader,
    private readonly action: string,
    { device }: TextTraceOptions,
  ) {
    this.devices = new DeviceChoice(device);
  }

  get position(): string {
    return `${this.lines.path}:${this.lines.lineNumber}`;
  }

  next(): boolean {
    if (this.hasWriteAfterFlush) {
      this.hasWriteAfterFlush = false;
      this.fill(Op.write, this.writeFlags, this.writeOffsetBytes, this.writeLengthBytes);
      return true;
    }
    const { lines } = this;
    while (lines.next()) {
      const isEvent = lines.splitBlanks() > fields.rwbs && lines.is(fields.action, this.action);
      if (isEvent && this.devices.takes(lines, fields.device) && this.readEvent()) return true;
    }
    return false;
  }

  private readEvent(): boolean {
    const { lines, record } = this;
    record.arrivalNs = lines.scaled(fields.time, 9, "a time in seconds");
    record.queue = lines.integer(fields.cpu, "a CPU number");
    let at = 0;
    const isFlushFirst = lines.byteOf(fields.rwbs, at) === letters.F;
    if (isFlushFirst) at++;
    const operation = lines.byteOf(fields.rwbs, at);
    let flags = 0;
    for (at++; lines.byteOf(fields.rwbs, at) >= 0; at++) {
      if (lines.byteOf(fields.rwbs, at) === letters.F) flags = Flag.fua;
    }
    const hasRange = lines.fieldCount > fields.sectors && lines.is(fields.plus, "+");
    const offsetBytes = hasRange ? lines.integer(fields.sector, "a sector") * sectorBytes : 0;
    const lengthBytes = hasRange ? lines.integer(fields.sectors, "a number of sectors") * sectorBytes : 0;
    if (lengthBytes === 0 || operation === letters.N || operation === letters.F) {
      // Requests without data and without a flush are for the driver, not for the media.
      if (isFlushFirst) this.fill(Op.flush, 0, 0, 0);
      return isFlushFirst;
    }
    if (operation === letters.R) this.fill(Op.read, 0, offsetBytes, lengthBytes);
    else if (operation === letters.D) this.fill(Op.trim, 0, offsetBytes, lengthBytes);
    else if (operation !== letters.W) return false;
    else if (!isFlushFirst) this.fill(Op.write, flags, offsetBytes, lengthBytes);
    else {
      this.fill(Op.flush, 0, 0, 0);
      this.hasWriteAfterFlush = true;
      this.writeOffsetBytes = offsetBytes;
      this.writeLengthBytes = lengthBytes;
      this.writeFlags = flags;
    }
    return true;
  }

  private fill(op: number, flags: number, offsetBytes: number, lengthBytes: number): void {
    const { record } = this;
    record.op = op;
    record.flags = flags;
    record.offsetBytes = offsetBytes;
    record.lengthBytes = lengthBytes;
  }
}
