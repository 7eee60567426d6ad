/**
 * A client's socket in the transmission phase, its bytes moved by the addon (`native/nbd/socket-mover.cc`) where Node's own
 * would cost more than the requests in them. Accepting, the handshake and TLS stay with `net`; what is not a plain socket, or
 * not on Linux, stays there for good.
 *
 * Requests arrive in one static buffer, a long payload in the buffer meant for it; replies are gathered by `GatherOutbox`.
 */
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { getSystemErrorName } from "node:util";
import { loadNative, type NativeSocketMover, SocketEvent } from "../base/native.js";
import type { BlockTarget, NativeService } from "../base/target.js";
import { DescriptorStream } from "./descriptor-stream.js";
import { moverCells } from "./mover-cells.js";
import { MoverMemories, type MoverMemory } from "./mover-memory.js";
import { descriptorOf } from "./peer-watch.js";
import { Before, type PayloadReceiver } from "./transmission.js";

/** Payloads up to this size are completed in the input buffer where the addon answers; longer ones are worth a destination of their own. */
export const keptBytes = 32 * 1024;
/** And where the device decides each request: as small as a payload's own reads bear, see below. */
const decidedKeptBytes = 12 * 1024;
/**
 * Room for what is read at once. Where the addon answers: 31 writes of 4 KiB; more would leave the processor's second cache for nothing.
 * Where the device decides each request, replies that fall due meanwhile wait for all that was read: 3 writes. With 8 of them the 99th
 * percentile of a collecting drive's lateness was 189 us, with 3 it is 171 (medians of three runs in turns of each).
 */
const answeredInputBytes = 128 * 1024;
const decidedInputBytes = decidedKeptBytes + 4096;
/** Those of this thread's sockets. */
const memories = {
  answered: new MoverMemories(answeredInputBytes),
  decided: new MoverMemories(decidedInputBytes),
};

export interface MovedSocketHandlers {
  /**
   * These bytes of `input` are there, to be consumed, or kept, before this returns, or while not reading.
   *
   * @param before one of `Before`
   */
  onInput(input: Uint8Array, fromBytes: number, endBytes: number, before: number): void;
  onEnd(): void;
  onError(error: Error): void;
  onClose(): void;
}

export class MovedSocket implements PayloadReceiver {
  readonly keptBytes: number;
  /** Called when some of what waited has been sent. */
  onSent: () => void = () => undefined;
  /** Called when the addon has answered all it had in hand, if `setIdle(false)` was said. */
  onAnswered: () => void = () => undefined;
  readonly inserts: Float64Array;
  private readonly input: Uint8Array;
  private readonly memory: MoverMemory;
  private readonly memories: MoverMemories;
  private readonly state = new Float64Array(
    new ArrayBuffer(moverCells.count * Float64Array.BYTES_PER_ELEMENT),
  );
  private readonly handlers: MovedSocketHandlers;
  private readonly mover: NativeSocketMover;
  private isClosed = false;
  private hasPeerEnded = false;
  private isShut = false;
  private whenShut: () => void = () => undefined;

  private constructor(
    Mover: NonNullable<ReturnType<typeof loadNative>["SocketMover"]>,
    fd: number,
    target: Pick<BlockTarget, "nativeMemory" | "nativeService">,
    handlers: MovedSocketHandlers,
  ) {
    const isDecided = target.nativeService == null;
    this.keptBytes = isDecided ? decidedKeptBytes : keptBytes;
    this.memories = isDecided ? memories.decided : memories.answered;
    this.memory = this.memories.take();
    this.input = this.memory.input;
    this.inserts = this.memory.inserts;
    this.handlers = handlers;
    const deviceMemory = target.nativeMemory ?? null;
    this.mover = new Mover(fd, deviceMemory, this.input, this.state, this.inserts, (events) =>
      this.onEvents(events),
    );
  }

