/**
 * What a transport (NBD, ublk) sees of a device: its properties, the request table, and three calls.
 *
 * The life of a request: the transport takes a slot from `requests`, fills op, flags, queue, offset and length,
 * and submits it. Bytes of a write are applied while `submit` runs, so its payload may be reused at once. When the
 * request is due the device calls the owner's `onCompletion(slot)`; the transport reads `requests.status[slot]`, for a
 * successful read fetches the bytes with `read`, replies, and releases the slot. While a client does not read its replies, the
 * transport may keep a completed request, and its slot, for later.
 */
import type { Extent, FaultExtent } from "./extent.js";
import type { NativeClock, NativeSparseMemory } from "./native.js";
import type { RequestSlot, RequestTable } from "./request.js";
import type { Status } from "./status.js";
import type { ZoneView } from "./zone.js";

/**
 * What a transport's native code needs to complete reads and writes of a device by itself, when all there is to do is to move their
 * bytes and to keep the time: a device in memory whose model takes the same time for each.
 */
export interface NativeService {
  /** What reads and writes take, a cell each; negative while something wants to see such requests, or to change what becomes of them. */
  readonly latenciesNs: Float64Array;
  /** One cell: how many requests native code has in hand, over all connections. */
  readonly inHand: Int32Array;
  /** Where they are counted: the cells of the device's statistics. */
  readonly counters: Float64Array;
  /** What the device's memory may hold; Infinity without a limit. */
  readonly limitBytes: number;
  /** Keeps their time, and its loop stays awake for a moment after an answer, as after one of the device's own. */
  readonly clock: NativeClock;
}

export interface BlockTarget {
  /** Name people see: the default export. */
  readonly name: string;
  /** One line for listings. */
  readonly description: string;
  readonly sizeBytes: number;
  /** Sizes and alignments, powers of two: what is refused when violated, and what performs well. */
  readonly minimumBlockBytes: number;
  readonly preferredBlockBytes: number;
  readonly isReadOnly: boolean;
  readonly isRotational: boolean;
  /** Whether the device acknowledges writes before they are durable: then flush and FUA matter. */
  readonly hasVolatileCache: boolean;
  readonly canTrim: boolean;
  /** Whether writing zeroes, blocks left to be freed, takes the device less time than writing as many bytes. */
  readonly canZeroFast: boolean;
  /** Of a host-managed zoned device; null for all others, which know no zone operations. */
  readonly zones: ZoneView | null;

  readonly requests: RequestTable;

  /**
   * The device's bytes, where they lie in memory of the addon's: then a transport may move the bytes of a read from there, natively,
   * in place of calling `read`, which would do no more than copy them and cannot fail.
   */
  readonly nativeMemory?: NativeSparseMemory | null;

  /** For a device whose requests need no decision as a rule; the bytes are in `nativeMemory`. */
  readonly nativeService?: NativeService | null;

  /**
   * Whether the payload of a write to this range may be put into `nativeMemory` as it comes, block by block, and be submitted as null when it
   * is there. True only while nothing could refuse the write. Who reads the range meanwhile may see parts of it, as with any
   * requests that overlap in flight; a client that vanishes in the midst leaves whole blocks of it, as with a drive whose cable is pulled.
   */
  canLand?(offsetBytes: number, lengthBytes: number): boolean;

  /** Nanoseconds since power-on. Transports stamp arrivals with it, once per batch. */
  nowNs(): number;

  /**
   * Hands a request to the device. `requests.arrivalNs[slot]` must be set, and never be less than that of an earlier
   * submission. For a write `payload` holds its bytes, which are not kept; null when they have landed. The completion never comes before this returns.
   */
  submit(slot: RequestSlot, payload: Uint8Array | null, owner: RequestOwner): void;

  /**
   * To be called after a batch of `submit`, or of slots released outside `onCompletionsEnd`: completes what is due
   * already, wakes who waits by `onceNotFull`, and arms the timer for the rest. Harmless within a completion.
   */
  pump(): void;

  /** Copies bytes of a read while its completion is being sent: those that begin `fromBytes` into the request. */
  read(slot: RequestSlot, fromBytes: number, target: Uint8Array): Status;

  /**
   * Where on the device a failed request met its error; -1 when the error has no place. What a read asked for before
   * that place is good, and `read` still gives it.
   */
  errorOffsetBytes(slot: RequestSlot): number;

  /** The range as runs of held bytes and holes, in order and without gaps. */
  extents(offsetBytes: number, lengthBytes: number): Iterable<Extent>;

  /** The range as runs that armed faults may hit, and runs they may not, in order and without gaps. */
  faultExtents(offsetBytes: number, lengthBytes: number): Iterable<FaultExtent>;

  /**
   * The owner has gone (connection closed): its requests still run, their completions are dropped and slots released.
   * Those already completed are the owner's to release, before it calls this.
   */
  abandon(owner: RequestOwner): void;

  /** Calls `listener` once when a slot is free again after the table was full. */
  onceNotFull(listener: () => void): void;
}

export interface RequestOwner {
  /** The request is due. Called in order of due times. The owner releases the slot. */
  onCompletion(slot: RequestSlot): void;
  /** A batch of completions has been delivered: time to send what they produced. */
  onCompletionsEnd(): void;

  /**
   * An owner with this method sends its replies by itself, when they are due, and counts them: it has threads that keep
   * time even while this one does not. Called once per request, as soon as its due time and status are certain; that may
   * be at the due time only, or later. `onCompletion` follows, and means that the slot can be released.
   */
  onScheduled?(slot: RequestSlot, dueNs: number): void;

  /** To be had by an owner that submits writes without a payload: no fault forbids it, the bytes may move now. */
  movePayload?(slot: RequestSlot): void;
}

/** A device that polls transports with threads of their own. */
export interface PollingTarget extends BlockTarget {
  /** From now on the source is polled whenever the device looks at the time. */
  addSource(source: RequestSource): void;
  removeSource(source: RequestSource): void;
}

/** A transport whose requests are brought by threads of its own. */
export interface RequestSource {
  /** Submits what has arrived. Called before the device's time moves on, so that nothing that came before is overtaken. */
  poll(): void;
  /** The device has said what it has to say for now: time to pass it on. */
  settle(): void;
}
