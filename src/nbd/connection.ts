/**
 * One client: a socket, first in the handshake, then in transmission. Whatever goes wrong here ends this connection
 * and nothing else.
 */
import type { Duplex } from "node:stream";
import { assert } from "../base/assert.js";
import type { BlockTarget } from "../base/target.js";
import type { BufferPool } from "./buffer-pool.js";
import type { NbdExport } from "./export.js";
import { GatherOutbox } from "./gather-outbox.js";
import { Handshake, type Session } from "./handshake.js";
import type { NbdLimits } from "./limits.js";
import type { NbdLogger } from "./logger.js";
import { MovedSocket } from "./moved-socket.js";
import { type Outbox, StreamOutbox } from "./outbox.js";
import { descriptorOf, takenBytes, type WatchedPeer } from "./peer-watch.js";
import { plainSettings } from "./plain-settings.js";
import type { SlotNotes } from "./slot-notes.js";
import type { TlsSettings } from "./tls.js";
import { Transmission } from "./transmission.js";

/** What carries the bytes, as far as a connection in transmission uses it: a stream, or a socket the addon moves bytes for. */
interface Wire {
  readonly bytesRead: number;
  pause(): unknown;
  resume(): unknown;
  /** Closes our side when everything is sent, then calls `done`. */
  end(done: () => void): unknown;
  destroy(): unknown;
}

/** A `net.Socket`, as far as a connection uses it. */
export interface ByteStream extends Duplex {
  readonly bytesRead: number;
}

export interface ConnectionOptions {
  socket: ByteStream;
  /** Counts connections from 0; also the hardware queue, modulo what the request table can hold. */
  number: number;
  exports: readonly NbdExport[];
  tls: TlsSettings | null;
  limits: NbdLimits;
  pool: BufferPool;
  notesOf: (target: BlockTarget) => SlotNotes;
  logger: NbdLogger;
  /** Agreed on elsewhere: there is no handshake. */
  session?: Session;
  onClose: () => void;
}

/** `RequestTable.queue` has 16 bits. */
const queueCount = 65536;

export class Connection implements WatchedPeer {
  private readonly options: ConnectionOptions;
  /** The client's socket; after STARTTLS the stream that decrypts it. */
  private socket: ByteStream;
  /** The socket, until the addon takes over. */
  private wire: Wire;
  private moved: MovedSocket | null = null;
  private readonly handshake: Handshake;
  private outbox: Outbox | null = null;
  private transmission: Transmission | null = null;
  private handshakeDeadline: NodeJS.Timeout | null = null;
  private linger: NodeJS.Timeout | null = null;
  private isEnding = false;
  private isReadingPaused = false;

  constructor(options: ConnectionOptions) {
    const { socket, exports, limits, tls } = options;
    this.options = options;
    this.socket = socket;
    this.wire = socket;
    this.handshake = new Handshake(exports, limits, tls?.mode ?? "off", {
      send: (bytes) => void this.socket.write(bytes),
      startTls: () => this.startTls(),
      end: (reason) => this.end(reason),
    });
    this.startHandshakeDeadline(limits.handshakeMs);
    socket.on("data", this.onData);
    socket.on("end", this.onPeerEnd);
    socket.on("error", this.onError);
    socket.on("close", this.onClose);
    this.log("client connected");
    if (options.session === undefined) this.handshake.start();
    else this.transmission = this.enter(options.session);
  }

  /** The client has taken its leave. */
  get hasClientDisconnected(): boolean {
    return this.transmission?.isDisconnecting ?? false;
  }

  get requestsInFlight(): number {
    return this.transmission?.requestsInFlight ?? 0;
  }

  get holdsPayload(): boolean {
    return this.transmission?.holdsPayload ?? false;
  }

  get holdsSlots(): boolean {
    return this.transmission?.holdsSlots ?? false;
  }

  get waitsForSlot(): boolean {
    return this.transmission?.waitsForTable ?? false;
  }

  get target(): BlockTarget | null {
    return this.handshake.session?.export.target ?? this.options.session?.export.target ?? null;
  }

  get descriptor(): number {
    return this.moved?.descriptor ?? descriptorOf(this.options.socket);
  }

  get isPaused(): boolean {
    return this.isReadingPaused && !this.isEnding;
  }

  get progress(): number {
    const takenByStream = this.moved === null ? takenBytes(this.options.socket) : 0;
    return this.wire.bytesRead + (this.outbox?.progress ?? 0) + takenByStream;
  }

  /** Finishes what is in flight, refuses the rest, then closes. */
  shutDown(): void {
    if (this.transmission !== null) {
      this.transmission.shutDown();
      return;
    }
    this.handshake.shutDown();
    this.startHandshakeDeadline(this.options.limits.lingerMs);
  }

  /** Closes at once. */
  destroy(reason: string): void {
    this.log(reason);
    this.wire.destroy();
  }

