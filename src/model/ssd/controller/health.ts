/**
 * The SMART/health log (02h) in the three forms people and programs read: the 512 bytes of NVM Express Base Specification
 * 1.4, 5.14.1.2, and the text and the JSON of `nvme smart-log` (nvme-cli 2, without and with `-o json`).
 *
 * Units are the specification's: data in thousands of 512 bytes, rounded up; temperatures in whole kelvins; busy and
 * warning times in minutes, throttling in seconds, power-on time in hours, all rounded down. nvme-cli takes a kelvin
 * for a degree Celsius plus 273.
 */
import type { HealthLog } from "../../../base/health.js";

export const healthLogBytes = 512;

const kelvinOffset = 273;
const dataUnitBytes = 512_000;
const secondNs = 1e9;
const minuteNs = 60e9;
const hourNs = 3600e9;
const maximumSensors = 8;

/** The fields in the units of the log. Counters of 128 bits hold what a float64 counts exactly. */
function logUnits(log: HealthLog) {
  const sensors = log.sensorsCelsius.slice(0, maximumSensors).map(toKelvin);
  return {
    criticalWarning: log.criticalWarning,
    temperature: toKelvin(log.temperatureCelsius),
    availableSpare: log.availableSparePercent,
    spareThreshold: log.availableSpareThresholdPercent,
    // "A value of 255 for all beyond" (5.14.1.2).
    percentageUsed: Math.min(255, Math.floor(log.percentageUsed)),
    dataUnitsRead: Math.ceil(log.bytesRead / dataUnitBytes),
    dataUnitsWritten: Math.ceil(log.bytesWritten / dataUnitBytes),
    hostReads: log.hostReadCommands,
    hostWrites: log.hostWriteCommands,
    busyMinutes: Math.floor(log.busyNs / minuteNs),
    powerCycles: log.powerCycles,
    powerOnHours: Math.floor(log.powerOnNs / hourNs),
    unsafeShutdowns: log.unsafeShutdowns,
    mediaErrors: log.mediaErrors,
    errorLogEntries: log.errorLogEntries,
    warningMinutes: Math.floor(log.warningTemperatureNs / minuteNs),
    criticalMinutes: Math.floor(log.criticalTemperatureNs / minuteNs),
    sensors,
    transitions: log.throttleTransitions,
    throttledSeconds: log.throttledNs.map((ns) => Math.floor(ns / secondNs)),
  };
}

function toKelvin(celsius: number): number {
  return Math.round(celsius) + kelvinOffset;
}

/** The log page as the device would send it. */
export function encodeHealthLog(log: HealthLog): Uint8Array {
  const units = logUnits(log);
  const page = new Uint8Array(healthLogBytes);
  const view = new DataView(page.buffer);
  const set128 = (offset: number, value: number) => view.setBigUint64(offset, BigInt(value), true);
  view.setUint8(0, units.criticalWarning);
  view.setUint16(1, units.temperature, true);
  view.setUint8(3, units.availableSpare);
  view.setUint8(4, units.spareThreshold);
  view.setUint8(5, units.percentageUsed);
  set128(32, units.dataUnitsRead);
  set128(48, units.dataUnitsWritten);
  set128(64, units.hostReads);
  set128(80, units.hostWrites);
  set128(96, units.busyMinutes);
  set128(112, units.powerCycles);
  set128(128, units.powerOnHours);
  set128(144, units.unsafeShutdowns);
  set128(160, units.mediaErrors);
  set128(176, units.errorLogEntries);
  view.setUint32(192, units.warningMinutes, true);
  view.setUint32(196, units.criticalMinutes, true);
  for (const [i, kelvin] of units.sensors.entries()) view.setUint16(200 + 2 * i, kelvin, true);
  view.setUint32(216, units.transitions[0], true);
  view.setUint32(220, units.transitions[1], true);
  view.setUint32(224, units.throttledSeconds[0], true);
  view.setUint32(228, units.throttledSeconds[1], true);
  return page;
}

