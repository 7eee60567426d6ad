/**
 * How replies look on the wire. Which format a connection speaks is agreed on in the handshake: simple replies, the
 * only ones the Linux client knows; structured ones, in chunks; or extended ones, whose chunks have 64-bit lengths and
 * repeat the request's offset.
 *
 * Writers put bytes at a place they are given and return how many; they allocate nothing.
 *
 * Source: NetworkBlockDevice/nbd, `doc/proto.md`, "Simple reply message", "Structured reply chunk message" and
 * "Extended reply chunk message".
 */
import {
  ChunkFlag,
  ChunkType,
  extendedHeaderBytes,
  extendedReplyMagic,
  simpleReplyBytes,
  simpleReplyMagic,
  structuredReplyBytes,
  structuredReplyMagic,
} from "./constants.js";

export type ReplyMode = "simple" | "structured" | "extended";

/** Which request a reply belongs to: fields of its header, as the client sent them. One object, filled in anew. */
export interface ReplyKey {
  cookieHigh: number;
  cookieLow: number;
  offsetHigh: number;
  offsetLow: number;
}

/** Error, length of a message, no message, and an offset. */
const errorBodyBytes = 6;
const errorOffsetBodyBytes = errorBodyBytes + 8;
const offsetBytes = 8;
const holeBodyBytes = offsetBytes + 4;
const two32 = 2 ** 32;

/** Most bytes of a reply that says how a request ended, in any format. */
export const maximumResultBytes = extendedHeaderBytes + errorOffsetBodyBytes;

export class ReplyWriter {
  /** Whether replies are chunks. */
  readonly isChunked: boolean;
  readonly isExtended: boolean;
  /** Bytes before the payload of a read, or of a part of it. */
  readonly dataHeaderBytes: number;
  /** Bytes of a chunk that says that a part of a read is a hole. */
  readonly holeBytes: number;
  /** Bytes of a chunk before its body. */
  readonly chunkHeaderBytes: number;

  constructor(mode: ReplyMode) {
    this.isChunked = mode !== "simple";
    this.isExtended = mode === "extended";
    this.chunkHeaderBytes = this.isExtended ? extendedHeaderBytes : structuredReplyBytes;
    this.dataHeaderBytes = this.isChunked ? this.chunkHeaderBytes + offsetBytes : simpleReplyBytes;
    this.holeBytes = this.chunkHeaderBytes + holeBodyBytes;
  }

  /** A whole reply without payload; `error` 0 means success. */
  writeResult(out: Buffer, at: number, key: ReplyKey, error: number): number {
    if (!this.isChunked) return this.writeSimple(out, at, key, error);
    if (error === 0) return this.writeChunk(out, at, key, ChunkFlag.done, ChunkType.none, 0);
    const body = at + this.writeChunk(out, at, key, ChunkFlag.done, ChunkType.error, errorBodyBytes);
    out.writeUInt32BE(error, body);
    out.writeUInt16BE(0, body + 4);
    return this.chunkHeaderBytes + errorBodyBytes;
  }

  /** The end of a chunked reply: an error, and the byte of the device it concerns. */
  writeErrorAt(out: Buffer, at: number, key: ReplyKey, error: number, errorAtBytes: number): number {
    const body =
      at + this.writeChunk(out, at, key, ChunkFlag.done, ChunkType.errorOffset, errorOffsetBodyBytes);
    out.writeUInt32BE(error, body);
    out.writeUInt16BE(0, body + 4);
    writeUint64(out, body + errorBodyBytes, errorAtBytes);
    return this.chunkHeaderBytes + errorOffsetBodyBytes;
  }

  /** What precedes `lengthBytes` of a read's payload; `dataHeaderBytes` long. */
  writeDataHeader(
    out: Buffer,
    at: number,
    key: ReplyKey,
    dataAtBytes: number,
    lengthBytes: number,
    isLast: boolean,
  ): number {
    if (!this.isChunked) return this.writeSimple(out, at, key, 0);
    const flags = isLast ? ChunkFlag.done : 0;
    const body = at + this.writeChunk(out, at, key, flags, ChunkType.offsetData, offsetBytes + lengthBytes);
    writeUint64(out, body, dataAtBytes);
    return this.dataHeaderBytes;
  }

  writeHole(
    out: Buffer,
    at: number,
    key: ReplyKey,
    holeAtBytes: number,
    lengthBytes: number,
    isLast: boolean,
  ): number {
    const flags = isLast ? ChunkFlag.done : 0;
    const body = at + this.writeChunk(out, at, key, flags, ChunkType.offsetHole, holeBodyBytes);
    writeUint64(out, body, holeAtBytes);
    out.writeUInt32BE(lengthBytes, body + offsetBytes);
    return this.holeBytes;
  }

  /** The header of a chunk; the caller writes its body. */
  writeChunk(out: Buffer, at: number, key: ReplyKey, flags: number, type: number, bodyBytes: number): number {
    out.writeUInt32BE(this.isExtended ? extendedReplyMagic : structuredReplyMagic, at);
    out.writeUInt16BE(flags, at + 4);
    out.writeUInt16BE(type, at + 6);
    out.writeUInt32BE(key.cookieHigh, at + 8);
    out.writeUInt32BE(key.cookieLow, at + 12);
    if (this.isExtended) {
      out.writeUInt32BE(key.offsetHigh, at + 16);
      out.writeUInt32BE(key.offsetLow, at + 20);
      writeUint64(out, at + 24, bodyBytes);
    } else {
      out.writeUInt32BE(bodyBytes, at + 16);
    }
    return this.chunkHeaderBytes;
  }

  private writeSimple(out: Buffer, at: number, key: ReplyKey, error: number): number {
    out.writeUInt32BE(simpleReplyMagic, at);
    out.writeUInt32BE(error, at + 4);
    out.writeUInt32BE(key.cookieHigh, at + 8);
    out.writeUInt32BE(key.cookieLow, at + 12);
    return simpleReplyBytes;
  }
}

/** Writes a number below 2^53. */
export function writeUint64(out: Buffer, at: number, value: number): void {
  out.writeUInt32BE(Math.floor(value / two32), at);
  out.writeUInt32BE(value % two32, at + 4);
}
