/** The drive's SMART/health log: what the host has asked of it, and how its flash and its temperature are. */
import type { HealthLog } from "../../base/health.js";
import { Op, type RequestSlot, type RequestTable } from "../../base/request.js";
import type { Activity } from "./activity.js";
import { type Thermal, Throttle } from "./controller/thermal.js";
import type { SsdCounters } from "./counters.js";
import type { SsdParameters } from "./schema.js";
import type { Wear } from "./wear.js";

/** Available spare below which the health log warns: what most drives report. */
const spareThresholdPercent = 10;

export class Smart {
  private readCommands = 0;
  private writeCommands = 0;
  private readBytes = 0;
  private writtenBytes = 0;

  constructor(
    private readonly requests: RequestTable,
    private readonly activity: Activity,
    private readonly wear: Wear,
    private readonly counters: SsdCounters,
    private readonly thermal: Thermal | null,
    private readonly thermalParameters: SsdParameters["thermal"],
  ) {}

  /** A command is complete. */
  count(slot: RequestSlot): void {
    const op = this.requests.op[slot];
    if (op === Op.read) {
      this.readCommands++;
      this.readBytes += this.requests.lengthBytes[slot];
    } else if (op === Op.write) {
      this.writeCommands++;
      this.writtenBytes += this.requests.lengthBytes[slot];
    }
  }

  log(nowNs: number): HealthLog {
    const { wear, thermal, thermalParameters, counters } = this;
    thermal?.advance(nowNs);
    const spare = wear.availableSparePercent;
    const isHot =
      thermal !== null && thermalParameters !== undefined && thermal.celsius >= thermalParameters.warning;
    return {
      criticalWarning: (spare < spareThresholdPercent ? 1 : 0) | (isHot ? 2 : 0),
      temperatureCelsius: thermal === null ? 0 : Math.round(thermal.celsius),
      availableSparePercent: spare,
      availableSpareThresholdPercent: spareThresholdPercent,
      percentageUsed: wear.percentageUsed,
      bytesRead: this.readBytes,
      bytesWritten: this.writtenBytes,
      hostReadCommands: this.readCommands,
      hostWriteCommands: this.writeCommands,
      busyNs: this.activity.totalBusyNs(nowNs),
      powerCycles: 1,
      powerOnNs: nowNs,
      unsafeShutdowns: 0,
      mediaErrors: 0,
      errorLogEntries: counters.programFailures + counters.eraseFailures,
      warningTemperatureNs: thermal?.totalWarningNs ?? 0,
      criticalTemperatureNs: thermal?.totalCriticalNs ?? 0,
      sensorsCelsius: thermal === null ? [] : [Math.round(thermal.celsius)],
      throttleTransitions: [
        thermal?.transitionsTo(Throttle.light) ?? 0,
        thermal?.transitionsTo(Throttle.heavy) ?? 0,
      ],
      throttledNs: [thermal?.totalNs(Throttle.light) ?? 0, thermal?.totalNs(Throttle.heavy) ?? 0],
    };
  }
}
