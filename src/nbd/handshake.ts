/**
 * The server's side of the fixed newstyle handshake: from the greeting to the moment the client has chosen an export.
 *
 * Knows no sockets: bytes are handed to `receive`, which consumes them up to the end of the handshake and leaves the
 * rest, since a client may send its first request in the same segment. Unknown options are skipped and answered, so
 * newer clients stay in step; what breaks the framing, or costs more than `NbdLimits` allows, closes the connection.
 *
 * Source: NetworkBlockDevice/nbd, `doc/proto.md`, "Negotiation".
 */
import {
  clientFlagsBytes,
  exportNamePaddingBytes,
  greetingBytes,
  greetingMagic,
  HandshakeFlag,
  Info,
  maximumPayloadBytes,
  Option,
  OptionReply,
  optionHeaderBytes,
  optionMagic,
  optionReplyHeaderBytes,
  optionReplyMagic,
} from "./constants.js";
import { findExport, minimumBlockBytesOf, type NbdExport, transmissionFlagsOf } from "./export.js";
import type { NbdLimits } from "./limits.js";
import { findMetaContexts, type MetaContext } from "./meta-context.js";
import { decodeString, encodeString, parseInfoRequest, parseMetaQuery } from "./option-data.js";
import type { ReplyMode } from "./replies.js";
import type { TlsMode } from "./tls.js";

/** What the handshake has agreed on: all that transmission needs to know of it. */
export interface Session {
  export: NbdExport;
  transmissionFlags: number;
  replyMode: ReplyMode;
  /** What BLOCK_STATUS answers with, one chunk each. */
  contexts: readonly MetaContext[];
}

export interface HandshakePort {
  /** Go over to TLS; from then on `receive` is given what was decrypted. */
  startTls(): void;
  send(bytes: Uint8Array): void;
  /** Close after what was sent has gone out; `reason` is for the log. */
  end(reason: string): void;
}

/** What `receive` is waiting for. */
type Expect = "clientFlags" | "optionHeader" | "optionData" | "nothing";

const serverFlags = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes;

export class Handshake {
  /** Set when the client has chosen an export: whatever follows belongs to transmission. */
  session: Session | null = null;

  private readonly exports: readonly NbdExport[];
  private readonly limits: NbdLimits;
  private readonly port: HandshakePort;

  private readonly tlsMode: TlsMode;
  private isSecure = false;
  /** What lies behind STARTTLS in the same segment was not encrypted, whoever put it there: it must not be heeded. */
  private isRestDiscarded = false;

  private expect: Expect = "clientFlags";
  /** Collects what is expected, wherever the segments were cut. */
  private held: Buffer = Buffer.allocUnsafe(clientFlagsBytes);
  private heldBytes = 0;
  private option = 0;
  private optionCount = 0;
  private hasPadding = true;
  private isFixedNewstyle = false;
  private isShuttingDown = false;
  private replyMode: ReplyMode = "simple";
  /** What SET_META_CONTEXT chose, for the export it named. */
  private contexts: readonly MetaContext[] = [];
  private contextsName: string | null = null;
  /** Exports whose block sizes the client has asked for, and so will keep to. */
  private readonly blockSizesTold = new Set<NbdExport>();

  constructor(exports: readonly NbdExport[], limits: NbdLimits, tlsMode: TlsMode, port: HandshakePort) {
    this.tlsMode = tlsMode;
    this.exports = exports;
    this.limits = limits;
    this.port = port;
  }

  /** Sends the greeting. */
  start(): void {
    const greeting = Buffer.allocUnsafe(greetingBytes);
    greeting.writeUInt32BE(greetingMagic.high, 0);
    greeting.writeUInt32BE(greetingMagic.low, 4);
    greeting.writeUInt32BE(optionMagic.high, 8);
    greeting.writeUInt32BE(optionMagic.low, 12);
    greeting.writeUInt16BE(serverFlags, 16);
    this.port.send(greeting);
  }

  /** From now on every option but ABORT is refused, and the client may take its leave. */
  shutDown(): void {
    this.isShuttingDown = true;
  }

