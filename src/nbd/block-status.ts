/**
 * The answer to BLOCK_STATUS: one chunk per context the client has chosen, each a list of runs.
 *
 * An answer never goes beyond the range that was asked about, and may end before it: then the client asks on.
 *
 * Source: NetworkBlockDevice/nbd, `doc/proto.md`, "NBD_REPLY_TYPE_BLOCK_STATUS" and "..._EXT".
 */
import type { BlockTarget } from "../base/target.js";
import { ChunkFlag, ChunkType, extendedHeaderBytes } from "./constants.js";
import type { MetaContext } from "./meta-context.js";
import { type ReplyKey, type ReplyWriter, writeUint64 } from "./replies.js";
import { maximumRuns, RunList } from "./run-list.js";

export interface BlockStatusQuestion {
  writer: ReplyWriter;
  key: ReplyKey;
  contexts: readonly MetaContext[];
  target: BlockTarget;
  offsetBytes: number;
  lengthBytes: number;
  /** Runs are whole blocks of this size. */
  blockBytes: number;
  /** Exactly one run is wanted (REQ_ONE). */
  isOneAsked: boolean;
}

/** Length and flags of a run, in the wider of the two formats; and what precedes the runs. */
const widestRunBytes = 16;
const widestPrefixBytes = 8;

/** Answers are written one at a time, on one thread. */
const runs = new RunList();

/** Most bytes an answer takes. */
export function blockStatusBytes(contextCount: number): number {
  return contextCount * (extendedHeaderBytes + widestPrefixBytes + maximumRuns * widestRunBytes);
}

export function writeBlockStatus(out: Buffer, at: number, question: BlockStatusQuestion): number {
  const { writer, key, contexts, target, offsetBytes, lengthBytes, blockBytes } = question;
  const limit = question.isOneAsked ? 1 : maximumRuns;
  let to = at;
  for (const [index, context] of contexts.entries()) {
    runs.begin(offsetBytes, lengthBytes, { limit, blockBytes, merge: context.merge });
    context.collect(target, offsetBytes, lengthBytes, runs);
    const flags = index === contexts.length - 1 ? ChunkFlag.done : 0;
    if (writer.isExtended) {
      const body =
        to + writer.writeChunk(out, to, key, flags, ChunkType.blockStatusExtended, 8 + 16 * runs.count);
      out.writeUInt32BE(context.id, body);
      out.writeUInt32BE(runs.count, body + 4);
      to = body + 8;
      for (let i = 0; i < runs.count; i++, to += 16) {
        writeUint64(out, to, runs.lengths[i]);
        writeUint64(out, to + 8, runs.flags[i]);
      }
    } else {
      const body = to + writer.writeChunk(out, to, key, flags, ChunkType.blockStatus, 4 + 8 * runs.count);
      out.writeUInt32BE(context.id, body);
      to = body + 4;
      for (let i = 0; i < runs.count; i++, to += 8) {
        out.writeUInt32BE(runs.lengths[i], to);
        out.writeUInt32BE(runs.flags[i], to + 4);
      }
    }
  }
  return to - at;
}