/** What `nvme smart-log DEVICE` prints (nvme-cli, nvme-print-stdout.c). */
export function formatHealthLog(log: HealthLog, device: string): string {
  const units = logUnits(log);
  const lines = [
    `Smart Log for NVME device:${device} namespace-id:ffffffff`,
    ...[
      ["critical_warning", units.criticalWarning],
      ["temperature", temperature(units.temperature)],
      ["available_spare", `${units.availableSpare}%`],
      ["available_spare_threshold", `${units.spareThreshold}%`],
      ["percentage_used", `${units.percentageUsed}%`],
      ["endurance group critical warning summary", 0],
      ["Data Units Read", `${units.dataUnitsRead} (${siBytes(units.dataUnitsRead * dataUnitBytes)})`],
      [
        "Data Units Written",
        `${units.dataUnitsWritten} (${siBytes(units.dataUnitsWritten * dataUnitBytes)})`,
      ],
      ["host_read_commands", units.hostReads],
      ["host_write_commands", units.hostWrites],
      ["controller_busy_time", units.busyMinutes],
      ["power_cycles", units.powerCycles],
      ["power_on_hours", units.powerOnHours],
      ["unsafe_shutdowns", units.unsafeShutdowns],
      ["media_errors", units.mediaErrors],
      ["num_err_log_entries", units.errorLogEntries],
      ["Warning Temperature Time", units.warningMinutes],
      ["Critical Composite Temperature Time", units.criticalMinutes],
    ].map(([name, value]) => `${String(name).padEnd(40)}: ${value}`),
    // Narrower than the others in nvme-cli too.
    ...units.sensors.map((kelvin, i) => `Temperature Sensor ${i + 1}           : ${temperature(kelvin)}`),
    ...[
      ["Thermal Management T1 Trans Count", units.transitions[0]],
      ["Thermal Management T2 Trans Count", units.transitions[1]],
      ["Thermal Management T1 Total Time", units.throttledSeconds[0]],
      ["Thermal Management T2 Total Time", units.throttledSeconds[1]],
    ].map(([name, value]) => `${String(name).padEnd(40)}: ${value}`),
  ];
  return lines.join("\n");
}

/** What `nvme smart-log DEVICE -o json` prints, as an object (nvme-cli, nvme-print-json.c). */
export function healthLogJson(log: HealthLog): Record<string, number> {
  const units = logUnits(log);
  return {
    critical_warning: units.criticalWarning,
    temperature: units.temperature,
    avail_spare: units.availableSpare,
    spare_thresh: units.spareThreshold,
    percent_used: units.percentageUsed,
    endurance_grp_critical_warning_summary: 0,
    data_units_read: units.dataUnitsRead,
    data_units_written: units.dataUnitsWritten,
    host_read_commands: units.hostReads,
    host_write_commands: units.hostWrites,
    controller_busy_time: units.busyMinutes,
    power_cycles: units.powerCycles,
    power_on_hours: units.powerOnHours,
    unsafe_shutdowns: units.unsafeShutdowns,
    media_errors: units.mediaErrors,
    num_err_log_entries: units.errorLogEntries,
    warning_temp_time: units.warningMinutes,
    critical_comp_time: units.criticalMinutes,
    ...Object.fromEntries(units.sensors.map((kelvin, i) => [`temperature_sensor_${i + 1}`, kelvin])),
    thm_temp1_trans_count: units.transitions[0],
    thm_temp2_trans_count: units.transitions[1],
    thm_temp1_total_time: units.throttledSeconds[0],
    thm_temp2_total_time: units.throttledSeconds[1],
  };
}

function temperature(kelvin: number): string {
  return `${kelvin - kelvinOffset} °C (${kelvin} K)`;
}

/** Two decimals and a decimal unit, as nvme-cli writes them: 608.94 TB. */
function siBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${value.toFixed(2)} ${units[unit]}`;
}