  /**
   * Takes over from a plain socket, which then is closed: its listeners should be removed. Null when it cannot be done; the socket
   * is as it was then.
   *
   * @param target in whose memory `insert`ed pieces of replies lie, if it has any
   */
  static takeOver(
    stream: Duplex,
    target: Pick<BlockTarget, "nativeMemory" | "nativeService">,
    handlers: MovedSocketHandlers,
  ): MovedSocket | null {
    const { SocketMover } = loadNative();
    const isSocket = stream instanceof Socket || stream instanceof DescriptorStream;
    const fd = isSocket ? descriptorOf(stream) : -1;
    // A client that has not read its handshake yet has bytes waiting within the stream.
    const isQuiet = stream.writableLength === 0 && stream.readableLength === 0;
    if (SocketMover === undefined || fd < 0 || !isQuiet) return null;
    const moved = new MovedSocket(SocketMover, fd, target, handlers);
    // The addon has a duplicate of the descriptor: this closes Node's and leaves the connection as it is.
    stream.on("error", () => undefined);
    stream.destroy();
    return moved;
  }

  get bytesRead(): number {
    return this.state[moverCells.received];
  }

  /** Bytes to be sent since the start, the sent ones included: those the addon has answered with too. */
  get bytesQueued(): number {
    return this.state[moverCells.queued];
  }

  get bytesSent(): number {
    return this.state[moverCells.sent];
  }

  /** Requests that have arrived and will be answered by the addon. */
  get requestsInHand(): number {
    return this.state[moverCells.inHand];
  }

  /** The file descriptor; -1 once closed. */
  get descriptor(): number {
    return this.mover.descriptor;
  }

  pause(): void {
    this.mover.setReading(false);
  }

  resume(): void {
    this.mover.setReading(true);
  }

  /** Lets the addon answer plain requests while the device and `setIdle` allow it. */
  answerPlain(service: NativeService, settings: Float64Array): void {
    const { latenciesNs, inHand, counters, clock } = service;
    this.mover.answerPlain(settings, latenciesNs, inHand, counters, clock);
  }

  setIdle(isIdle: boolean): void {
    this.state[moverCells.idle] = isIdle ? 1 : 0;
  }

  keep(segment: Uint8Array, from: number, to: number): void {
    if (segment === this.input) this.input.copyWithin(0, from, to);
    else this.input.set(segment.subarray(from, to));
    this.state[moverCells.kept] = to - from;
  }

  fill(bytes: Uint8Array, from: number, to: number): void {
    this.mover.fill(bytes, from, to);
  }

  land(segment: Uint8Array, from: number, to: number, offsetBytes: number, lengthBytes: number): void {
    this.mover.land(segment, from, to, offsetBytes, lengthBytes);
  }

  /** As the addon's: true when everything is sent. */
  send(bytes: Uint8Array, from: number, to: number, insertCount: number): boolean {
    return this.mover.send(bytes, from, to, insertCount);
  }

  /** Closes our side when everything is sent, then calls `done`, unless the peer has closed its own: then all is over. */
  end(done: () => void): void {
    this.whenShut = done;
    if (this.mover.end()) this.onShut();
  }

  /** Closes at once. `onClose` follows, but not from within this call. */
  destroy(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.mover.close();
    setImmediate(() => {
      this.handlers.onClose();
      // Now that nobody is in the midst of something with it.
      this.memories.give(this.memory);
    });
  }

  private onEvents(events: number): void {
    const { handlers } = this;
    if ((events & SocketEvent.failed) !== 0) {
      const name = getSystemErrorName(-this.state[moverCells.error]);
      handlers.onError(new Error(name));
      this.destroy();
      return;
    }
    if ((events & SocketEvent.sent) !== 0) this.onSent();
    if ((events & SocketEvent.answered) !== 0) this.onAnswered();
    if ((events & SocketEvent.input) !== 0 && !this.isClosed) {
      let before: number = Before.nothing;
      if ((events & SocketEvent.filled) !== 0) before = Before.payload;
      if ((events & SocketEvent.landed) !== 0) before = Before.ownPayload;
      handlers.onInput(this.input, this.state[moverCells.inputFrom], this.state[moverCells.inputEnd], before);
    }
    if ((events & SocketEvent.shut) !== 0 && !this.isClosed) this.onShut();
    if ((events & SocketEvent.end) !== 0 && !this.isClosed) {
      this.hasPeerEnded = true;
      handlers.onEnd();
      if (this.isShut) this.destroy();
    }
  }

  private onShut(): void {
    this.isShut = true;
    if (this.hasPeerEnded) this.destroy();
    else this.whenShut();
  }
}
