/**
 * The transmission phase of one connection: parses requests, hands them to the device, and sends the replies when
 * the device says they are due.
 *
 * A request is parsed straight out of the segment it arrived in, and so is the payload of a write that lies wholly
 * in it; only what is cut by a segment's end is copied. Nothing is allocated per request but the view of its payload.
 *
 * Backpressure: when the request table is full, when this connection has its share in flight, when its replies are
 * not read, or when payload memory is used up, the rest of the segment is kept, the socket is not read, and parsing
 * goes on from that byte as soon as the cause has passed.
 *
 * Source: NetworkBlockDevice/nbd, `doc/proto.md`, "Transmission".
 */
import { Flag, noSlot, Op, type RequestSlot } from "../base/request.js";
import type { BlockTarget, RequestOwner } from "../base/target.js";
import { blockStatusBytes, writeBlockStatus } from "./block-status.js";
import type { BufferPool, PooledBuffer } from "./buffer-pool.js";
import {
  Command,
  CommandFlag,
  extendedHeaderBytes,
  extendedRequestMagic,
  requestHeaderBytes,
  requestMagic,
  TransmissionFlag,
  WireError,
} from "./constants.js";
import { minimumBlockBytesOf } from "./export.js";
import type { Session } from "./handshake.js";
import type { NbdLimits } from "./limits.js";
import type { Outbox } from "./outbox.js";
import { ReadReply } from "./read-reply.js";
import { maximumResultBytes, type ReplyKey, ReplyWriter } from "./replies.js";
import { checkRequest, type RequestRules } from "./request-check.js";
import type { SlotNotes } from "./slot-notes.js";
import { wireErrorOfStatus } from "./wire-errors.js";

/** What a port can do beyond delivering segments, where the addon moves the bytes. */
export interface PayloadReceiver {
  /** Whether the next byte is the first of a request and nothing waits for its turn: then others may answer it. */
  setIdle(isIdle: boolean): void;
  /** Requests of the connection that others have taken and not yet answered; `onAnswered` is called when there are none left. */
  readonly requestsInHand: number;
  /** The largest payload that is completed in the segment. */
  readonly keptBytes: number;
  /** The next segment begins with these bytes of the present one; `keptBytes` of them at most. */
  keep(segment: Uint8Array, from: number, to: number): void;
  /**
   * The payload goes into the device's memory: these first bytes of it, and the rest as it comes. The next segment is what
   * follows it.
   */
  land(segment: Uint8Array, from: number, to: number, offsetBytes: number, lengthBytes: number): void;
  /** What comes next goes there; the next segment is what follows it. */
  fill(bytes: Uint8Array, from: number, to: number): void;
}

/** What comes before the bytes of a segment. */
export const Before = Object.freeze({
  nothing: 0,
  /** The payload the receiver was asked for, whole. */
  payload: 1,
  /** The payload of the write whose header the segment begins with: it has landed. */
  ownPayload: 2,
});

export interface TransmissionPort {
  readonly receiver: PayloadReceiver | null;
  /** Stop reading the socket; may be called again while stopped. */
  pause(): void;
  /** Go on reading; what `receive` was given has been consumed. */
  resume(): void;
  /** Close in peace: every reply owed has been handed to the outbox. */
  end(reason: string): void;
  /** Close at once: the stream cannot be understood any longer. */
  abort(reason: string): void;
}

export interface TransmissionOptions {
  session: Session;
  /** Number of the hardware queue this connection stands for. */
  queue: number;
  outbox: Outbox;
  pool: BufferPool;
  notes: SlotNotes;
  limits: NbdLimits;
  port: TransmissionPort;
}

/**
 * What comes next: a header, the payload of a write or of a refused write, or nothing from the client, since a
 * complete request waits to be submitted, or an answer to be written.
 */
type Expect = "header" | "payload" | "refusedPayload" | "submit" | "answer" | "blockStatus";

/** Why parsing has stopped although there may be bytes left. */
type Blocked = "no" | "table" | "share" | "replies" | "memory";

const two32 = 2 ** 32;
const noBytes = new Uint8Array(0);