  /** Consumes `bytes` from `from` on, up to the end of the handshake; returns where it stopped. */
  receive(bytes: Uint8Array, from: number): number {
    let at = from;
    while (this.expect !== "nothing") {
      const taken = Math.min(this.held.length - this.heldBytes, bytes.length - at);
      this.held.set(bytes.subarray(at, at + taken), this.heldBytes);
      this.heldBytes += taken;
      at += taken;
      if (this.heldBytes < this.held.length) return at;
      this.onHeld();
      if (this.isRestDiscarded) {
        this.isRestDiscarded = false;
        return bytes.length;
      }
    }
    // After an end the rest is of no interest; after a choice it is the first request.
    return this.session === null ? bytes.length : at;
  }

  private await(expect: Expect, lengthBytes: number): void {
    this.expect = expect;
    this.held = Buffer.allocUnsafe(lengthBytes);
    this.heldBytes = 0;
  }

  private end(reason: string): void {
    this.expect = "nothing";
    this.port.end(reason);
  }

  private onHeld(): void {
    switch (this.expect) {
      case "clientFlags":
        this.onClientFlags(this.held.readUInt32BE(0));
        break;
      case "optionHeader":
        this.onOptionHeader(this.held);
        break;
      case "optionData":
        this.onOption(this.held);
        break;
    }
  }

  private onClientFlags(flags: number): void {
    if ((flags & ~serverFlags) !== 0) {
      this.end(`client set unknown handshake flags 0x${flags.toString(16)}`);
      return;
    }
    this.isFixedNewstyle = (flags & HandshakeFlag.fixedNewstyle) !== 0;
    this.hasPadding = (flags & HandshakeFlag.noZeroes) === 0;
    this.await("optionHeader", optionHeaderBytes);
  }

  private onOptionHeader(header: Buffer): void {
    if (header.readUInt32BE(0) !== optionMagic.high || header.readUInt32BE(4) !== optionMagic.low) {
      this.end("client sent an option without the option magic");
      return;
    }
    this.option = header.readUInt32BE(8);
    const lengthBytes = header.readUInt32BE(12);
    this.optionCount++;
    if (this.optionCount > this.limits.options) {
      this.end(`client sent more than ${this.limits.options} options`);
    } else if (lengthBytes > this.limits.optionBytes) {
      this.end(`client sent option ${this.option} with ${lengthBytes} bytes`);
    } else {
      this.await("optionData", lengthBytes);
    }
  }

  private onOption(data: Buffer): void {
    this.await("optionHeader", optionHeaderBytes);
    if (this.isShuttingDown && this.option !== Option.abort) {
      if (this.option === Option.exportName) this.end("server is shutting down");
      else this.replyError(OptionReply.errShutdown, "the server is shutting down");
      return;
    }
    if (this.tlsMode === "require" && !this.isSecure && !isAllowedInTheClear(this.option)) {
      if (this.option === Option.exportName) this.end("client used EXPORT_NAME without TLS");
      else this.replyError(OptionReply.errTlsRequired, "TLS is required: begin with STARTTLS");
      return;
    }
    switch (this.option) {
      case Option.starttls:
        this.onStartTls(data);
        break;
      case Option.exportName:
        this.onExportName(data);
        break;
      case Option.abort:
        this.reply(OptionReply.ack);
        this.end("client aborted the handshake");
        break;
      case Option.list:
        this.onList(data);
        break;
      case Option.info:
      case Option.go:
        this.onInfoOrGo(data);
        break;
      case Option.structuredReply:
        this.onStructuredReply(data);
        break;
      case Option.extendedHeaders:
        this.onExtendedHeaders(data);
        break;
      case Option.listMetaContext:
      case Option.setMetaContext:
        this.onMetaContext(data);
        break;
      default:
        this.replyError(OptionReply.errUnsupported, `option ${this.option} is not supported`);
    }
  }

