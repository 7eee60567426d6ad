/**
 * distribution: every request takes a random time, drawn from a distribution per operation.
 *
 * For devices of which only figures are known: two percentiles, a table, the histogram of a fio run. Samples are
 * independent, so there are no bursts of slow requests unless `slow` adds them, and neither address nor size matters.
 * With `concurrency` so many requests are served at once, in order of arrival, and the rest wait: throughput is then
 * limited to concurrency over mean latency. Samples are drawn in order of arrival.
 */
import { Random } from "../../base/random.js";
import type { RequestSlot, RequestTable } from "../../base/request.js";
import { Breakdown } from "../breakdown.js";
import { EventHeap } from "../event-heap.js";
import type { CompletionSink, Model } from "../model.js";
import { createSampler, type Sampler } from "./sampler.js";
import type { DistributionParameters } from "./schema.js";

export interface CreateDistributionOptions {
  parameters: DistributionParameters;
  requests: RequestTable;
  seed: number;
}

export function createDistributionModel(options: CreateDistributionOptions): Model {
  return new DistributionModel(options);
}

class DistributionModel implements Model {
  /** Where the time went: waiting for a server, and being served, which is all counted as overhead. */
  readonly breakdown: Breakdown;

  private readonly requests: RequestTable;
  private readonly random: Random;
  /** By operation code. */
  private readonly samplers: readonly Sampler[];
  /** Requests in flight by due time. One place per request: it cannot overflow. */
  private readonly due: EventHeap;
  /** When each server will be free; null without a limit. The earliest takes the next request. */
  private readonly servers: EventHeap | null;

  constructor({ parameters, requests, seed }: CreateDistributionOptions) {
    const { latency, concurrency } = parameters;
    this.requests = requests;
    this.random = new Random(seed, "model/distribution");
    this.samplers = latency.map(createSampler);
    this.breakdown = new Breakdown(requests.capacity);
    this.due = new EventHeap(requests.capacity);
    this.servers = concurrency === undefined ? null : new EventHeap(concurrency);
    for (let server = 0; server < (concurrency ?? 0); server++) this.servers?.push(0, server);
  }

  arrive(slot: RequestSlot, nowNs: number): void {
    const serviceNs = this.samplers[this.requests.op[slot]].sampleNs(this.random);
    let startNs = nowNs;
    // The servers' future is known as soon as a request arrives, since none overtakes another.
    if (this.servers !== null) {
      startNs = Math.max(nowNs, this.servers.nextNs);
      const server = this.servers.pop();
      this.servers.push(startNs + serviceNs, server);
    }
    this.breakdown.reset(slot);
    this.breakdown.queueNs[slot] = startNs - nowNs;
    this.breakdown.overheadNs[slot] = serviceNs;
    this.due.push(startNs + serviceNs, slot);
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
