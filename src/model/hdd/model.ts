/**
 * A hard disk: arm, platters and the controller in front of them, as a discrete-event simulator.
 */
import { Op, type RequestSlot, type RequestTable } from "../../base/request.js";
import { Breakdown } from "../breakdown.js";
import { EventHeap } from "../event-heap.js";
import type { CompletionSink, Model } from "../model.js";
import { createGeometry, sectorBytes } from "./geometry.js";
import { Mechanics } from "./mechanics.js";
import type { HddParameters } from "./schema.js";
import { seekTable } from "./seek-curve.js";

export interface CreateHddOptions {
  parameters: HddParameters;
  sizeBytes: number;
  requests: RequestTable;
  seed: number;
}

export function createHddModel(options: CreateHddOptions): HddModel {
  return new HddModel(options);
}

export class HddModel implements Model {
  readonly breakdown: Breakdown;

  private readonly requests: RequestTable;
  private readonly events: EventHeap;
  private readonly mechanics: Mechanics;
  private readonly interfaceNsPerByte: number;
  private readonly overheadNs: Float64Array;
  /** When the arm has served everything that arrived so far. */
  private freeNs = 0;

  constructor({ parameters, sizeBytes, requests }: CreateHddOptions) {
    this.requests = requests;
    this.breakdown = new Breakdown(requests.capacity);
    this.events = new EventHeap(requests.capacity);
    const geometry = createGeometry(parameters, sizeBytes);
    this.mechanics = new Mechanics({
      geometry,
      revolutionNs: 60e9 / parameters.rpm,
      seekNs: seekTable(parameters.seek, geometry.cylinders),
      headSwitchNs: parameters.headSwitch,
      writeSettleNs: parameters.seek.writeSettle,
      hasZeroLatencyRead: parameters.cache.zeroLatencyRead,
      hasZeroLatencyWrite: parameters.cache.zeroLatencyWrite,
    });
    this.interfaceNsPerByte = 1e9 / parameters.interface.rate;
    const { overhead } = parameters;
    this.overheadNs = Float64Array.of(
      overhead.readMiss.afterRead,
      overhead.writeMiss.afterWrite,
      overhead.other,
      overhead.other,
      overhead.writeMiss.afterWrite,
    );
  }

  arrive(slot: RequestSlot, nowNs: number): void {
    const { requests, mechanics, breakdown } = this;
    breakdown.reset(slot);
    const op = requests.op[slot];
    const overheadNs = this.overheadNs[op];
    const startNs = Math.max(nowNs + overheadNs, this.freeNs);
    breakdown.overheadNs[slot] = overheadNs;
    breakdown.queueNs[slot] = startNs - nowNs - overheadNs;
    if (op === Op.flush || op === Op.trim) {
      this.events.push(startNs, slot);
      return;
    }
    const block = Math.floor(requests.offsetBytes[slot] / sectorBytes);
    const end = Math.ceil((requests.offsetBytes[slot] + requests.lengthBytes[slot]) / sectorBytes);
    const mediaNs = mechanics.access(block, Math.max(1, end - block), op !== Op.read, startNs);
    this.freeNs = mediaNs;
    const interfaceNs = op === Op.zeroes ? 0 : requests.lengthBytes[slot] * this.interfaceNsPerByte;
    const dueNs = Math.max(mediaNs, mechanics.firstBlockNs + interfaceNs);
    breakdown.seekNs[slot] = mechanics.seekTimeNs;
    breakdown.rotationNs[slot] = mechanics.rotationTimeNs;
    breakdown.transferNs[slot] = dueNs - startNs - mechanics.seekTimeNs - mechanics.rotationTimeNs;
    this.events.push(dueNs, slot);
  }

  nextEventNs(): number {
    return this.events.nextNs;
  }

  advance(toNs: number, done: CompletionSink): void {
    const { events } = this;
    while (events.nextNs <= toNs) {
      const dueNs = events.nextNs;
      done.complete(events.pop(), dueNs);
    }
  }
}
