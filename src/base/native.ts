/**
 * The native addon, typed and loaded on first use. `native/addon.cc` has the other half of this table.
 *
 * The addon trusts its caller: arguments are checked on this side. Calls on files return an errno, 0 for success.
 * What a system lacks (timers and hole punching elsewhere than on Linux) is absent from the table.
 */
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { BlkError } from "./errors.js";

/** A timer on the calling thread's event loop. An armed one keeps the process alive, an idle one does not. */
export interface NativeClock {
  /** Power-on, in nanoseconds on the clock that `process.hrtime()` reads. */
  readonly originNs: bigint;
  /** Calls the function given to the constructor at `deadlineNs` after power-on; Infinity disarms. */
  arm(deadlineNs: number): void;
  close(): void;
}

/** Memory of any size that costs only what is written, page by page. Reads of holes touch nothing. */
export interface NativeSparseMemory {
  read(offsetBytes: number, target: Uint8Array): void;
  write(offsetBytes: number, source: Uint8Array): void;
  /** Makes the range zero and gives whole pages back. */
  discard(offsetBytes: number, lengthBytes: number): void;
  /** Makes it larger; what is new is a hole. Errno. Not while another thread is in it: the bytes may move. */
  grow(sizeBytes: number): number;
  /** Has the system find memory for all of it now. Before anything was written; errno. */
  populate(): number;
  /** What is touched from now on stays in memory, whatever the system swaps out. Errno. */
  lock(): number;
  /** Makes the range zero and counts all its pages as held. */
  reserve(offsetBytes: number, lengthBytes: number): void;
  allocatedBytes(): number;
  /** Whether a write to this range leaves no more than the limit held, or promised to writes under way. */
  hasRoomFor(offsetBytes: number, lengthBytes: number, limitBytes: number): boolean;
  isAllocated(offsetBytes: number): boolean;
  /** Where the run of held pages, or of holes, around `offsetBytes` ends; at most `endBytes`. */
  extentEnd(offsetBytes: number, endBytes: number): number;
  close(): void;
}

/** Bits of what a `NativeSocketMover` tells. */
export const SocketEvent = Object.freeze({
  /** There are bytes in the input buffer. */
  input: 1,
  /** The payload asked for by `fill` is there. */
  filled: 2,
  sent: 4,
  /** The peer will send nothing more. */
  end: 8,
  /** The socket is broken. */
  failed: 16,
  /** Our side is closed, as `end` asked for. */
  shut: 32,
  /** The input begins with the header of a write whose payload is not among it: it has landed in the memory. */
  landed: 64,
  /** While JavaScript was not idle, the last of the requests the addon had in hand has been answered. */
  answered: 128,
});

/** The bytes of one connected stream socket. Keeps the process alive until it is closed. */
export interface NativeSocketMover {
  /** -1 once closed. */
  readonly descriptor: number;
  /**
   * Plain requests are answered natively from now on, `latenciesNs` (reads, writes) after they have arrived, while that is not negative
   * and `state` says that the caller is idle. They are counted in `counters`, and in `inHand` until then. `settings` are laid out as in
   * native/nbd/plain-requests.h.
   */
  answerPlain(
    settings: Float64Array,
    latenciesNs: Float64Array,
    inHand: Int32Array,
    counters: Float64Array,
    clock: NativeClock,
  ): void;
  setReading(isReading: boolean): void;
  /** The next bytes to arrive go there; `bytes` must be kept until then. */
  fill(bytes: Uint8Array, from: number, to: number): void;
  /**
   * A payload of `lengthBytes` goes into the memory, in whole pages of 4 KiB. It begins with those bytes; the rest comes next.
   */
  land(bytes: Uint8Array, from: number, to: number, offsetBytes: number, lengthBytes: number): void;
  /**
   * Sends those bytes, and between them `insertCount` pieces of the memory, which stand in `inserts` as triples: before which
   * byte of `bytes`, offset and length. True when all is sent; otherwise `bytes` must be kept until it is.
   */
  send(bytes: Uint8Array, from: number, to: number, insertCount: number): boolean;
  /** Closes our side when all is sent. True when that is done already. */
  end(): boolean;
  /** Closes at once; nothing is told afterwards. */
  close(): void;
}