export class Transmission implements RequestOwner {
  private readonly target: BlockTarget;
  private readonly options: TransmissionOptions;
  private readonly outbox: Outbox;
  private readonly rules: RequestRules;
  private readonly writer: ReplyWriter;
  private readonly readReply: ReadReply;
  private readonly headerBytes: number;

  /** The segment being parsed, and how far. Kept while blocked. */
  private segment: Uint8Array = noBytes;
  private at = 0;
  private segmentEnd = 0;
  private expect: Expect = "header";
  private blocked: Blocked = "no";
  private isRunning = false;
  private isPaused = false;
  private waitsForSlot = false;
  private waitsForMemory = false;
  private isEnded = false;
  private isShuttingDown = false;
  private hasDisconnected = false;

  /** A header cut by the end of a segment. */
  private readonly cutHeader = new Uint8Array(extendedHeaderBytes);
  private cutHeaderBytes = 0;

  /** The request being parsed. */
  private op: number = Op.read;
  private commandFlags = 0;
  private flags = 0;
  private isCache = false;
  private readonly key: ReplyKey = { cookieHigh: 0, cookieLow: 0, offsetHigh: 0, offsetLow: 0 };
  private offsetBytes = 0;
  private lengthBytes = 0;
  /** Payload of a write cut by the end of a segment, and how much of it is there; or how much was drained. */
  private payload: PooledBuffer | null = null;
  private payloadBytes = 0;
  /** The payload is on its way into the device's memory, or there. */
  private isLanding = false;
  /** The payload of the next write has landed before its header was seen here. */
  private hasLanded = false;
  /** The answer to a request that never reaches the device. */
  private verdict: number = WireError.none;
  /** Names the completed request whose reply is being written. */
  private readonly doneKey: ReplyKey = { cookieHigh: 0, cookieLow: 0, offsetHigh: 0, offsetLow: 0 };

  private nowNs = 0;
  /** The device must be told of: requests submitted, or slots others may wait for. */
  private hasNews = false;

  /** Requests taken here and not yet answered. */
  private inFlight = 0;
  /** Completed requests whose replies have not been written yet, first to last, linked through `notes.next`. */
  private firstDone: RequestSlot = noSlot;
  private lastDone: RequestSlot = noSlot;

  constructor(options: TransmissionOptions) {
    const { session } = options;
    const { target } = session.export;
    this.options = options;
    this.outbox = options.outbox;
    this.target = target;
    this.writer = new ReplyWriter(session.replyMode);
    this.readReply = new ReadReply(target, this.writer, options.outbox);
    this.headerBytes = this.writer.isExtended ? extendedHeaderBytes : requestHeaderBytes;
    this.rules = {
      sizeBytes: target.sizeBytes,
      isReadOnly: (session.transmissionFlags & TransmissionFlag.readOnly) !== 0,
      canTrim: target.canTrim,
      canZeroFast: target.canZeroFast,
      alignmentBytes: minimumBlockBytesOf(session.export),
      isChunked: this.writer.isChunked,
      isExtended: this.writer.isExtended,
      hasContexts: session.contexts.length > 0,
    };
    options.port.receiver?.setIdle(true);
  }

  get requestsInFlight(): number {
    return this.inFlight + (this.options.port.receiver?.requestsInHand ?? 0);
  }

  /** The client has sent DISC: it may close its side, and replies are still owed. */
  get isDisconnecting(): boolean {
    return this.hasDisconnected;
  }

  /** Whether payload memory is held while the client sends or reads the rest. */
  get holdsPayload(): boolean {
    return this.payload !== null || !this.outbox.isEmpty;
  }

  /** Whether requests are complete, but the client does not take their replies. */
  get holdsSlots(): boolean {
    return this.firstDone !== noSlot;
  }

  /** Whether a request of the client waits for a place in the device's table. */
  get waitsForTable(): boolean {
    return this.blocked === "table";
  }

  /**
   * Takes a segment; calls `port.pause` when it could not be consumed whole.
   *
   * @param before one of `Before`
   */
  receive(segment: Uint8Array, from: number, end: number, before: number = Before.nothing): void {
    if (this.isEnded) return;
    if (before === Before.payload) this.payloadBytes = this.lengthBytes;
    if (before === Before.ownPayload) this.hasLanded = true;
    this.segment = segment;
    this.at = from;
    this.segmentEnd = end;
    this.run();
  }

