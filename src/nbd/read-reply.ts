/**
 * The reply to one read: its data, and in chunked replies also its holes, and what is good of it before an error.
 *
 * A reply is planned first, so that a buffer of the right size can be found, then written, at once or after it was planned anew.
 * One object serves a connection; neither step allocates but for looking at holes, which only large reads do.
 */
import { noSlot, type RequestSlot } from "../base/request.js";
import { Status } from "../base/status.js";
import type { BlockTarget } from "../base/target.js";
import { maximumPayloadBytes } from "./constants.js";
import type { Outbox } from "./outbox.js";
import { maximumResultBytes, type ReplyKey, type ReplyWriter } from "./replies.js";
import { wireErrorOfStatus } from "./wire-errors.js";

/** Shorter holes are sent as the zeros they read as: asking for them would cost more than sending them. */
export const smallestHoleBytes = 64 * 1024;
/** Holes and data in turn. */
const maximumPieces = (2 * maximumPayloadBytes) / smallestHoleBytes + 1;

/** The pieces of the reply planned last, whosever it is. Ends are counted from the request's beginning. */
const ends = new Float64Array(maximumPieces);
const isHole = new Uint8Array(maximumPieces);

export class ReadReply {
  private readonly target: BlockTarget;
  private readonly writer: ReplyWriter;
  private readonly outbox: Outbox;
  /** Bytes the planned reply takes of a buffer; the others are inserted. */
  bufferBytes = 0;
  private slot: RequestSlot = noSlot;
  private status: Status = Status.ok;
  /** First byte of the device the error concerns; -1 when it has no place or the format cannot tell. */
  private errorAtBytes = -1;

  /** Pieces of the planned reply. */
  private count = 0;

  constructor(target: BlockTarget, writer: ReplyWriter, outbox: Outbox) {
    this.target = target;
    this.writer = writer;
    this.outbox = outbox;
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
    let bufferBytes = maximumResultBytes;
    let insertedBytes = 0;
    for (let i = 0, from = 0; i < this.count; from = ends[i++]) {
      const pieceBytes = ends[i] - from;
      if (isHole[i] === 1) {
        bufferBytes += writer.holeBytes;
        continue;
      }
      bufferBytes += writer.dataHeaderBytes;
      if (pieceBytes >= this.outbox.insertsFromBytes) insertedBytes += pieceBytes;
      else bufferBytes += pieceBytes;
    }
    this.bufferBytes = bufferBytes;
    return bufferBytes + insertedBytes;
  }

  /** Writes what was planned into the outbox, where `bufferBytes` have been reserved. */
  write(out: Buffer, key: ReplyKey): void {
    const { writer, target, slot, count, outbox } = this;
    const offsetBytes = target.requests.offsetBytes[slot];
    const isGood = this.status === Status.ok;
    for (let i = 0, from = 0; i < count; from = ends[i++]) {
      const at = outbox.position;
      const lengthBytes = ends[i] - from;
      const isLast = isGood && i === count - 1;
      if (isHole[i] === 1) {
        outbox.advance(writer.writeHole(out, at, key, offsetBytes + from, lengthBytes, isLast));
      } else if (lengthBytes >= outbox.insertsFromBytes) {
        outbox.advance(writer.writeDataHeader(out, at, key, offsetBytes + from, lengthBytes, isLast));
        outbox.insert(offsetBytes + from, lengthBytes);
      } else {
        const dataAt = at + writer.dataHeaderBytes;
        const status = target.read(slot, from, out.subarray(dataAt, dataAt + lengthBytes));
        // Nothing of this piece has been said yet, so an error found now is told like one known before.
        if (status !== Status.ok) {
          outbox.advance(writer.writeResult(out, at, key, wireErrorOfStatus[status]));
          return;
        }
        writer.writeDataHeader(out, at, key, offsetBytes + from, lengthBytes, isLast);
        outbox.advance(writer.dataHeaderBytes + lengthBytes);
      }
    }
    if (isGood) return;
    const error = wireErrorOfStatus[this.status];
    const at = outbox.position;
    outbox.advance(
      this.errorAtBytes >= 0
        ? writer.writeErrorAt(out, at, key, error, this.errorAtBytes)
        : writer.writeResult(out, at, key, error),
    );
  }

  private findHoles(offsetBytes: number, lengthBytes: number): void {
    for (const extent of this.target.extents(offsetBytes, lengthBytes)) {
      const isLargeHole = !extent.isAllocated && extent.lengthBytes >= smallestHoleBytes;
      this.add(extent.offsetBytes + extent.lengthBytes - offsetBytes, isLargeHole ? 1 : 0);
    }
  }

  /** Neighbours of one kind become one piece. */
  private add(endBytes: number, kind: 0 | 1): void {
    if (this.count > 0 && isHole[this.count - 1] === kind) this.count--;
    ends[this.count] = endBytes;
    isHole[this.count++] = kind;
  }
}
