/** What `GET /devices/{device}/stats` answers and `blkforge stats --json` prints. */
import type { Floor } from "../device/floor.js";
import type { DeviceReport } from "../device/spec.js";

/** Version of every JSON answer; it grows when a field changes its meaning or goes. New fields do not count. */
export const schemaVersion = 1;

/**
 * A device's counters since it started. Latency is from a request's arrival to its reply, lateness from its due
 * time to its reply. The figures of an empty histogram are NaN, which JSON writes as null.
 */
export interface StatsReport extends DeviceReport {
  schemaVersion: typeof schemaVersion;
  device: string;
  seed: number;
  /** What is taken off the model's latencies for the transport, in nanoseconds; null when nothing is. */
  floorNs: Floor | null;
}