  /** Parses on where something had blocked it, and sends what waits to be sent. */
  resume(): void {
    if (!this.isEnded) this.run();
  }

  /** New requests are answered ESHUTDOWN; the connection ends when nothing is in flight any more. */
  shutDown(): void {
    this.isShuttingDown = true;
    this.resume();
  }

  /** The client has gone: whatever it had in flight still runs, and is forgotten. */
  abandon(): void {
    this.isEnded = true;
    for (let slot = this.firstDone; slot !== noSlot; ) {
      const next = this.options.notes.next[slot];
      this.target.requests.release(slot);
      slot = next;
    }
    this.firstDone = noSlot;
    this.target.abandon(this);
    this.segment = noBytes;
    if (this.payload !== null) this.options.pool.give(this.payload);
    this.payload = null;
    this.outbox.discard();
  }

  /** A write without a payload is one that has landed: its bytes have moved. */
  movePayload(): void {}

  onCompletion(slot: RequestSlot): void {
    const { next } = this.options.notes;
    next[slot] = noSlot;
    if (this.firstDone === noSlot) this.firstDone = slot;
    else next[this.lastDone] = slot;
    this.lastDone = slot;
  }

  onCompletionsEnd(): void {
    this.resume();
  }

  /** The socket has taken a buffer of replies: there may be room for what had to wait. */
  onWritten(): void {
    if (this.firstDone !== noSlot || this.blocked !== "no") this.resume();
  }

  /** Sends what is due, parses what is there, and again as long as the one makes room for the other. */
  private run(): void {
    // The device may wake us while we call it; the loop looks at all that could have changed.
    if (this.isRunning) return;
    this.isRunning = true;
    do {
      this.sendReplies();
      if (this.segment !== noBytes) this.parse();
      if (this.hasNews) {
        this.hasNews = false;
        this.target.pump();
        this.sendReplies();
      }
    } while (!this.isEnded && (this.hasNews || this.canGoOn()));
    if (!this.isEnded) {
      this.outbox.flush();
      this.settle();
    }
    this.options.port.receiver?.setIdle(this.isIdle);
    this.isRunning = false;
  }

  /** Between two requests, with nothing left to be done about earlier ones but to wait until they are due. */
  private get isIdle(): boolean {
    if (this.isEnded || this.isShuttingDown || this.hasDisconnected) return false;
    return (
      this.expect === "header" &&
      this.cutHeaderBytes === 0 &&
      this.blocked === "no" &&
      this.firstDone === noSlot
    );
  }

  private canGoOn(): boolean {
    if (this.blocked === "table") return !this.target.requests.isFull;
    if (this.blocked === "share") return this.requestsInFlight < this.options.limits.requestsPerConnection;
    return false;
  }

  /** After a run: the socket is read if and only if everything it gave has been consumed; and the end may have come. */
  private settle(): void {
    const { port } = this.options;
    const isBlocked = this.blocked !== "no";
    if (!isBlocked) this.leaveSegment();
    if ((this.hasDisconnected || this.isShuttingDown) && this.requestsInFlight === 0) {
      this.isEnded = true;
      port.end(this.hasDisconnected ? "client disconnected" : "server is shutting down");
    } else if (isBlocked !== this.isPaused) {
      this.isPaused = isBlocked;
      if (isBlocked) port.pause();
      else port.resume();
    }
  }

  /** What is left of it belongs to a payload that is to be completed behind it. */
  private leaveSegment(): void {
    const { segment, at, segmentEnd } = this;
    this.segment = noBytes;
    if (at < segmentEnd) this.options.port.receiver?.keep(segment, at, segmentEnd);
  }

  private block(cause: Blocked): void {
    this.blocked = cause;
    if (cause === "memory") this.waitForMemory();
    if (cause === "table" && !this.waitsForSlot) {
      this.waitsForSlot = true;
      this.target.onceNotFull(this.onSlotFree);
    }
  }

  private waitForMemory(): void {
    if (this.waitsForMemory) return;
    this.waitsForMemory = true;
    this.options.pool.onceGiven(this.onMemoryFree);
  }

