/**
 * A client that sends whatever it is told, well-formed or not, and shows what comes back: libnbd refuses to send
 * most of what a robust server must cope with.
 */
import { connect, type Socket } from "node:net";
import { infoRequest, metaQuery, option, type RequestFields, request, u32 } from "./wire.js";

/** Every wait ends: by what was waited for, by the connection's end, or here. */
const deadlineMs = 10_000;

export interface OptionReply {
  option: number;
  type: number;
  data: Buffer;
}

/** A chunk of a structured or extended reply. */
export interface Chunk {
  isDone: boolean;
  type: number;
  cookie: bigint;
  body: Buffer;
  /** Of an extended reply: the request's offset. */
  offset?: bigint;
}

export class Prober {
  readonly socket: Socket;
  private chunks: Buffer[] = [];
  private bytes = 0;
  private hasEnded = false;
  private wake: () => void = () => undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", this.onData);
    const onEnd = () => {
      this.hasEnded = true;
      this.wake();
    };
    socket.on("end", onEnd);
    socket.on("close", onEnd);
    // A reset is one of the ways in which a connection ends.
    socket.on("error", onEnd);
  }

  /** Gives up the socket to whoever goes on with it, TLS as a rule. */
  release(): Socket {
    this.socket.off("data", this.onData);
    return this.socket;
  }

  private readonly onData = (chunk: Buffer): void => {
    this.chunks.push(chunk);
    this.bytes += chunk.length;
    this.wake();
  };

  static async connect(address: { path: string } | { port: number; host?: string }): Promise<Prober> {
    const socket = connect({ allowHalfOpen: true, ...address });
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return new Prober(socket);
  }

  /** Connects and takes the greeting; with `flags`, answers it. */
  static async greet(path: string, flags?: number): Promise<Prober> {
    const prober = await Prober.connect({ path });
    await prober.read(18);
    if (flags !== undefined) prober.send(u32(flags));
    return prober;
  }

  /** Connects and opens an export by GO. */
  static async open(path: string, name = "", infos: number[] = []): Promise<Prober> {
    const prober = await Prober.greet(path, 3);
    prober.send(option(7, infoRequest(name, infos)));
    while ((await prober.readOptionReply()).type !== 1);
    return prober;
  }

  /** Connects, asks for chunked replies and metadata contexts, and opens an export by GO. */
  static async openChunked(
    path: string,
    { isExtended = false, contexts = [] as string[], name = "", infos = [] as number[] } = {},
  ): Promise<Prober> {
    const prober = await Prober.greet(path, 3);
    prober.send(option(isExtended ? 11 : 8));
    if ((await prober.readOptionReply()).type !== 1) throw new Error("chunked replies were refused");
    if (contexts.length > 0) {
      prober.send(option(10, metaQuery(name, contexts)));
      while ((await prober.readOptionReply()).type === 4);
    }
    prober.send(option(7, infoRequest(name, infos)));
    while ((await prober.readOptionReply()).type !== 1);
    return prober;
  }

  /** One chunk, whichever of the two formats it has. */
  async readChunk(): Promise<Chunk> {
    const start = await this.read(20);
    const fields = {
      isDone: (start.readUInt16BE(4) & 1) === 1,
      type: start.readUInt16BE(6),
      cookie: start.readBigUInt64BE(8),
    };
    if (start.readUInt32BE(0) === 0x668e33ef) {
      return { ...fields, body: await this.read(start.readUInt32BE(16)) };
    }
    if (start.readUInt32BE(0) !== 0x6e8a278c) throw new Error("no chunk magic");
    const rest = await this.read(12);
    const offset = Buffer.concat([start.subarray(16), rest.subarray(0, 4)]).readBigUInt64BE(0);
    return { ...fields, offset, body: await this.read(Number(rest.readBigUInt64BE(4))) };
  }

  /** All chunks of one reply. */
  async readChunks(): Promise<Chunk[]> {
    const chunks = [await this.readChunk()];
    while (!chunks.at(-1)!.isDone) chunks.push(await this.readChunk());
    return chunks;
  }

  send(...parts: Buffer[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  request(fields: RequestFields): void {
    this.send(request(fields));
  }

  async read(lengthBytes: number): Promise<Buffer> {
    await this.until(() => this.bytes >= lengthBytes, `${lengthBytes} bytes`);
    const all = Buffer.concat(this.chunks);
    this.chunks = [all.subarray(lengthBytes)];
    this.bytes = all.length - lengthBytes;
    return all.subarray(0, lengthBytes);
  }

  async readOptionReply(): Promise<OptionReply> {
    const header = await this.read(20);
    if (header.readBigUInt64BE(0) !== 0x3e889045565a9n) throw new Error("no option reply magic");
    const data = await this.read(header.readUInt32BE(16));
    return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), data };
  }

  /** A simple reply, and the payload where one is expected and the reply is no error. */
  async readReply(payloadBytes = 0): Promise<{ error: number; cookie: bigint; payload: Buffer }> {
    const header = await this.read(16);
    if (header.readUInt32BE(0) !== 0x67446698) throw new Error("no simple reply magic");
    const error = header.readUInt32BE(4);
    const payload = await this.read(error === 0 ? payloadBytes : 0);
    return { error, cookie: header.readBigUInt64BE(8), payload };
  }

  /** Sends a request and returns the error it is answered with. */
  async ask(fields: RequestFields): Promise<number> {
    this.request(fields);
    return (await this.readReply(fields.type === 0 ? fields.length : 0)).error;
  }

  /** Waits for the server to close; returns what it sent before. */
  async readEnd(): Promise<Buffer> {
    await this.until(() => this.hasEnded, "the end", true);
    return Buffer.concat(this.chunks);
  }

  get unreadBytes(): number {
    return this.bytes;
  }

  close(): void {
    this.socket.destroy();
  }

  private until(condition: () => boolean, what: string, isEndFine = false): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${what} did not come in time`)), deadlineMs);
      this.wake = () => {
        const isDone = condition();
        if (!isDone && !(this.hasEnded && !isEndFine)) return;
        clearTimeout(timer);
        this.wake = () => undefined;
        if (isDone) resolve();
        else reject(new Error(`the connection ended with ${this.bytes} bytes where ${what} were expected`));
      };
      this.wake();
    });
  }
}

/** Polls the event loop until `condition` holds; fails after a deadline. */
export async function eventually(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + deadlineMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`never came true: ${condition}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
