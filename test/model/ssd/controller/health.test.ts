import { describe, expect, it } from "vitest";
import type { HealthLog } from "../../../../src/base/health.js";
import {
  encodeHealthLog,
  formatHealthLog,
  healthLogJson,
} from "../../../../src/model/ssd/controller/health.js";

/** The values of a log published with an nvme-cli 2 bug report, as counters. */
const log: HealthLog = {
  criticalWarning: 2,
  temperatureCelsius: 31.2,
  availableSparePercent: 100,
  availableSpareThresholdPercent: 10,
  percentageUsed: 3.9,
  bytesRead: 1189327430 * 512_000 - 1,
  bytesWritten: 238585446 * 512_000,
  hostReadCommands: 4015229317,
  hostWriteCommands: 2361262261,
  busyNs: 7368 * 60e9 + 59e9,
  powerCycles: 56,
  powerOnNs: 2158 * 3600e9,
  unsafeShutdowns: 52,
  mediaErrors: 0,
  errorLogEntries: 0,
  warningTemperatureNs: 61e9,
  criticalTemperatureNs: 59e9,
  sensorsCelsius: [42, 31],
  throttleTransitions: [718, 2],
  throttledNs: [1476.9e9, 1e9],
};

describe("the health log", () => {
  it("reads as nvme smart-log prints it", () => {
    expect(formatHealthLog(log, "nvme1")).toBe(`Smart Log for NVME device:nvme1 namespace-id:ffffffff
critical_warning                        : 2
temperature                             : 31 °C (304 K)
available_spare                         : 100%
available_spare_threshold               : 10%
percentage_used                         : 3%
endurance group critical warning summary: 0
Data Units Read                         : 1189327430 (608.94 TB)
Data Units Written                      : 238585446 (122.16 TB)
host_read_commands                      : 4015229317
host_write_commands                     : 2361262261
controller_busy_time                    : 7368
power_cycles                            : 56
power_on_hours                          : 2158
unsafe_shutdowns                        : 52
media_errors                            : 0
num_err_log_entries                     : 0
Warning Temperature Time                : 1
Critical Composite Temperature Time     : 0
Temperature Sensor 1           : 42 °C (315 K)
Temperature Sensor 2           : 31 °C (304 K)
Thermal Management T1 Trans Count       : 718
Thermal Management T2 Trans Count       : 2
Thermal Management T1 Total Time        : 1476
Thermal Management T2 Total Time        : 1`);
  });

  it("has the keys of nvme smart-log -o json", () => {
    expect(healthLogJson(log)).toEqual({
      critical_warning: 2,
      temperature: 304,
      avail_spare: 100,
      spare_thresh: 10,
      percent_used: 3,
      endurance_grp_critical_warning_summary: 0,
      data_units_read: 1189327430,
      data_units_written: 238585446,
      host_read_commands: 4015229317,
      host_write_commands: 2361262261,
      controller_busy_time: 7368,
      power_cycles: 56,
      power_on_hours: 2158,
      unsafe_shutdowns: 52,
      media_errors: 0,
      num_err_log_entries: 0,
      warning_temp_time: 1,
      critical_comp_time: 0,
      temperature_sensor_1: 315,
      temperature_sensor_2: 304,
      thm_temp1_trans_count: 718,
      thm_temp2_trans_count: 2,
      thm_temp1_total_time: 1476,
      thm_temp2_total_time: 1,
    });
  });

  it("encodes to the 512 bytes of the specification", () => {
    const page = encodeHealthLog(log);
    const view = new DataView(page.buffer);
    expect(page.length).toBe(512);
    expect([...page.subarray(0, 7)]).toEqual([2, 304 & 255, 304 >> 8, 100, 10, 3, 0]);
    expect(view.getBigUint64(32, true)).toBe(1189327430n);
    expect(view.getBigUint64(40, true)).toBe(0n);
    expect(view.getBigUint64(48, true)).toBe(238585446n);
    expect(view.getBigUint64(64, true)).toBe(4015229317n);
    expect(view.getBigUint64(128, true)).toBe(2158n);
    expect(view.getBigUint64(144, true)).toBe(52n);
    expect(view.getUint32(192, true)).toBe(1);
    expect(view.getUint16(200, true)).toBe(315);
    expect(view.getUint16(204, true)).toBe(0);
    expect(view.getUint32(216, true)).toBe(718);
    expect(view.getUint32(224, true)).toBe(1476);
    expect(page.subarray(232).every((byte) => byte === 0)).toBe(true);
  });

  it("writes small amounts of data with their unit, and none as 0", () => {
    const fresh = { ...log, bytesRead: 0, bytesWritten: 1 };
    expect(formatHealthLog(fresh, "d")).toContain("Data Units Read                         : 0 (0.00 B)");
    expect(formatHealthLog(fresh, "d")).toContain("Data Units Written                      : 1 (512.00 kB)");
  });
});
