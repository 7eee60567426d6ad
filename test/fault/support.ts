/** A device's side of the faults, without a device: requests that arrive one after the other. */
import { Op, type Operation, type RequestSlot, RequestTable } from "../../src/base/request.js";
import type { FaultVerdict } from "../../src/fault/define.js";
import { FaultSet } from "../../src/fault/set.js";

export interface Arrival {
  op: Operation;
  offsetBytes?: number;
  lengthBytes?: number;
  queue?: number;
  atNs?: number;
}

export class FaultBench {
  readonly requests = new RequestTable(64);
  /** Holders that were released, in order. */
  readonly released: number[] = [];
  readonly faults: FaultSet;

  constructor({ seed = 1, sizeBytes = 2 ** 40, maxFaults = 64 } = {}) {
    this.faults = new FaultSet({
      seed,
      sizeBytes,
      maxFaults,
      requests: this.requests,
      onRelease: (holder) => this.released.push(holder),
    });
  }

  /** Lets a request arrive; the verdict is a copy that stays. */
  judge(arrival: Arrival): FaultVerdict {
    const slot = this.place(arrival);
    const verdict = this.faults.judge(slot, arrival.atNs ?? 0);
    this.requests.release(slot);
    return Object.assign(Object.create(Object.getPrototypeOf(verdict)), verdict);
  }

  place({ op, offsetBytes = 0, lengthBytes = op === "flush" ? 0 : 4096, queue = 0 }: Arrival): RequestSlot {
    const slot = this.requests.acquire();
    this.requests.op[slot] = Op[op];
    this.requests.offsetBytes[slot] = offsetBytes;
    this.requests.lengthBytes[slot] = lengthBytes;
    this.requests.queue[slot] = queue;
    return slot;
  }
}
