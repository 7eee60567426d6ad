/**
 * cloud: a network volume, as fast as its provider lets it be.
 *
 * A request waits until every limit that applies to it (requests a second, bytes a second) lets it start, then takes a
 * random time. What is over a limit waits in front of it, in order of arrival; nothing ever fails, as on real volumes,
 * where throttling shows as queueing. Flushes take their latency and count for nothing: what these volumes have
 * acknowledged is durable.
 *
 * Left out: the limits of the virtual machine the volume is attached to, which often bind first, the network between
 * them, and neighbours. `docs/cloud.md` says what each provider's rules are and how they are written.
 */
import { Random } from "../../base/random.js";
import { Op, type RequestSlot, type RequestTable } from "../../base/request.js";
import { Breakdown } from "../breakdown.js";
import { createSampler, type Sampler } from "../distribution/sampler.js";
import { EventHeap } from "../event-heap.js";
import type { CompletionSink, Model, ModelReport } from "../model.js";
import { Limit } from "./limit.js";
import type { CloudParameters } from "./schema.js";

export interface CreateCloudOptions {
  parameters: CloudParameters;
  sizeBytes: number;
  requests: RequestTable;
  seed: number;
}

export function createCloudModel(options: CreateCloudOptions): CloudModel {
  return new CloudModel(options);
}

export class CloudModel implements Model {
  /** Where the time went: queue is waiting for limits, overhead the latency drawn, transfer the data. */
  readonly breakdown: Breakdown;

  private readonly requests: RequestTable;
  private readonly random: Random;
  /** By operation code. */
  private readonly samplers: readonly Sampler[];
  private readonly nsPerByte: number;
  private readonly limits: readonly Limit[];
  /** What the request that is arriving costs, by limit. */
  private readonly costs: Float64Array;
  /** Requests in flight by due time. One place per request: it cannot overflow. */
  private readonly due: EventHeap;
  /** The latest moment the model was told of. */
  private nowNs = 0;

  constructor({ parameters, sizeBytes, requests, seed }: CreateCloudOptions) {
    this.requests = requests;
    this.random = new Random(seed, "model/cloud");
    this.samplers = parameters.latency.map(createSampler);
    this.nsPerByte = parameters.transfer === undefined ? 0 : 1e9 / parameters.transfer;
    this.limits = parameters.limits.map((limit) => new Limit(limit, sizeBytes));
    this.costs = new Float64Array(this.limits.length);
    this.breakdown = new Breakdown(requests.capacity);
    this.due = new EventHeap(requests.capacity);
  }

  arrive(slot: RequestSlot, nowNs: number): void {
    const { requests, limits, costs, breakdown } = this;
    this.nowNs = nowNs;
    const op = requests.op[slot];
    let startNs = nowNs;
    let binding = -1;
    for (let i = 0; i < limits.length; i++) {
      if (!limits[i].applies(op)) continue;
      costs[i] = limits[i].costOf(requests, slot);
      const readyNs = limits[i].readyNs(costs[i], nowNs);
      if (readyNs <= startNs) continue;
      startNs = readyNs;
      binding = i;
    }
    for (let i = 0; i < limits.length; i++) {
      if (limits[i].applies(op)) limits[i].take(costs[i], startNs);
    }
    if (binding >= 0) limits[binding].countWait(startNs - nowNs);
    const hasData = op === Op.read || op === Op.write;
    breakdown.reset(slot);
    breakdown.queueNs[slot] = startNs - nowNs;
    breakdown.overheadNs[slot] = this.samplers[op].sampleNs(this.random);
    breakdown.transferNs[slot] = hasData ? requests.lengthBytes[slot] * this.nsPerByte : 0;
    this.due.push(startNs + breakdown.overheadNs[slot] + breakdown.transferNs[slot], slot);
  }

  /** Volumes grow while they are in use, and their limits with them; credits stay. */
  grow(sizeBytes: number): void {
    for (const limit of this.limits) limit.setSize(sizeBytes, this.nowNs);
  }

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

  report(nowNs: number): ModelReport {
    const figures: ModelReport = {};
    for (const limit of this.limits) limit.report(nowNs, figures);
    return figures;
  }
}
