/** A device as the API sees it, with real faults behind it and nothing else. */
import { BlkError } from "../../src/base/errors.js";
import type { HealthLog } from "../../src/base/health.js";
import { Histogram } from "../../src/base/histogram.js";
import { type Operation, operations } from "../../src/base/request.js";
import type { DeviceControl } from "../../src/control/control.js";
import { schemaVersion } from "../../src/control/stats-shape.js";
import type { OperationStats } from "../../src/device/stats.js";
import { FaultBench } from "../fault/support.js";

export interface FakeDevice {
  control: DeviceControl;
  bench: FaultBench;
}

export function fakeDevice(name = "disk", health: HealthLog | null = null): FakeDevice {
  const bench = new FaultBench({ seed: 42 });
  const { faults } = bench;
  const readLatency = new Histogram();
  readLatency.record(1_000_000);
  const operationStats = (latency: Histogram): OperationStats => ({
    count: latency.count,
    bytes: latency.count * 4096,
    errors: 0,
    latency: latency.summary(),
  });
  let sizeBytes = 2 ** 40;
  const describe = async () => ({
    name,
    state: "serving" as const,
    profile: "fixed",
    description: "a device for tests",
    sizeBytes,
    seed: 42,
    isReadOnly: false,
    timing: "sleep" as const,
    timingReason: "asked for",
    idleLimitUs: null,
    uris: [],
    floorNs: null,
  });
  const control: DeviceControl = {
    name,
    describe,
    resize: async (wantedBytes) => {
      sizeBytes = wantedBytes;
      return await describe();
    },
    stats: async () => ({
      schemaVersion,
      device: name,
      seed: 42,
      floorNs: null,
      uptimeNs: 5e9,
      inFlight: 2,
      held: 1,
      operations: Object.fromEntries(
        operations.map((op) => [op, operationStats(op === "read" ? readLatency : new Histogram())]),
      ) as Record<Operation, OperationStats>,
      lateness: readLatency.summary(),
      store: { allocatedBytes: 65536 },
      faults: faults.list(),
      model: { iopsCredits: 1234, waitedNs: 2e9 },
    }),
    health: async () => {
      if (health === null) throw new BlkError("BLK_E_HEALTH", `"${name}" keeps no health log`, "Never mind");
      return health;
    },
    // Promises, as over a thread's port: what the set throws becomes a rejection.
    faults: {
      add: async (spec) => faults.add(spec),
      list: async () => faults.list(),
      get: async (fault) => faults.get(fault),
      arm: async (fault, isArmed) => faults.arm(fault, isArmed),
      release: async (fault) => faults.release(fault),
      remove: async (fault) => faults.remove(fault),
      reset: async () => faults.reset(),
    },
  };
  return { control, bench };
}

/** A log of which every field differs from the others where it can. */
export const healthLog: HealthLog = {
  criticalWarning: 0,
  temperatureCelsius: 38,
  availableSparePercent: 100,
  availableSpareThresholdPercent: 10,
  percentageUsed: 1,
  bytesRead: 512_000,
  bytesWritten: 1_024_000,
  hostReadCommands: 3,
  hostWriteCommands: 4,
  busyNs: 60e9,
  powerCycles: 5,
  powerOnNs: 3600e9,
  unsafeShutdowns: 6,
  mediaErrors: 7,
  errorLogEntries: 8,
  warningTemperatureNs: 0,
  criticalTemperatureNs: 0,
  sensorsCelsius: [40],
  throttleTransitions: [9, 10],
  throttledNs: [11e9, 12e9],
};
