/**
 * What a device knows of its own health: the fields of the NVMe SMART/health log (log page 02h), in plain numbers.
 *
 * A model that keeps it counts what it really did (`Model.health`); what a model does not simulate is 0.
 */
export interface HealthLog {
  /** Bits: 0 spare low, 1 temperature, 2 reliability, 3 read-only, 4 volatile memory backup, 5 persistent memory. */
  criticalWarning: number;
  temperatureCelsius: number;
  availableSparePercent: number;
  availableSpareThresholdPercent: number;
  /** Of the rated endurance; may go beyond 100. */
  percentageUsed: number;
  bytesRead: number;
  bytesWritten: number;
  hostReadCommands: number;
  hostWriteCommands: number;
  /** Time with a command in the controller. */
  busyNs: number;
  powerCycles: number;
  powerOnNs: number;
  unsafeShutdowns: number;
  mediaErrors: number;
  errorLogEntries: number;
  /** Time at or above the warning temperature, and at or above the critical one. */
  warningTemperatureNs: number;
  criticalTemperatureNs: number;
  /** Up to eight sensors. */
  sensorsCelsius: number[];
  /** Light and heavy throttling: how often it began, how long it lasted. */
  throttleTransitions: [number, number];
  throttledNs: [number, number];
}