  private readonly onSlotFree = (): void => {
    this.waitsForSlot = false;
    this.resume();
  };

  private readonly onMemoryFree = (): void => {
    this.waitsForMemory = false;
    this.resume();
  };

  private parse(): void {
    this.blocked = "no";
    // One stamp for the batch: what lies in one segment has arrived at one time.
    this.nowNs = this.target.nowNs();
    while (!this.isEnded && !this.hasDisconnected && this.step());
  }

  /** One step of the conversation; false when the segment is used up, or something blocks. */
  private step(): boolean {
    switch (this.expect) {
      case "header":
        return this.parseHeader();
      case "payload":
        return this.takePayload();
      case "refusedPayload":
        return this.drainPayload();
      case "submit":
        return this.submit(null);
      case "answer":
        return this.answer();
      case "blockStatus":
        return this.answerBlockStatus();
    }
  }

  /** Parses one header and acts on it; false when the segment's end, or a limit, stopped it. */
  private parseHeader(): boolean {
    if (this.requestsInFlight >= this.options.limits.requestsPerConnection) {
      this.block("share");
      return false;
    }
    const { segment, segmentEnd, headerBytes } = this;
    if (this.cutHeaderBytes === 0 && segmentEnd - this.at >= headerBytes) {
      const at = this.at;
      this.at += headerBytes;
      this.onHeader(segment, at);
      return true;
    }
    const taken = Math.min(headerBytes - this.cutHeaderBytes, segmentEnd - this.at);
    this.cutHeader.set(segment.subarray(this.at, this.at + taken), this.cutHeaderBytes);
    this.cutHeaderBytes += taken;
    this.at += taken;
    if (this.cutHeaderBytes < headerBytes) return false;
    this.cutHeaderBytes = 0;
    this.onHeader(this.cutHeader, 0);
    return true;
  }

  private onHeader(bytes: Uint8Array, at: number): void {
    const { key } = this;
    const { isExtended } = this.writer;
    if (readUint32(bytes, at) !== (isExtended ? extendedRequestMagic : requestMagic)) {
      this.isEnded = true;
      this.options.port.abort("client sent a request without the request magic");
      return;
    }
    const commandFlags = (bytes[at + 4] << 8) | bytes[at + 5];
    const command = (bytes[at + 6] << 8) | bytes[at + 7];
    key.cookieHigh = readUint32(bytes, at + 8);
    key.cookieLow = readUint32(bytes, at + 12);
    key.offsetHigh = readUint32(bytes, at + 16);
    key.offsetLow = readUint32(bytes, at + 20);
    // No device has 2^53 bytes, so whatever rounding does to larger numbers leaves them out of bounds.
    this.offsetBytes = key.offsetHigh * two32 + key.offsetLow;
    this.lengthBytes = readUint32(bytes, at + 24);
    if (isExtended) this.lengthBytes = this.lengthBytes * two32 + readUint32(bytes, at + 28);

    if (command === Command.disconnect) {
      this.hasDisconnected = true;
      return;
    }
    this.commandFlags = commandFlags;
    // A device may grow while it is served.
    this.rules.sizeBytes = this.target.sizeBytes;
    const error = this.isShuttingDown
      ? WireError.ESHUTDOWN
      : checkRequest(this.rules, command, commandFlags, this.offsetBytes, this.lengthBytes);
    const hasPayload = isExtended
      ? (commandFlags & CommandFlag.payloadLength) !== 0
      : command === Command.write;
    if (hasPayload) this.expectPayload(error);
    else if (error !== WireError.none) this.expectAnswer(error);
    else this.expectSubmit(command);
  }

  /** A good request without payload. */
  private expectSubmit(command: number): void {
    this.isCache = command === Command.cache;
    this.flags = deviceFlagsOf(this.commandFlags);
    if (command === Command.blockStatus) {
      this.expect = "blockStatus";
    } else if (command === Command.flush) {
      // Both are reserved.
      this.offsetBytes = this.lengthBytes = 0;
      this.op = Op.flush;
      this.expect = "submit";
    } else if (this.lengthBytes === 0) {
      // The protocol leaves the meaning open but forbids to disconnect: nothing asked, nothing to do.
      this.expectAnswer(WireError.none);
    } else {
      this.op = operationOf(command);
      this.expect = "submit";
    }
  }

