/**
 * Runs a model on virtual time: no kernel, no waiting, no bytes. A source (workload or trace) issues requests, the
 * model completes them, and the clock jumps from one event to the next.
 *
 * It keeps the promises of the live device (`src/device/device.ts`), so the same arrivals give the same completion
 * times to the bit: the model is advanced to the instant of an arrival before the request is handed in, arrivals never
 * go back in time, and at one instant completions come before arrivals. Requests that find the device's table full wait
 * outside, first come first served; their latency counts from when they were wanted, so a device that cannot keep up
 * shows it (no coordinated omission).
 *
 * Nothing is allocated per request.
 */
import { assert } from "../base/assert.js";
import { BlkError } from "../base/errors.js";
import { noSlot, type RequestSlot, type RequestTable } from "../base/request.js";
import type { CompletionSink, Model } from "../model/model.js";
import type { RequestSource } from "../workload/source.js";
import type { RunStats } from "./stats.js";

/** Called for every completion while the request's row still stands; for logs and comparisons. */
export interface CompletionObserver {
  onCompletion(slot: RequestSlot, wantedNs: number, dueNs: number): void;
}

export interface EngineOptions {
  model: Model;
  requests: RequestTable;
  source: RequestSource;
  stats: RunStats;
  observer?: CompletionObserver | undefined;
  /** Called every `progressInterval` requests with the present and the number of completions. */
  onProgress?: ((nowNs: number, completed: number) => void) | undefined;
}

const progressInterval = 65_536;

/**
 * Requests that may complete without the clock moving. A model that takes no time under a workload that ends by time
 * would run for ever; no real queue gets near it.
 */
const maximumAtOneInstant = 10_000_000;

/**
 * Runs until the source has no more requests and all are complete; returns the time at the end.
 *
 * @throws BlkError BLK_E_WORKLOAD when time stands still.
 */
export function runEngine(options: EngineOptions): number {
  return new Engine(options).run();
}

class Engine implements CompletionSink {
  private readonly model: Model;
  private readonly requests: RequestTable;
  private readonly source: RequestSource;
  private readonly stats: RunStats;
  private readonly observer: CompletionObserver | null;
  private readonly onProgress: ((nowNs: number, completed: number) => void) | null;
  /** When each request in flight was wanted. */
  private readonly wantedNs: Float64Array;
  private nowNs = 0;
  private completed = 0;

  constructor({ model, requests, source, stats, observer, onProgress }: EngineOptions) {
    this.model = model;
    this.requests = requests;
    this.source = source;
    this.stats = stats;
    this.observer = observer ?? null;
    this.onProgress = onProgress ?? null;
    this.wantedNs = new Float64Array(requests.capacity);
  }

  run(): number {
    const { model, requests, source } = this;
    let nextProgress = progressInterval;
    let instantNs = 0;
    let completedBefore = 0;
    for (;;) {
      const eventNs = model.nextEventNs();
      const wantedNs = requests.isFull ? Number.POSITIVE_INFINITY : source.nextIssueNs();
      // With nothing in flight and nothing to come, what a device still does of its own accord is not waited for.
      if (wantedNs === Number.POSITIVE_INFINITY && requests.inFlight === 0) break;
      if (eventNs <= wantedNs) {
        assert(
          eventNs !== Number.POSITIVE_INFINITY,
          "a model with requests in flight says when its next event is",
        );
        if (eventNs > this.nowNs) this.nowNs = eventNs;
        model.advance(eventNs, this);
      } else {
        this.arrive(wantedNs);
      }
      if (this.completed >= nextProgress) {
        nextProgress += progressInterval;
        this.onProgress?.(this.nowNs, this.completed);
        if (this.nowNs > instantNs) completedBefore = this.completed;
        instantNs = this.nowNs;
        if (this.completed - completedBefore > maximumAtOneInstant) throw timeStandsStill(this.nowNs);
      }
    }
    this.stats.endAt(this.nowNs);
    return this.nowNs;
  }

  /** Called by the model: `slot` completes at `dueNs`. */
  complete(slot: RequestSlot, dueNs: number): void {
    const { requests, source } = this;
    requests.dueNs[slot] = dueNs;
    this.completed++;
    this.stats.recordCompletion(slot, this.wantedNs[slot], dueNs);
    this.observer?.onCompletion(slot, this.wantedNs[slot], dueNs);
    source.complete(slot, dueNs);
    requests.release(slot);
  }

  private arrive(wantedNs: number): void {
    const { requests } = this;
    const nowNs = Math.max(wantedNs, this.nowNs);
    this.nowNs = nowNs;
    this.stats.recordArrival(wantedNs, nowNs);
    const slot = requests.acquire();
    assert(slot !== noSlot, "a request is issued only when the table has room");
    requests.arrivalNs[slot] = nowNs;
    this.wantedNs[slot] = wantedNs;
    this.source.issue(slot, nowNs);
    this.model.advance(nowNs, this);
    this.model.arrive(slot, nowNs);
  }
}

function timeStandsStill(nowNs: number): BlkError {
  return new BlkError(
    "BLK_E_WORKLOAD",
    `time stands still at ${nowNs} ns: the device takes no time, so the workload's runtime never ends`,
    "Limit the workload by number_ios or size, or choose a device that takes time",
  );
}
