/**
 * A socket made of memory, for tests that decide where segments are cut: what the test feeds arrives in exactly those
 * pieces, what the server writes is collected.
 */
import { Duplex } from "node:stream";

export class FakeSocket extends Duplex {
  bytesRead = 0;
  private readonly written: Buffer[] = [];

  constructor() {
    // Unbounded, so that a segment is never held back by the stream itself.
    super({ allowHalfOpen: true, readableHighWaterMark: 2 ** 30 });
  }

  /** Delivers each piece as one `data` event, then the end; resolves when the connection has closed. */
  async converse(pieces: Buffer[]): Promise<Buffer> {
    const closed = new Promise<void>((resolve) => this.once("close", () => resolve()));
    for (const piece of pieces) {
      if (this.destroyed || this.readableEnded) break;
      this.bytesRead += piece.length;
      this.push(piece);
      // Otherwise the stream would join it with the next.
      while (this.readableLength > 0 && !this.destroyed) {
        await Promise.race([closed, new Promise<void>((resolve) => setImmediate(resolve))]);
      }
    }
    if (!this.destroyed) this.push(null);
    await closed;
    return Buffer.concat(this.written);
  }

  /** Nothing comes but what the test feeds. */
  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    // A copy: the server uses its buffers again once they have been taken.
    this.written.push(Buffer.from(chunk));
    done();
  }
}
