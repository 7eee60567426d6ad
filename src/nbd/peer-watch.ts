/**
 * Looks after clients that cannot make themselves felt.
 *
 * Node learns that a peer has gone by reading. A connection under backpressure is not read: its requests wait for a
 * slot, for memory, or for their client to take replies. If the client goes then, nobody would notice, and what it holds
 * would be lost for as long as the wait lasts, which under a hang fault is for ever. So such sockets are asked for their
 * peer's state from time to time, by poll(2), which costs about a microsecond each.
 *
 *   the peer has gone       (closed a Unix socket, reset or silent on TCP) closed at once
 *   it has closed its side  It may still wait for replies, as the protocol allows after DISC, and DISC may be among what is
 *                           not read yet. So it is closed only after `stallMs` without a byte moved. On TCP a client that
 *                           was killed looks like that too, until it is sent something.
 *   it is there, and idle   Nothing is wrong: a client may be stopped in a debugger for as long as it likes. Only when others
 *                           wait for memory or for a place in the request table, and it has not taken a byte of its
 *                           replies for `stallMs`, it has to go.
 */
import { loadNative } from "../base/native.js";
import type { BlockTarget } from "../base/target.js";
import type { BufferPool } from "./buffer-pool.js";
import { DescriptorStream } from "./descriptor-stream.js";

/** What is seen of a connection. */
export interface WatchedPeer {
  /** Of its socket; -1 when that is not known. */
  readonly descriptor: number;
  /** Its socket is not being read. */
  readonly isPaused: boolean;
  /** Grows whenever the client sends or takes something. */
  readonly progress: number;
  /** Whether payload memory is held while the client sends or takes the rest. */
  readonly holdsPayload: boolean;
  /** Whose requests these are; null in the handshake. */
  readonly target: BlockTarget | null;
  /** Completed requests keep their places in the request table, since the client does not take the replies. */
  readonly holdsSlots: boolean;
  /** It has a request for which the request table has no place. */
  readonly waitsForSlot: boolean;
  destroy(reason: string): void;
}

const PeerState = Object.freeze({ open: 0, halfClosed: 1, gone: 2 });

export class PeerWatch {
  private readonly peers: readonly WatchedPeer[];
  private readonly pool: BufferPool;
  private readonly timers: NodeJS.Timeout[];
  private progressSeen = new Map<WatchedPeer, number>();

  constructor(
    peers: readonly WatchedPeer[],
    pool: BufferPool,
    { vanishMs, stallMs }: { vanishMs: number; stallMs: number },
  ) {
    this.peers = peers;
    this.pool = pool;
    this.timers = [
      setInterval(() => this.closeVanished(), vanishMs),
      setInterval(() => this.closeStalled(), stallMs),
    ];
    for (const timer of this.timers) timer.unref();
  }

  stop(): void {
    for (const timer of this.timers) clearInterval(timer);
  }

  private closeVanished(): void {
    for (const peer of this.peers) {
      if (peer.isPaused && stateOf(peer) === PeerState.gone) peer.destroy("client vanished");
    }
  }

  /** Closes who has neither sent nor taken a byte since the last time, and is in the way or has no way on. */
  private closeStalled(): void {
    const seen = this.progressSeen;
    this.progressSeen = new Map();
    for (const peer of this.peers) {
      const { progress } = peer;
      this.progressSeen.set(peer, progress);
      if (seen.get(peer) !== progress) continue;
      if (peer.holdsPayload && this.pool.isWaitedFor) {
        peer.destroy("client stalled while others wait for memory");
      } else if (peer.holdsSlots && this.isInTheWay(peer)) {
        peer.destroy("client takes no replies while others wait for a place in the request table");
      } else if (peer.isPaused && stateOf(peer) === PeerState.halfClosed) {
        peer.destroy("client closed its side, and nothing has moved since");
      }
    }
  }

  private isInTheWay(peer: WatchedPeer): boolean {
    for (const other of this.peers) {
      if (other !== peer && other.target === peer.target && other.waitsForSlot) return true;
    }
    return false;
  }
}

function stateOf({ descriptor }: WatchedPeer): number {
  if (descriptor < 0) return PeerState.open;
  return loadNative().peerState?.(descriptor) ?? PeerState.open;
}

/** libuv's side of a socket, as far as Node shows it without documenting it; all of it may be missing. */
interface SocketHandle {
  fd?: number;
  bytesWritten?: number;
  writeQueueSize?: number;
}

function handleOf(socket: object): SocketHandle | null {
  return (socket as { _handle?: SocketHandle | null })._handle ?? null;
}

/** Descriptor of a client's socket; -1 when it has none, or none any more. */
export function descriptorOf(socket: object): number {
  if (socket instanceof DescriptorStream) return socket.descriptor;
  return handleOf(socket)?.fd ?? -1;
}

/** Bytes the system has taken of what a client's socket was given: grows while a slow client takes a large reply. */
export function takenBytes(socket: object): number {
  if (socket instanceof DescriptorStream) return socket.bytesTaken;
  const handle = handleOf(socket);
  return (handle?.bytesWritten ?? 0) - (handle?.writeQueueSize ?? 0);
}
