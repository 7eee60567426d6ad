/** A model's report for people: names as words, values by the unit their name ends in. */
import { formatTable } from "../base/table.js";
import { formatDuration, formatSize } from "../base/units.js";
import type { ModelReport } from "./model.js";

/** `iopsCredits: 5400000` becomes "iops credits  5400000"; `waitedNs: 1e9` "waited  1.00 s". */
export function formatModelReport(report: ModelReport): string {
  return formatTable(Object.entries(report).map(([name, value]) => figure(name, value)));
}

function figure(name: string, value: number): [string, string] {
  if (name.endsWith("Ns")) return [words(name.slice(0, -2)), formatDuration(value)];
  if (name.endsWith("BytesPerSecond"))
    return [words(name.slice(0, -"BytesPerSecond".length)), `${rounded(value / 2 ** 20)} MiB/s`];
  if (name.endsWith("Bytes")) {
    // What is smaller than a hundredth of a MiB would read as nothing.
    const text = value > 0 && value < 2 ** 20 / 100 ? formatSize(value) : `${rounded(value / 2 ** 20)} MiB`;
    return [words(name.slice(0, -"Bytes".length)), text];
  }
  return [words(name), rounded(value)];
}

function words(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function rounded(value: number): string {
  return String(Math.round(value * 100) / 100);
}