/** A generic netlink socket. Keeps the process alive until it is closed. */
export interface NativeNetlinkSocket {
  /** Errno. */
  joinGroup(group: number): number;
  /** Errno; the kernel has carried the command out when this returns. */
  send(message: Uint8Array): number;
  /** The same on another thread; `done` is called with the errno. */
  sendInBackground(message: Uint8Array, done: (errno: number) => void): void;
  close(): void;
}

/** Commands to the ublk driver, each answered on the event loop. Keeps the process alive until it is closed. */
export interface NativeUblkControl {
  /** Errno. The descriptor of /dev/ublk-control stays the caller's. */
  open(controlFd: number): number;
  /** Errno of handing it over; the command's own result comes to `onDone` with the same id. */
  submit(
    id: number,
    opcode: number,
    deviceId: number,
    queue: number,
    data: number,
    buffer: Uint8Array,
    /** How many bytes at the buffer's begin are the path of the device's node; 0 for who is privileged. */
    pathLength: number,
  ): number;
  close(): void;
}

/** The queue threads of one ublk device, seen by who starts and ends them. Keeps the process alive until it is closed. */
export interface NativeUblkServer {
  /** By which a port finds it. */
  readonly id: number;
  /** Starts one queue's thread, on the processors whose bits are set, or anywhere; errno. Its requests are then fetched. */
  start(queue: number, cpus: Uint8Array): number;
  /** Everything undecided, and every request to come, ends in EIO. */
  fail(): void;
  /** All threads end as soon as they can, whatever they have in hand. */
  leave(): void;
  /** The first errno that ended a thread against everybody's will; 0 while there is none. */
  failure(): number;
  hasEnded(): boolean;
  /** Ends what still runs, and lets go of the character device. */
  close(): void;
}

/** The same threads, seen by the one who decides. When it ends, for whatever reason, requests end in EIO. */
export interface NativeUblkPort {
  /** Where the bytes are; errno. One of the two, before the queues are started. */
  useMemory(memory: NativeSparseMemory, limitBytes: number): number;
  useFile(fd: number): number;
  wakeQueue(queue: number): void;
  /** A write's payload that has not been moved; errno. */
  readPayload(queue: number, tag: number, target: Uint8Array): number;
  /** Fills the beginning of what a request in flight asks for; 0 or an errno. */
  writeAnswer(queue: number, tag: number, source: Uint8Array): number;
  close(): void;
}

/** Accepts clients on a socket `net` cannot listen on. Keeps the process alive until it is closed. */
export interface NativeAcceptor {
  close(): void;
}

export interface NativeAddon {
  /** Linux only. */
  readonly Clock?: new (
    onDeadline: () => void,
    /** How long before a deadline the event loop stops sleeping and turns until it is there. */
    spinNs: number,
    /** Called between a wake-up and its deadline. */
    onRehearsal?: () => void,
    /** Called, some times a second, while native code has requests in hand, or answers some. */
    onWork?: () => void,
  ) => NativeClock;
  /** Throws an Error with the system's words when the address space cannot be had. */
  readonly SparseMemory: new (
    sizeBytes: number,
  ) => NativeSparseMemory;

