/**
 * The NBD server: serves exports on any number of addresses.
 *
 * Runs on the thread of its devices, whose only client it is; all connections meet the same device, which is what
 * makes CAN_MULTI_CONN true. The bounds on what clients may cost stand in `limits.ts`.
 */
import { assert } from "../base/assert.js";
import { BlkError } from "../base/errors.js";
import type { BlockTarget } from "../base/target.js";
import { BufferPool } from "./buffer-pool.js";
import { type ByteStream, Connection, type ConnectionOptions } from "./connection.js";
import { ConnectionCount } from "./connection-count.js";
import { findExport, type NbdExport, transmissionFlagsOf } from "./export.js";
import { defaultLimits, type NbdLimits } from "./limits.js";
import { type Listener, listenOn } from "./listener.js";
import { type NbdLogger, silentLogger } from "./logger.js";
import { PeerWatch } from "./peer-watch.js";
import { SlotNotes } from "./slot-notes.js";
import type { TlsSettings } from "./tls.js";
import { formatNbdUri, type NbdUri, parseNbdUri } from "./uri.js";

export interface NbdServerOptions {
  /**
   * Under different names; one device may have several. The first is also the default export. Addresses may have lists of their
   * own, see `listen`.
   */
  exports: readonly NbdExport[];
  logger?: NbdLogger;
  limits?: Partial<NbdLimits>;
  /** Shared with the servers of other threads that `limits.connections` holds for together. */
  count?: ConnectionCount;
  /** What clients may or must switch to; without it there is no TLS. */
  tls?: TlsSettings | null;
}

export class NbdServer {
  private readonly exports: readonly NbdExport[];
  private readonly limits: NbdLimits;
  private readonly logger: NbdLogger;
  private readonly tls: TlsSettings | null;
  private readonly pool: BufferPool;
  private readonly notes = new Map<BlockTarget, SlotNotes>();
  private readonly listeners: Listener[] = [];
  /** In no order. Not a Set, whose dead tables would keep connections that have gone from V8 (see `Device.answered`). */
  private readonly connections: Connection[] = [];
  private readonly count: ConnectionCount;
  private readonly peerWatch: PeerWatch;
  private nextNumber = 0;
  private isClosing = false;
  /** Calls of `close` that wait for the last connection. */
  private readonly waitingForLast: (() => void)[] = [];

  constructor(options: NbdServerOptions) {
    this.exports = options.exports;
    this.limits = { ...defaultLimits, ...options.limits };
    this.logger = options.logger ?? silentLogger;
    this.tls = options.tls ?? null;
    this.count = options.count ?? new ConnectionCount();
    this.pool = new BufferPool(this.limits.payloadBytes);
    this.peerWatch = new PeerWatch(this.connections, this.pool, this.limits);
  }

  /** Clients connected now. */
  get connectionCount(): number {
    return this.connections.length;
  }

  /** Requests taken from clients and not answered yet. */
  get requestsInFlight(): number {
    let sum = 0;
    for (const connection of this.connections) sum += connection.requestsInFlight;
    return sum;
  }

  /**
   * Begins to listen, and returns the URI to give to clients: the one given, with the real port in place of port 0.
   *
   * @param exports what is served at this address
   * @throws BlkError BLK_E_NBD_URI, BLK_E_LISTEN
   */
  async listen(address: string | NbdUri, exports = this.exports): Promise<string> {
    assert(!this.isClosing, "a closed server does not listen again");
    assert(
      new Set(exports.map(({ name }) => name)).size === exports.length,
      "exports of an address have different names",
    );
    const uri = typeof address === "string" ? parseNbdUri(address) : address;
    if (uri.isTls === true && this.tls === null) {
      throw new BlkError(
        "BLK_E_NBD_URI",
        `"${formatNbdUri(uri)}" asks for TLS, for which the server has neither certificate nor keys`,
        "Give --tls-cert and --tls-key, or --tls-psk",
      );
    }
    if (findExport(exports, uri.exportName) === undefined) {
      const names = exports.map(({ name }) => JSON.stringify(name)).join(", ");
      throw new BlkError(
        "BLK_E_NBD_URI",
        `"${formatNbdUri(uri)}" names the export ${JSON.stringify(uri.exportName)}, which is not served`,
        `Served: ${names}`,
      );
    }
    // An address of the scheme nbds demands TLS, whatever the others do.
    const isForced = uri.isTls === true || this.tls?.mode === "require";
    const tls: TlsSettings | null =
      isForced && this.tls !== null ? { ...this.tls, mode: "require" } : this.tls;
    const told: NbdUri = isForced ? { ...uri, isTls: true } : uri;
    const listener = await listenOn(
      told,
      this.limits.keepAliveMs,
      (socket) => this.onConnection(socket, exports, tls),
      (error) => this.logger.warn({}, `accepting a client failed: ${error.message}`),
    );
    if (this.isClosing) {
      listener.close();
      throw new BlkError("BLK_E_LISTEN", `the server was closed before it listened on ${formatNbdUri(uri)}`);
    }
    this.listeners.push(listener);
    return formatNbdUri(listener.uri);
  }