  private readonly onData = (bytes: Buffer): void => {
    if (this.isEnding) return;
    if (this.transmission !== null) {
      this.transmission.receive(bytes, 0, bytes.length);
      return;
    }
    const at = this.handshake.receive(bytes, 0);
    if (this.handshake.session === null) return;
    this.transmission = this.enter(this.handshake.session);
    if (at < bytes.length) this.transmission.receive(bytes, at, bytes.length);
  };

  /** Leaves the socket to TLS, and goes on with what comes out of it. The deadline of the handshake holds on. */
  private startTls(): void {
    const { socket } = this;
    const { tls } = this.options;
    assert(tls !== null, "the handshake offers TLS only where there is some");
    socket.off("data", this.onData);
    socket.off("end", this.onPeerEnd);
    // Node does not say that a client has gone in the midst of a handshake with TLS.
    this.isReadingPaused = true;
    const onSecure = (secure: ByteStream) => {
      this.isReadingPaused = false;
      this.socket = secure;
      this.wire = secure;
      secure.on("data", this.onData);
      secure.on("end", this.onPeerEnd);
      secure.on("error", this.onError);
      this.log("client switched to TLS");
    };
    tls.handshakes.begin(socket, onSecure, (error) => this.log(`TLS failed: ${error.message}`));
  }

  private readonly onError = (error: Error): void => this.log(`socket failed: ${error.message}`);

  private enter(session: Session): Transmission {
    this.stopHandshakeDeadline();
    this.log(`client opened export ${JSON.stringify(session.export.name)}`);
    const { pool, limits } = this.options;
    const { target } = session.export;
    const moved = this.moveSocket(target);
    if (moved !== null && target.nativeService != null) {
      moved.answerPlain(target.nativeService, plainSettings(session, limits, target.nativeService));
    }
    const onWritten = (): void => this.transmission?.onWritten();
    this.outbox =
      moved === null
        ? new StreamOutbox(this.socket, pool, limits.queuedReplyBytes, onWritten)
        : new GatherOutbox(moved, pool, limits.queuedReplyBytes, {
            hasMemory: target.nativeMemory != null,
            onWritten,
          });
    return new Transmission({
      session,
      queue: this.options.number % queueCount,
      outbox: this.outbox,
      pool,
      notes: this.options.notesOf(session.export.target),
      limits,
      port: {
        receiver: moved,
        pause: () => this.setReading(false),
        resume: () => this.setReading(true),
        end: (reason) => this.end(reason),
        abort: (reason) => this.destroy(reason),
      },
    });
  }

  /** From here on the addon moves the bytes, unless TLS sits between, or this is no socket of the system's. */
  private moveSocket(target: BlockTarget): MovedSocket | null {
    const { socket } = this;
    if (socket !== this.options.socket) return null;
    const moved = MovedSocket.takeOver(socket, target, {
      onInput: (input, fromBytes, endBytes, before) => {
        if (!this.isEnding) this.transmission?.receive(input, fromBytes, endBytes, before);
      },
      onEnd: this.onPeerEnd,
      onError: this.onError,
      onClose: this.onClose,
    });
    if (moved === null) return null;
    socket.off("data", this.onData);
    socket.off("end", this.onPeerEnd);
    socket.off("error", this.onError);
    socket.off("close", this.onClose);
    moved.onAnswered = () => this.transmission?.resume();
    this.wire = moved;
    this.moved = moved;
    return moved;
  }

  private setReading(isReading: boolean): void {
    this.isReadingPaused = !isReading;
    if (isReading) this.wire.resume();
    else this.wire.pause();
  }

  /** Sends what is queued, then closes our side, and waits a little for the client to close its own. */
  private end(reason: string): void {
    if (this.isEnding) return;
    this.isEnding = true;
    this.log(reason);
    // Bytes left unread would turn the close into a reset, which may overtake our last replies.
    this.wire.resume();
    this.wire.end(() => {
      this.linger = setTimeout(() => this.wire.destroy(), this.options.limits.lingerMs);
      this.linger.unref();
    });
  }

  /**
   * The client will send nothing more. After DISC it may still wait for replies; without DISC it has vanished, and
   * what it had in flight is forgotten.
   */
  private readonly onPeerEnd = (): void => {
    if (this.transmission?.isDisconnecting !== true && !this.isEnding) this.destroy("client vanished");
  };

  private readonly onClose = (): void => {
    this.stopHandshakeDeadline();
    if (this.linger !== null) clearTimeout(this.linger);
    this.transmission?.abandon();
    this.options.onClose();
    this.log("connection closed");
  };

  private startHandshakeDeadline(deadlineMs: number): void {
    this.stopHandshakeDeadline();
    this.handshakeDeadline = setTimeout(() => {
      this.destroy(`handshake took more than ${deadlineMs} ms`);
    }, deadlineMs);
    this.handshakeDeadline.unref();
  }

  private stopHandshakeDeadline(): void {
    if (this.handshakeDeadline !== null) clearTimeout(this.handshakeDeadline);
    this.handshakeDeadline = null;
  }

  private log(message: string): void {
    this.options.logger.debug({ connection: this.options.number }, message);
  }
}
