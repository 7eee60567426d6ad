/**
 * A connected socket Node's `net` does not know (vsock), as the stream a handshake and TLS need. Its bytes are moved by the
 * addon, and copied here, which is right for handshakes; for transmission `MovedSocket` takes over.
 */
import { closeSync } from "node:fs";
import { Duplex } from "node:stream";
import { getSystemErrorName } from "node:util";
import { loadNative, type NativeSocketMover, SocketEvent } from "../base/native.js";
import { moverCells } from "./mover-cells.js";

const inputBytes = 16 * 1024;

export class DescriptorStream extends Duplex {
  private readonly input = new Uint8Array(new ArrayBuffer(inputBytes));
  private readonly state = new Float64Array(
    new ArrayBuffer(moverCells.count * Float64Array.BYTES_PER_ELEMENT),
  );
  private readonly mover: NativeSocketMover;
  private queuedBytes = 0;
  /** What is being sent, kept until it is. */
  private sending: { bytes: Uint8Array; done: (error?: Error) => void } | null = null;
  private whenShut: ((error?: Error) => void) | null = null;

  /** Takes the descriptor over. */
  constructor(fd: number) {
    // A client may close its side after DISC and still wait for replies.
    super({ allowHalfOpen: true });
    const { SocketMover } = loadNative();
    try {
      if (SocketMover === undefined) throw new Error("sockets are moved on Linux only");
      const noInserts = new Float64Array(0);
      this.mover = new SocketMover(fd, null, this.input, this.state, noInserts, (events) =>
        this.onEvents(events),
      );
    } finally {
      // The addon works on a duplicate.
      closeSync(fd);
    }
    this.mover.setReading(false);
  }

  /** -1 once closed. */
  get descriptor(): number {
    return this.mover.descriptor;
  }

  /** Bytes the system has taken. */
  get bytesTaken(): number {
    return this.state[moverCells.sent];
  }

  get bytesRead(): number {
    return this.state[moverCells.received];
  }

  override _read(): void {
    this.mover.setReading(true);
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    this.queuedBytes += bytes.length;
    if (this.mover.send(bytes, 0, bytes.length, 0)) {
      done();
      return;
    }
    this.sending = { bytes, done };
  }

  override _final(done: (error?: Error) => void): void {
    if (this.mover.end()) done();
    else this.whenShut = done;
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.mover.close();
    this.sending = null;
    done(error);
  }

  private onEvents(events: number): void {
    if ((events & SocketEvent.failed) !== 0) {
      this.destroy(new Error(getSystemErrorName(-this.state[moverCells.error])));
      return;
    }
    if ((events & SocketEvent.sent) !== 0) this.onSent();
    if ((events & SocketEvent.shut) !== 0) this.whenShut?.();
    if ((events & SocketEvent.input) !== 0) {
      const arrived = Buffer.from(
        this.input.subarray(this.state[moverCells.inputFrom], this.state[moverCells.inputEnd]),
      );
      if (!this.push(arrived)) this.mover.setReading(false);
    }
    if ((events & SocketEvent.end) !== 0) this.push(null);
  }

  private onSent(): void {
    if (this.state[moverCells.sent] < this.queuedBytes) return;
    const { sending } = this;
    this.sending = null;
    sending?.done();
  }
}
