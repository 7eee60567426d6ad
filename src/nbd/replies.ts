/**
 * How replies look on the wire. Which format a connection speaks is agreed on in the handshake, so transmission
 * writes replies through this interface and knows nothing of their layout.
 *
 * Source: NetworkBlockDevice/nbd, `doc/proto.md`, "Simple reply message".
 */
import { simpleReplyBytes, simpleReplyMagic } from "./constants.js";

export interface ReplyFormat {
  /** Most bytes any reply has besides the payload of a read. */
  readonly maximumOverheadBytes: number;
  /** Bytes before the payload of a successful read. */
  readonly readHeaderBytes: number;

  /** Writes what precedes the payload of a successful read; exactly `readHeaderBytes`. */
  writeReadHeader(out: Buffer, at: number, cookieHigh: number, cookieLow: number): void;

  /** Writes a whole reply without payload, `error` 0 meaning success; returns its length. */
  writeResult(out: Buffer, at: number, cookieHigh: number, cookieLow: number, error: number): number;
}

/** The only format the Linux client understands. */
export const simpleReplies: ReplyFormat = {
  maximumOverheadBytes: simpleReplyBytes,
  readHeaderBytes: simpleReplyBytes,

  writeReadHeader(out, at, cookieHigh, cookieLow) {
    this.writeResult(out, at, cookieHigh, cookieLow, 0);
  },

  writeResult(out, at, cookieHigh, cookieLow, error) {
    out.writeUInt32BE(simpleReplyMagic, at);
    out.writeUInt32BE(error, at + 4);
    out.writeUInt32BE(cookieHigh, at + 8);
    out.writeUInt32BE(cookieLow, at + 12);
    return simpleReplyBytes;
  },
};
