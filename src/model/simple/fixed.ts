/**
 * fixed: every operation takes a constant time of its own, however many requests are in flight.
 *
 * Exact at any queue depth: a request's due time depends on its arrival alone. No real device is like that, which is
 * the point: with `fixed`, every other effect one sees comes from the host. (nbdkit's delay filter, the usual tool for
 * this, holds one of its 16 threads per sleeping request, so it turns into a queue at depth 17.)
 */
import { Op, type RequestSlot, type RequestTable } from "../../base/request.js";
import { EventHeap } from "../event-heap.js";
import type { CompletionSink, Model } from "../model.js";
import type { FixedParameters } from "./schema.js";

export interface FixedOptions {
  parameters: FixedParameters;
  requests: RequestTable;
}

export function createFixedModel({ parameters, requests }: FixedOptions): Model {
  return new FixedModel(Float64Array.from(parameters.latency), requests);
}

class FixedModel implements Model {
  readonly isZeroFast: boolean;
  /** Requests in flight by due time; ties in arrival order. One place per request: it cannot overflow. */
  private readonly due: EventHeap;

  constructor(
    /** By operation code. */
    readonly constantLatenciesNs: Float64Array,
    private readonly requests: RequestTable,
  ) {
    this.due = new EventHeap(requests.capacity);
    this.isZeroFast = constantLatenciesNs[Op.zeroes] < constantLatenciesNs[Op.write];
  }

  arrive(slot: RequestSlot, nowNs: number): void {
    this.due.push(nowNs + this.constantLatenciesNs[this.requests.op[slot]], slot);
  }

  /** Size is nothing to it. */
  grow(): void {}

  nextEventNs(): number {
    return this.due.nextNs;
  }

  advance(toNs: number, done: CompletionSink): void {
    const { due } = this;
    while (due.nextNs <= toNs) {
      const dueNs = due.nextNs;
      done.complete(due.pop(), dueNs);
    }
  }
}
