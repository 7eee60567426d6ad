/**
 * A device for tests of the transport: bytes in memory, and completions under the test's control. In `auto` mode a
 * request completes at the next `pump`; in `manual` mode when the test says so, in any order.
 */
import type { Extent, FaultExtent } from "../../../src/base/extent.js";
import { Op, type RequestSlot, RequestTable } from "../../../src/base/request.js";
import { Status } from "../../../src/base/status.js";
import type { BlockTarget, RequestOwner } from "../../../src/base/target.js";
import type { ZoneView } from "../../../src/base/zone.js";

export interface MemoryTargetOptions {
  sizeBytes?: number;
  capacity?: number;
  mode?: "auto" | "manual";
  isReadOnly?: boolean;
  isRotational?: boolean;
  canTrim?: boolean;
  canZeroFast?: boolean;
  minimumBlockBytes?: number;
  description?: string;
}

/** What the device saw of a request. */
export interface SeenRequest {
  slot: RequestSlot;
  op: number;
  flags: number;
  queue: number;
  offsetBytes: number;
  lengthBytes: number;
}

export class MemoryTarget implements BlockTarget {
  readonly name = "memory";
  readonly description: string;
  readonly sizeBytes: number;
  readonly minimumBlockBytes: number;
  readonly preferredBlockBytes = 4096;
  readonly isReadOnly: boolean;
  readonly isRotational: boolean;
  readonly hasVolatileCache = true;
  readonly zones: ZoneView | null = null;
  readonly canTrim: boolean;
  readonly canZeroFast: boolean;
  readonly requests: RequestTable;

  /** The beginning of a device larger than 64 MiB. */
  readonly bytes: Buffer;
  readonly seen: SeenRequest[] = [];
  /** Submitted and not completed, oldest first. */
  readonly pending: RequestSlot[] = [];
  mode: "auto" | "manual";
  /** Status the next requests end with. */
  failWith: Status = Status.ok;
  readStatus: Status = Status.ok;
  /** Where the errors of `failWith` lie. */
  errorAtBytes = -1;
  /** Ranges that hold nothing, in order; everything else is held. */
  holes: { offsetBytes: number; lengthBytes: number }[] = [];
  faultRuns: FaultExtent[] = [];
  abandoned = 0;

  private readonly owners: (RequestOwner | null)[];
  private readonly waiting: (() => void)[] = [];
  private isPumping = false;
  private now = 0;

  constructor(options: MemoryTargetOptions = {}) {
    this.sizeBytes = options.sizeBytes ?? 1024 * 1024;
    this.bytes = Buffer.alloc(Math.min(this.sizeBytes, 64 * 1024 * 1024));
    this.requests = new RequestTable(options.capacity ?? 64);
    this.owners = new Array<RequestOwner | null>(this.requests.capacity).fill(null);
    this.mode = options.mode ?? "auto";
    this.isReadOnly = options.isReadOnly ?? false;
    this.isRotational = options.isRotational ?? false;
    this.canTrim = options.canTrim ?? true;
    this.canZeroFast = options.canZeroFast ?? false;
    this.minimumBlockBytes = options.minimumBlockBytes ?? 1;
    this.description = options.description ?? "memory for tests";
  }

  nowNs(): number {
    return this.now++;
  }

  submit(slot: RequestSlot, payload: Uint8Array | null, owner: RequestOwner): void {
    const { requests } = this;
    const offsetBytes = requests.offsetBytes[slot];
    const lengthBytes = requests.lengthBytes[slot];
    const op = requests.op[slot];
    this.seen.push({
      slot,
      op,
      flags: requests.flags[slot],
      queue: requests.queue[slot],
      offsetBytes,
      lengthBytes,
    });
    requests.status[slot] = this.failWith;
    this.owners[slot] = owner;
    this.pending.push(slot);
    if (this.failWith !== Status.ok) return;
    if (op === Op.write) this.bytes.set(payload!, offsetBytes);
    if (op === Op.trim || op === Op.zeroes)
      this.bytes.subarray(offsetBytes, offsetBytes + lengthBytes).fill(0);
  }

  pump(): void {
    if (this.isPumping) return;
    this.isPumping = true;
    if (this.mode === "auto") {
      while (this.pending.length > 0) this.deliver(this.pending.splice(0));
    }
    for (let i = this.waiting.length; i > 0 && !this.requests.isFull; i--) this.waiting.shift()!();
    this.isPumping = false;
    if (this.mode === "auto" && this.pending.length > 0) this.pump();
  }

  /** Completes the given requests in this order, all in one batch. */
  complete(...slots: RequestSlot[]): void {
    for (const slot of slots) this.pending.splice(this.pending.indexOf(slot), 1);
    this.deliver(slots);
    this.pump();
  }

  completeAll(): void {
    this.complete(...this.pending);
  }

  read(slot: RequestSlot, fromBytes: number, target: Uint8Array): Status {
    if (this.readStatus !== Status.ok) return this.readStatus;
    const offsetBytes = this.requests.offsetBytes[slot] + fromBytes;
    target.set(this.bytes.subarray(offsetBytes, offsetBytes + target.length));
    return Status.ok;
  }

  errorOffsetBytes(_slot: RequestSlot): number {
    return this.errorAtBytes;
  }

  *extents(offsetBytes: number, lengthBytes: number): Generator<Extent> {
    const endBytes = offsetBytes + lengthBytes;
    let from = offsetBytes;
    const run = (to: number, isAllocated: boolean): Extent => {
      const extent = { offsetBytes: from, lengthBytes: to - from, isAllocated };
      from = to;
      return extent;
    };
    for (const hole of this.holes) {
      const holeEnd = Math.min(hole.offsetBytes + hole.lengthBytes, endBytes);
      if (holeEnd <= from || hole.offsetBytes >= endBytes) continue;
      if (hole.offsetBytes > from) yield run(hole.offsetBytes, true);
      yield run(holeEnd, false);
    }
    if (from < endBytes) yield run(endBytes, true);
  }

  *faultExtents(offsetBytes: number, lengthBytes: number): Generator<FaultExtent> {
    const endBytes = offsetBytes + lengthBytes;
    let from = offsetBytes;
    for (const run of this.faultRuns) {
      const to = Math.min(run.offsetBytes + run.lengthBytes, endBytes);
      if (to <= from || run.offsetBytes >= endBytes) continue;
      if (run.offsetBytes > from) {
        yield { offsetBytes: from, lengthBytes: run.offsetBytes - from, opMask: 0 };
        from = run.offsetBytes;
      }
      yield { offsetBytes: from, lengthBytes: to - from, opMask: run.opMask };
      from = to;
    }
    if (from < endBytes) yield { offsetBytes: from, lengthBytes: endBytes - from, opMask: 0 };
  }

  abandon(owner: RequestOwner): void {
    this.abandoned++;
    for (let slot = 0; slot < this.owners.length; slot++) {
      if (this.owners[slot] === owner) this.owners[slot] = null;
    }
    this.pump();
  }

  onceNotFull(listener: () => void): void {
    this.waiting.push(listener);
  }

  private deliver(slots: RequestSlot[]): void {
    const owners = new Set<RequestOwner>();
    for (const slot of slots) {
      const owner = this.owners[slot];
      this.owners[slot] = null;
      if (owner === null) {
        this.requests.release(slot);
      } else {
        owners.add(owner);
        owner.onCompletion(slot);
      }
    }
    for (const owner of owners) owner.onCompletionsEnd();
  }
}