  /** Advisory lock of an open file, held until it is closed or the process ends; EWOULDBLOCK when another has it. */
  lockFile(fd: number, isExclusive: boolean): number;
  /** Next data (or hole) at or after the offset; a negative errno when there is none. */
  readonly seekFile?: (fd: number, offsetBytes: number, forData: boolean) => number;
  /** Linux only. */
  readonly punchHole?: (fd: number, offsetBytes: number, lengthBytes: number) => number;
  /** Linux only. Throws an Error with the system's words when there is no netlink. */
  readonly NetlinkSocket?: new (
    onDatagram: (datagram: Buffer) => void,
  ) => NativeNetlinkSocket;
  /**
   * Linux only. Works on a duplicate of `fd`, and reads at once. `state` has the cells of native/nbd/socket-mover.cc.
   */
  readonly SocketMover?: new (
    fd: number,
    memory: NativeSparseMemory | null,
    input: Uint8Array,
    state: Float64Array,
    inserts: Float64Array,
    onEvents: (events: number) => void,
  ) => NativeSocketMover;
  /** Linux only. A Unix socket with an abstract name, given without the NUL it begins with: its descriptor, or a negative errno. */
  readonly bindAbstract?: (name: Uint8Array) => number;
  /** Linux only. A vsock socket, 0xffffffff for any address: its descriptor, or a negative errno. */
  readonly bindVsock?: (cid: number, port: number) => number;
  /**
   * Linux only. Listens on a bound socket, which it takes over, and tells the descriptors of clients, or the negative errno of
   * what went wrong. Throws an Error with the system's words.
   */
  readonly Acceptor?: new (
    fd: number,
    onClient: (fd: number) => void,
  ) => NativeAcceptor;
  /** Linux only. Fills in the two ends of a connected pair of Unix stream sockets. */
  readonly socketPair?: (ends: Int32Array) => number;
  /** Linux only. Whole pages of that part go back to the system, and read as zeroes. */
  readonly giveBackPages?: (bytes: Uint8Array, from: number, to: number) => void;
  /** Linux only. The calling thread's memory then never waits for I/O of the disk it serves itself. Errno. */
  readonly markIoFlusher?: () => number;
  /** Linux only. Whether the calling thread is marked so. */
  readonly isIoFlusher?: () => boolean;
  /** Linux only. Mounts of this process's own, which follow the machine's; to be followed by `reexecute`. Errno. */
  readonly leaveMountNamespace?: () => number;
  /** Linux only. The program begins anew in this process; returns, with an errno, only when it cannot. */
  readonly reexecute?: (path: string, argv: readonly string[], descriptors: Int32Array) => number;
  /** Of a connected stream socket: 0 its peer is there, 1 has closed its side of the stream, 2 has gone. Linux only. */
  readonly peerState?: (fd: number) => number;
  /** Linux only. */
  readonly UblkControl?: new (
    onDone: (id: number, result: number, buffer: Uint8Array) => void,
  ) => NativeUblkControl;
  /** Linux only; see native/ublk/server.cc for the settings. Takes over the character device's descriptor. */
  readonly UblkServer?: new (
    settings: Float64Array,
    shared: Uint8Array,
    counters: Uint8Array,
    onEnded: () => void,
  ) => NativeUblkServer;
  /** Linux only. */
  readonly UblkPort?: new (
    serverId: number,
    originNs: bigint,
    spinNs: number,
    onArrivals: () => void,
  ) => NativeUblkPort;
  /** Linux only: records a value as the queue threads do, for a test. */
  readonly recordLatency?: (cells: Float64Array, valueNs: number) => void;
  /** Linux only. */
  readonly zeroRange?: (fd: number, offsetBytes: number, lengthBytes: number) => number;
}

let addon: NativeAddon | undefined;

/** @throws BlkError BLK_E_NATIVE when it was not built, or does not fit this system. */
export function loadNative(): NativeAddon {
  if (addon === undefined) {
    const packageRoot = fileURLToPath(new URL("../..", import.meta.url));
    const require = createRequire(import.meta.url);
    try {
      addon = require("node-gyp-build")(packageRoot) as NativeAddon;
    } catch (error) {
      const [reason] = String((error as Error).message).split("\n");
      throw new BlkError(
        "BLK_E_NATIVE",
        `the native part of blkforge cannot be loaded: ${reason}`,
        'Build it with "npm run build:native"; that needs a C++ compiler (Debian: apt-get install g++)',
        { cause: error },
      );
    }
  }
  return addon;
}
