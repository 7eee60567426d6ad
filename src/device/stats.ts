/**
 * A device's counters, on memory shared between its thread and whoever reads: the device thread only adds to typed
 * arrays, and reading never disturbs it.
 *
 * Latency is from arrival (the request entered the process) to reply (handed to the transport). Lateness is the
 * emulator's own error: reply minus due time. It is recorded for every completion and always published.
 */
import { Histogram, type LatencySummary } from "../base/histogram.js";
import { type Operation, operations } from "../base/request.js";

export interface OperationStats {
  count: number;
  bytes: number;
  errors: number;
  latency: LatencySummary;
}

export interface DeviceCounters {
  inFlight: number;
  held: number;
  operations: Record<Operation, OperationStats>;
  lateness: LatencySummary;
}

/** Float64 cells before the histograms: per operation count, bytes and errors; then requests in flight and held. */
const cellsPerOperation = 3;
const inFlightCell = operations.length * cellsPerOperation;
const heldCell = inFlightCell + 1;
const cellCount = heldCell + 1;
const histogramsOffset = cellCount * Float64Array.BYTES_PER_ELEMENT;

export class DeviceStats {
  private readonly cells: Float64Array;
  private readonly latencies: Histogram[] = [];
  private readonly lateness: Histogram;

  /** @param buffer zeroed memory, `DeviceStats.byteLength` from `offset` on; the two sides of a device share it. */
  constructor(
    readonly buffer: SharedArrayBuffer = new SharedArrayBuffer(DeviceStats.byteLength),
    private readonly offset = 0,
  ) {
    this.cells = new Float64Array(buffer, offset, cellCount);
    for (let op = 0; op < operations.length; op++) {
      this.latencies.push(new Histogram(buffer, offset + histogramsOffset + op * Histogram.byteLength));
    }
    this.lateness = new Histogram(
      buffer,
      offset + histogramsOffset + operations.length * Histogram.byteLength,
    );
  }

  static readonly byteLength = histogramsOffset + (operations.length + 1) * Histogram.byteLength;

  /** All cells, for native code that counts as this does (native/counters.cc), on the same thread. */
  get nativeCells(): Float64Array {
    return new Float64Array(
      this.buffer,
      this.offset,
      DeviceStats.byteLength / Float64Array.BYTES_PER_ELEMENT,
    );
  }

  recordCompletion(
    op: number,
    lengthBytes: number,
    isError: boolean,
    latencyNs: number,
    latenessNs: number,
  ): void {
    const cell = op * cellsPerOperation;
    this.cells[cell]++;
    if (isError) this.cells[cell + 2]++;
    else this.cells[cell + 1] += lengthBytes;
    this.latencies[op].record(latencyNs);
    this.lateness.record(latenessNs);
  }

  setGauges(inFlight: number, held: number): void {
    this.cells[inFlightCell] = inFlight;
    this.cells[heldCell] = held;
  }

  /** Adds the counters of another part of the device: a hardware queue with a thread of its own. */
  add(other: DeviceStats): void {
    for (let cell = 0; cell < cellCount; cell++) this.cells[cell] += other.cells[cell];
    for (let op = 0; op < operations.length; op++) this.latencies[op].add(other.latencies[op]);
    this.lateness.add(other.lateness);
  }

  read(): DeviceCounters {
    const byOperation = {} as Record<Operation, OperationStats>;
    for (const [op, name] of operations.entries()) {
      const cell = op * cellsPerOperation;
      byOperation[name] = {
        count: this.cells[cell],
        bytes: this.cells[cell + 1],
        errors: this.cells[cell + 2],
        latency: this.latencies[op].summary(),
      };
    }
    return {
      inFlight: this.cells[inFlightCell],
      held: this.cells[heldCell],
      operations: byOperation,
      lateness: this.lateness.summary(),
    };
  }
}
