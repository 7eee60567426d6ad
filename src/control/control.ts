/**
 * What can be done to a running device. The process that serves a device implements it over its thread's port
 * (device-control.ts), the client over HTTP (client.ts): both sides of the API are the same interface.
 *
 * Every method rejects with a `BlkError` for what a person can put right.
 */
import type { HealthLog } from "../base/health.js";
import type { DeviceDescription } from "../device/spec.js";
import type { FaultReport, FaultSpec } from "../fault/set.js";
import type { StatsReport } from "./stats-shape.js";

export interface DeviceControl {
  readonly name: string;
  describe(): Promise<DeviceDescription>;
  stats(): Promise<StatsReport>;
  /** The log the modelled device keeps of its own health; BLK_E_HEALTH when it keeps none. */
  health(): Promise<HealthLog>;
  /** Grows the device, in the eyes of a kernel that has attached it as well; answers with what it is now. */
  resize(sizeBytes: number): Promise<DeviceDescription>;
  readonly faults: FaultControl;
}

export interface FaultControl {
  /** Sets a fault; it acts from the next request on. */
  add(spec: FaultSpec): Promise<FaultReport>;
  /** In the order in which they act. */
  list(): Promise<FaultReport[]>;
  get(name: string): Promise<FaultReport>;
  /** Arms a fault, or makes it idle. */
  arm(name: string, isArmed: boolean): Promise<FaultReport>;
  /** Lets go of what the fault holds; the report is from just before. */
  release(name: string): Promise<FaultReport>;
  /** Answers with the fault's last report. */
  remove(name: string): Promise<FaultReport>;
  /** Removes every fault, releases every request, in any state; answers with the last reports. */
  reset(): Promise<FaultReport[]>;
}