  /** The oldest way to choose an export: no reply but the export itself, and no way to refuse but to close. */
  private onExportName(data: Buffer): void {
    if (this.replyMode === "extended") {
      this.end("client used EXPORT_NAME after extended headers");
      return;
    }
    const name = decodeString(data);
    const chosen = name === null ? undefined : findExport(this.exports, name);
    if (chosen === undefined || this.isOutOfReach(chosen)) {
      this.end(`client asked for the unknown export ${JSON.stringify(name)} by EXPORT_NAME`);
      return;
    }
    if (this.mustAskForBlockSizes(chosen)) {
      this.end("client used EXPORT_NAME for an export with enforced block sizes, without asking for them");
      return;
    }
    const flags = transmissionFlagsOf(chosen, this.replyMode);
    const answer = Buffer.alloc(10 + (this.hasPadding ? exportNamePaddingBytes : 0));
    answer.writeBigUInt64BE(BigInt(chosen.target.sizeBytes), 0);
    answer.writeUInt16BE(flags, 8);
    this.port.send(answer);
    this.enter(chosen, name ?? "", flags);
  }

  private onStartTls(data: Buffer): void {
    if (data.length > 0) {
      this.replyError(OptionReply.errInvalid, "STARTTLS takes no data");
    } else if (this.tlsMode === "off" || !this.isFixedNewstyle) {
      this.replyError(OptionReply.errPolicy, "this server does not speak TLS");
    } else if (this.isSecure) {
      this.replyError(OptionReply.errInvalid, "TLS is in force already");
    } else {
      this.reply(OptionReply.ack);
      // Whatever was agreed on in the clear may be somebody else's wish.
      this.replyMode = "simple";
      this.contexts = [];
      this.contextsName = null;
      this.blockSizesTold.clear();
      this.isSecure = true;
      this.isRestDiscarded = true;
      this.port.startTls();
    }
  }

  /** "Size constraints": who enforces other sizes than the default may refuse clients that do not ask for them. */
  private mustAskForBlockSizes(chosen: NbdExport): boolean {
    return minimumBlockBytesOf(chosen) > 1 && !this.blockSizesTold.has(chosen);
  }

  private isOutOfReach({ isTlsRequired }: NbdExport): boolean {
    return isTlsRequired === true && !this.isSecure;
  }

  private onStructuredReply(data: Buffer): void {
    if (data.length > 0) {
      this.replyError(OptionReply.errInvalid, "STRUCTURED_REPLY takes no data");
    } else if (this.replyMode === "extended") {
      this.replyError(OptionReply.errExtendedHeadersRequired, "extended headers are negotiated already");
    } else {
      this.replyMode = "structured";
      this.reply(OptionReply.ack);
    }
  }

  private onExtendedHeaders(data: Buffer): void {
    if (data.length > 0) {
      this.replyError(OptionReply.errInvalid, "EXTENDED_HEADERS takes no data");
    } else {
      this.replyMode = "extended";
      this.reply(OptionReply.ack);
    }
  }

  private onMetaContext(data: Buffer): void {
    const isListing = this.option === Option.listMetaContext;
    // A choice replaces the one before, even if it fails.
    if (!isListing) this.contexts = [];
    if (!isListing && this.replyMode === "simple") {
      this.replyError(OptionReply.errInvalid, "negotiate structured replies or extended headers first");
      return;
    }
    const query = parseMetaQuery(data);
    if (query === null) {
      this.replyError(OptionReply.errInvalid, "the lengths in the option do not fit together");
      return;
    }
    const chosen = findExport(this.exports, query.name);
    if (chosen === undefined) {
      this.replyError(OptionReply.errUnknown, `no export is named ${JSON.stringify(query.name)}`);
      return;
    }
    if (this.isOutOfReach(chosen)) {
      this.replyError(OptionReply.errTlsRequired, "the export is for clients with TLS: begin with STARTTLS");
      return;
    }
    const contexts = findMetaContexts(query.queries, isListing);
    for (const { name, id } of contexts) {
      const number = Buffer.allocUnsafe(4);
      number.writeUInt32BE(isListing ? 0 : id, 0);
      this.reply(OptionReply.metaContext, number, Buffer.from(name));
    }
    this.reply(OptionReply.ack);
    if (isListing) return;
    this.contexts = contexts;
    this.contextsName = query.name;
  }