  private expectAnswer(error: number): void {
    this.verdict = error;
    this.expect = "answer";
  }

  private expectPayload(error: number): void {
    this.payloadBytes = this.hasLanded ? this.lengthBytes : 0;
    if (error !== WireError.none || this.lengthBytes === 0) {
      this.hasLanded = false;
      if (this.lengthBytes > this.options.limits.drainedWriteBytes) {
        this.isEnded = true;
        this.options.port.abort(`client began a write of ${this.lengthBytes} bytes`);
        return;
      }
      this.verdict = error;
      this.expect = "refusedPayload";
      return;
    }
    this.op = Op.write;
    this.isCache = false;
    this.flags = deviceFlagsOf(this.commandFlags);
    this.isLanding = this.hasLanded;
    this.hasLanded = false;
    this.expect = "payload";
  }

  /** The bytes of a refused write still come, and must go, or the stream would be out of step. */
  private drainPayload(): boolean {
    const taken = Math.min(this.lengthBytes - this.payloadBytes, this.segmentEnd - this.at);
    this.at += taken;
    this.payloadBytes += taken;
    if (this.payloadBytes < this.lengthBytes) return false;
    this.expect = "answer";
    return true;
  }

  /** Brings a write to the device once its payload is complete. */
  private takePayload(): boolean {
    const lengthBytes = this.lengthBytes;
    const { receiver } = this.options.port;
    if (this.isLanding) {
      if (this.payloadBytes < lengthBytes || !this.submit(null)) return false;
      this.isLanding = false;
      return true;
    }
    if (this.payload === null && this.segmentEnd - this.at >= lengthBytes) {
      const at = this.at;
      if (!this.submit(this.segment.subarray(at, at + lengthBytes))) return false;
      this.at = at + lengthBytes;
      return true;
    }
    if (this.payload === null) {
      // Small enough to be completed where it has begun.
      if (receiver !== null && lengthBytes <= receiver.keptBytes) return false;
      if (receiver === null && this.at === this.segmentEnd) return false;
      if (receiver !== null && this.target.canLand?.(this.offsetBytes, lengthBytes) === true) {
        receiver.land(this.segment, this.at, this.segmentEnd, this.offsetBytes, lengthBytes);
        this.at = this.segmentEnd;
        this.isLanding = true;
        return false;
      }
      this.payload = this.options.pool.take(lengthBytes);
      if (this.payload === null) {
        this.block("memory");
        return false;
      }
    }
    const taken = Math.min(lengthBytes - this.payloadBytes, this.segmentEnd - this.at);
    this.payload.bytes.set(this.segment.subarray(this.at, this.at + taken), this.payloadBytes);
    this.at += taken;
    this.payloadBytes += taken;
    if (this.payloadBytes < lengthBytes) {
      receiver?.fill(this.payload.bytes, this.payloadBytes, lengthBytes);
      return false;
    }
    if (!this.submit(this.payload.bytes.subarray(0, lengthBytes))) return false;
    this.options.pool.give(this.payload);
    this.payload = null;
    return true;
  }

  /** False when the table is full: the request stays as it is, to be submitted later. */
  private submit(payload: Uint8Array | null): boolean {
    const { requests } = this.target;
    const slot = requests.acquire();
    if (slot === noSlot) {
      this.block("table");
      return false;
    }
    const { notes } = this.options;
    notes.cookieHigh[slot] = this.key.cookieHigh;
    notes.cookieLow[slot] = this.key.cookieLow;
    notes.offsetHigh[slot] = this.key.offsetHigh;
    notes.offsetLow[slot] = this.key.offsetLow;
    notes.isCache[slot] = this.isCache ? 1 : 0;
    notes.isWhole[slot] = (this.commandFlags & CommandFlag.df) === 0 ? 0 : 1;
    requests.op[slot] = this.op;
    requests.flags[slot] = this.flags;
    requests.queue[slot] = this.options.queue;
    requests.offsetBytes[slot] = this.offsetBytes;
    requests.lengthBytes[slot] = this.lengthBytes;
    requests.arrivalNs[slot] = this.nowNs;
    this.inFlight++;
    this.hasNews = true;
    this.expect = "header";
    this.target.submit(slot, payload, this);
    return true;
  }