  /**
   * Stops listening, removes the socket files, finishes what is in flight, and closes all connections; those not
   * done by the deadline are cut off. May be called again while it waits, with a shorter deadline.
   */
  async close({ deadlineMs }: { deadlineMs: number }): Promise<void> {
    this.isClosing = true;
    // Closing a Unix listener removes its file.
    for (const listener of this.listeners.splice(0)) listener.close();
    for (const connection of this.connections) connection.shutDown();
    if (this.connections.length === 0) {
      this.peerWatch.stop();
      return;
    }
    const deadline = setTimeout(() => {
      for (const connection of this.connections) connection.destroy("server was shut down");
    }, deadlineMs);
    await new Promise<void>((resolve) => this.waitingForLast.push(resolve));
    clearTimeout(deadline);
    this.peerWatch.stop();
  }

  /**
   * Serves a socket that is in the transmission phase already: the kernel's end of a pair, which does no handshake.
   *
   * @param onClose called once with how it ended: whether the client took its leave (DISC)
   */
  adopt(socket: ByteStream, exported: NbdExport, onClose: (hasDisconnected: boolean) => void): void {
    assert(!this.isClosing, "a closed server adopts nothing");
    const connection: Connection = new Connection({
      ...this.connectionOptions(socket, [exported], null),
      session: {
        export: exported,
        transmissionFlags: transmissionFlagsOf(exported, "simple"),
        replyMode: "simple",
        contexts: [],
      },
      onClose: () => {
        this.onClosed(connection);
        onClose(connection.hasClientDisconnected);
      },
    });
    this.connections.push(connection);
    this.count.set(this.connections.length);
  }

  private onConnection(socket: ByteStream, exports: readonly NbdExport[], tls: TlsSettings | null): void {
    if (this.isClosing || this.count.all >= this.limits.connections) {
      // It may fail before it is gone, and nobody else listens to that.
      socket.on("error", () => undefined);
      socket.destroy();
      if (!this.isClosing) {
        this.logger.warn({}, `refused a client: ${this.limits.connections} are connected already`);
      }
      return;
    }
    const connection: Connection = new Connection({
      ...this.connectionOptions(socket, exports, tls),
      onClose: () => this.onClosed(connection),
    });
    this.connections.push(connection);
    this.count.set(this.connections.length);
  }

  private connectionOptions(
    socket: ByteStream,
    exports: readonly NbdExport[],
    tls: TlsSettings | null,
  ): Omit<ConnectionOptions, "onClose"> {
    return {
      socket,
      number: this.nextNumber++,
      exports,
      tls,
      limits: this.limits,
      pool: this.pool,
      notesOf: (target) => this.notesOf(target),
      logger: this.logger,
    };
  }

  private onClosed(connection: Connection): void {
    const last = this.connections.pop()!;
    if (last !== connection) this.connections[this.connections.indexOf(connection)] = last;
    this.count.set(this.connections.length);
    if (this.connections.length === 0) for (const resolve of this.waitingForLast.splice(0)) resolve();
  }

  private notesOf(target: BlockTarget): SlotNotes {
    let notes = this.notes.get(target);
    if (notes === undefined) {
      notes = new SlotNotes(target.requests.capacity);
      this.notes.set(target, notes);
    }
    return notes;
  }
}