  private onList(data: Buffer): void {
    if (data.length > 0) {
      this.replyError(OptionReply.errInvalid, "LIST takes no data");
      return;
    }
    for (const candidate of this.exports) {
      if (this.isOutOfReach(candidate)) continue;
      const { name, target } = candidate;
      const nameBytes = Buffer.from(name);
      const length = Buffer.allocUnsafe(4);
      length.writeUInt32BE(nameBytes.length, 0);
      this.reply(OptionReply.server, length, nameBytes, encodeString(target.description));
    }
    this.reply(OptionReply.ack);
  }

  private onInfoOrGo(data: Buffer): void {
    const request = parseInfoRequest(data);
    if (request === null) {
      this.replyError(OptionReply.errInvalid, "the lengths in the option do not fit together");
      return;
    }
    const chosen = findExport(this.exports, request.name);
    if (chosen === undefined) {
      this.replyError(OptionReply.errUnknown, `no export is named ${JSON.stringify(request.name)}`);
      return;
    }
    if (this.isOutOfReach(chosen)) {
      this.replyError(OptionReply.errTlsRequired, "the export is for clients with TLS: begin with STARTTLS");
      return;
    }
    const flags = transmissionFlagsOf(chosen, this.replyMode);
    if (request.infos.has(Info.blockSize)) this.blockSizesTold.add(chosen);
    if (this.mustAskForBlockSizes(chosen)) {
      // Told all the same, which saves the client a round.
      this.replyInfo(chosen, flags, Info.blockSize);
      this.replyError(
        OptionReply.errBlockSizeRequired,
        "the export enforces its block sizes: ask for BLOCK_SIZE",
      );
      return;
    }
    this.replyInfo(chosen, flags, Info.export);
    for (const info of request.infos) this.replyInfo(chosen, flags, info);
    this.reply(OptionReply.ack);
    if (this.option === Option.go) this.enter(chosen, request.name, flags);
  }

  /** Information nobody knows is left out, as the protocol asks. */
  private replyInfo(chosen: NbdExport, flags: number, info: number): void {
    const { target } = chosen;
    const type = Buffer.allocUnsafe(2);
    type.writeUInt16BE(info, 0);
    if (info === Info.export) {
      const body = Buffer.allocUnsafe(10);
      body.writeBigUInt64BE(BigInt(target.sizeBytes), 0);
      body.writeUInt16BE(flags, 8);
      this.reply(OptionReply.info, type, body);
    } else if (info === Info.name) {
      this.reply(OptionReply.info, type, Buffer.from(chosen.name));
    } else if (info === Info.description) {
      this.reply(OptionReply.info, type, encodeString(target.description));
    } else if (info === Info.blockSize) {
      const body = Buffer.allocUnsafe(12);
      body.writeUInt32BE(minimumBlockBytesOf(chosen), 0);
      body.writeUInt32BE(Math.max(target.preferredBlockBytes, target.minimumBlockBytes, 512), 4);
      body.writeUInt32BE(maximumPayloadBytes, 8);
      this.reply(OptionReply.info, type, body);
    }
  }

  private enter(chosen: NbdExport, name: string, transmissionFlags: number): void {
    this.expect = "nothing";
    // Contexts were chosen for one name: opening another leaves none.
    const contexts = this.contextsName === name ? this.contexts : [];
    this.session = { export: chosen, transmissionFlags, replyMode: this.replyMode, contexts };
  }

  private replyError(type: number, text: string): void {
    this.reply(type, encodeString(text));
  }

  private reply(type: number, ...parts: Buffer[]): void {
    const header = Buffer.allocUnsafe(optionReplyHeaderBytes);
    header.writeUInt32BE(optionReplyMagic.high, 0);
    header.writeUInt32BE(optionReplyMagic.low, 4);
    header.writeUInt32BE(this.option, 8);
    header.writeUInt32BE(type, 12);
    header.writeUInt32BE(
      parts.reduce((sum, part) => sum + part.length, 0),
      16,
    );
    this.port.send(Buffer.concat([header, ...parts]));
  }
}

function isAllowedInTheClear(option: number): boolean {
  return option === Option.starttls || option === Option.abort;
}