  private answer(): boolean {
    const out = this.reserve(maximumResultBytes);
    if (out === null) return false;
    const { outbox } = this;
    outbox.advance(this.writer.writeResult(out, outbox.position, this.key, this.verdict));
    this.expect = "header";
    return true;
  }

  /** Maps are read at once: they are no business of the device's model. */
  private answerBlockStatus(): boolean {
    const { session } = this.options;
    const out = this.reserve(blockStatusBytes(session.contexts.length));
    if (out === null) return false;
    const lengthBytes = writeBlockStatus(out, this.outbox.position, {
      writer: this.writer,
      key: this.key,
      contexts: session.contexts,
      target: this.target,
      offsetBytes: this.offsetBytes,
      lengthBytes: this.lengthBytes,
      blockBytes: this.rules.alignmentBytes,
      isOneAsked: (this.commandFlags & CommandFlag.requestOne) !== 0,
    });
    this.outbox.advance(lengthBytes);
    this.expect = "header";
    return true;
  }

  /** Room for an answer; null when parsing has to wait for it. */
  private reserve(lengthBytes: number): Buffer | null {
    if (!this.outbox.canTake(lengthBytes)) {
      this.block("replies");
      return null;
    }
    const out = this.outbox.reserve(lengthBytes);
    if (out === null) this.block("memory");
    return out;
  }

  /** Writes the replies of completed requests, in the order of completion, as far as the client reads them. */
  private sendReplies(): void {
    while (this.firstDone !== noSlot) {
      const slot = this.firstDone;
      if (!this.sendReply(slot)) return;
      this.firstDone = this.options.notes.next[slot];
      if (this.target.requests.isFull) this.hasNews = true;
      this.target.requests.release(slot);
      this.inFlight--;
    }
  }

  private sendReply(slot: RequestSlot): boolean {
    const { outbox, doneKey } = this;
    const { notes } = this.options;
    const { requests } = this.target;
    const isRead = requests.op[slot] === Op.read && notes.isCache[slot] === 0;
    const lengthBytes = isRead ? this.readReply.plan(slot, notes.isWhole[slot] === 1) : maximumResultBytes;
    if (!outbox.canTake(lengthBytes)) return false;
    const out = outbox.reserve(isRead ? this.readReply.bufferBytes : lengthBytes);
    if (out === null) {
      this.waitForMemory();
      return false;
    }
    doneKey.cookieHigh = notes.cookieHigh[slot];
    doneKey.cookieLow = notes.cookieLow[slot];
    doneKey.offsetHigh = notes.offsetHigh[slot];
    doneKey.offsetLow = notes.offsetLow[slot];
    if (isRead) this.readReply.write(out, doneKey);
    else outbox.advance(this.writeEnd(out, outbox.position, slot));
    return true;
  }

  /** The reply to a completed request that has no data to give. */
  private writeEnd(out: Buffer, at: number, slot: RequestSlot): number {
    const { writer, doneKey } = this;
    const error = wireErrorOfStatus[this.target.requests.status[slot]];
    const errorAtBytes =
      error !== WireError.none && writer.isChunked ? this.target.errorOffsetBytes(slot) : -1;
    return errorAtBytes >= 0
      ? writer.writeErrorAt(out, at, doneKey, error, errorAtBytes)
      : writer.writeResult(out, at, doneKey, error);
  }
}

function deviceFlagsOf(commandFlags: number): number {
  let flags = 0;
  if ((commandFlags & CommandFlag.fua) !== 0) flags |= Flag.fua;
  if ((commandFlags & CommandFlag.noHole) !== 0) flags |= Flag.noHole;
  return flags;
}

function operationOf(command: number): number {
  switch (command) {
    case Command.read:
    // Bringing bytes into the drive's cache takes a read; only its data stays there.
    case Command.cache:
      return Op.read;
    case Command.trim:
      return Op.trim;
    default:
      return Op.zeroes;
  }
}

function readUint32(bytes: Uint8Array, at: number): number {
  return ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
}
