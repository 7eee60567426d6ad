/**
 * The reply to one read: its data, and in chunked replies also its holes, and what is good of it before an error.
 *
 * A reply is planned first, so that a buffer of the right size can be found, then written. One object serves a
 * connection; neither step allocates but for looking at holes, which only large reads do.
 */
import { noSlot, type RequestSlot } from "../base/request.js";
import { Status } from "../base/status.js";
import type { BlockTarget } from "../base/target.js";
import { maximumPayloadBytes } from "./constants.js";
import { maximumResultBytes, type ReplyKey, type ReplyWriter } from "./replies.js";
import { wireErrorOfStatus } from "./wire-errors.js";

/** Shorter holes are sent as the zeros they read as: asking for them would cost more than sending them. */
const smallestHoleBytes = 64 * 1024;
/** Holes and data in turn. */
const maximumPieces = (2 * maximumPayloadBytes) / smallestHoleBytes + 1;

export class ReadReply {
  private readonly target: BlockTarget;
  private readonly writer: ReplyWriter;
  private slot: RequestSlot = noSlot;
  private status: Status = Status.ok;
  /** First byte of the device the error concerns; -1 when it has no place or the format cannot tell. */
  private errorAtBytes = -1;

  /** Ends of the pieces, counted from the request's beginning. */
  private readonly ends = new Float64Array(maximumPieces);
  private readonly isHole = new Uint8Array(maximumPieces);
  private count = 0;

  constructor(target: BlockTarget, writer: ReplyWriter) {
    this.target = target;
    this.writer = writer;
  }

  /** Decides on the pieces; returns how many bytes the reply may take. */
  plan(slot: RequestSlot, isWhole: boolean): number {
    const { target, writer } = this;
    const { requests } = target;
    this.slot = slot;
    this.status = requests.status[slot];
    this.errorAtBytes = -1;
    this.count = 0;
    const lengthBytes = requests.lengthBytes[slot];
    if (this.status !== Status.ok) {
      if (writer.isChunked) this.errorAtBytes = target.errorOffsetBytes(slot);
      if (this.errorAtBytes > requests.offsetBytes[slot]) {
        this.add(this.errorAtBytes - requests.offsetBytes[slot], 0);
      }
    } else if (writer.isChunked && !isWhole && lengthBytes >= smallestHoleBytes) {
      this.findHoles(requests.offsetBytes[slot], lengthBytes);
    } else {
      this.add(lengthBytes, 0);
    }
    let bytes = maximumResultBytes;
    for (let i = 0, from = 0; i < this.count; i++) {
      bytes += this.isHole[i] === 1 ? writer.holeBytes : writer.dataHeaderBytes + this.ends[i] - from;
      from = this.ends[i];
    }
    return bytes;
  }

  /** Writes what was planned; returns its length. */
  write(out: Buffer, at: number, key: ReplyKey): number {
    const { writer, target, slot, count } = this;
    const { requests } = target;
    const offsetBytes = requests.offsetBytes[slot];
    const isGood = this.status === Status.ok;
    let to = at;
    for (let i = 0, from = 0; i < count; from = this.ends[i++]) {
      const lengthBytes = this.ends[i] - from;
      const isLast = isGood && i === count - 1;
      if (this.isHole[i] === 1) {
        to += writer.writeHole(out, to, key, offsetBytes + from, lengthBytes, isLast);
        continue;
      }
      const dataAt = to + writer.dataHeaderBytes;
      const status = target.read(slot, from, out.subarray(dataAt, dataAt + lengthBytes));
      // Nothing of this piece has been said yet, so an error found now is told like one known before.
      if (status !== Status.ok) {
        return to + writer.writeResult(out, to, key, wireErrorOfStatus[status]) - at;
      }
      writer.writeDataHeader(out, to, key, offsetBytes + from, lengthBytes, isLast);
      to = dataAt + lengthBytes;
    }
    if (isGood) return to - at;
    const error = wireErrorOfStatus[this.status];
    to +=
      this.errorAtBytes >= 0
        ? writer.writeErrorAt(out, to, key, error, this.errorAtBytes)
        : writer.writeResult(out, to, key, error);
    return to - at;
  }

  private findHoles(offsetBytes: number, lengthBytes: number): void {
    for (const extent of this.target.extents(offsetBytes, lengthBytes)) {
      const isHole = !extent.isAllocated && extent.lengthBytes >= smallestHoleBytes;
      this.add(extent.offsetBytes + extent.lengthBytes - offsetBytes, isHole ? 1 : 0);
    }
  }

  /** Neighbours of one kind become one piece. */
  private add(endBytes: number, isHole: 0 | 1): void {
    if (this.count > 0 && this.isHole[this.count - 1] === isHole) this.count--;
    this.ends[this.count] = endBytes;
    this.isHole[this.count++] = isHole;
  }
}
