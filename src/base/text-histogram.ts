/**
 * Latency histograms as text, for people: rows spaced logarithmically, so an instant device and a hard disk fit on one
 * screen, and columns side by side on common rows and a common scale, so bars can be compared by eye.
 *
 * Row bounds come from the E series of preferred numbers (IEC 60063): 3, 6 or 12 steps per decade, round to two digits.
 * The finest series that keeps within `maximumRows` is taken. A value within 0.8 % of a bound may stand in the
 * neighbouring row, the resolution of `Histogram`.
 */
import type { Histogram } from "./histogram.js";

export interface HistogramColumn {
  title: string;
  histogram: Histogram;
}

export interface TextHistogramOptions {
  /** Characters per line, the terminal's width say. */
  widthColumns?: number;
  /** Rows of bars at most. */
  maximumRows?: number;
  /** Bars of `#` for terminals without Unicode. */
  asciiOnly?: boolean;
}

/** Steps within a decade, from coarse to fine: one, E3, E6 and E12. */
const series: readonly (readonly number[])[] = [
  [1],
  [1, 2.2, 4.7],
  [1, 1.5, 2.2, 3.3, 4.7, 6.8],
  [1, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2],
];

/** Eighths of a character cell, from the left. */
const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

const minimumBarColumns = 8;

/**
 * Renders one or more histograms as lines of text; an empty array when none holds a value.
 *
 * @example
 * console.log(renderHistograms([{ title: "read", histogram }]).join("\n"));
 */
export function renderHistograms(
  columns: readonly HistogramColumn[],
  { widthColumns = 100, maximumRows = 20, asciiOnly = false }: TextHistogramOptions = {},
): string[] {
  const filled = columns.filter(({ histogram }) => histogram.count > 0);
  if (filled.length === 0) return [];
  const bounds = chooseBounds(
    Math.min(...filled.map(({ histogram }) => histogram.summary().minNs)),
    Math.max(...filled.map(({ histogram }) => histogram.summary().maxNs)),
    maximumRows,
  );
  const rowCount = bounds.length - 1;
  const shares = columns.map(({ histogram }) => countRows(histogram, bounds));
  const largestShare = Math.max(
    ...shares.flatMap((counts, i) => counts.map((count) => count / Math.max(columns[i].histogram.count, 1))),
  );

  const labels = bounds.map(formatBound);
  const labelWidth = Math.max(...labels.map((label) => label.length));
  const rangeWidth = 2 * labelWidth + 4;
  const countWidth = Math.max(5, ...columns.map(({ histogram }) => String(histogram.count).length));
  // A cell is two blanks, the bar, the count and the percentage ("100.0 %").
  const figuresWidth = countWidth + 9;
  const cellWidth = Math.floor((widthColumns - rangeWidth) / columns.length);
  const barWidth = Math.max(minimumBarColumns, cellWidth - figuresWidth - 3);

  const titles = columns.map(({ title }) => `  ${clip(title, barWidth + 1 + figuresWidth)}`);
  const lines = [`${" ".repeat(rangeWidth)}${titles.join("")}`.trimEnd()];
  for (let row = 0; row < rowCount; row++) {
    const range = `${labels[row].padStart(labelWidth)} .. ${labels[row + 1].padStart(labelWidth)}`;
    const cells = columns.map(({ histogram }, i) => {
      const count = shares[i][row];
      if (count === 0) return " ".repeat(barWidth + figuresWidth + 3);
      const share = count / histogram.count;
      const bar = renderBar((share / largestShare) * barWidth, asciiOnly).padEnd(barWidth);
      return `  ${bar} ${String(count).padStart(countWidth)} ${formatShare(share).padStart(8)}`;
    });
    lines.push(`${range}${cells.join("")}`.trimEnd());
  }
  return lines;
}

/** Bounds of the rows, ascending, such that every value from `minimumNs` to `maximumNs` lies in one. */
function chooseBounds(minimumNs: number, maximumNs: number, maximumRows: number): number[] {
  const low = Math.max(minimumNs, 1);
  const high = Math.max(maximumNs, low);
  let chosen: number[] = [];
  for (const steps of series) {
    const bounds = boundsOf(steps, low, high);
    // The coarsest is taken in any case: rows are then as many as decades, fourteen at most for what a histogram holds.
    if (chosen.length > 0 && bounds.length - 1 > maximumRows) break;
    chosen = bounds;
  }
  // A time of zero has no logarithm; it gets the first row.
  return minimumNs < 1 ? [0, ...chosen] : chosen;
}

function boundsOf(steps: readonly number[], low: number, high: number): number[] {
  const bounds: number[] = [];
  for (let decade = Math.floor(Math.log10(low)); ; decade++) {
    for (const step of steps) {
      // Two digits times a power of ten: rounding takes away the noise of the multiplication.
      const bound = Number((step * 10 ** decade).toPrecision(2));
      if (bound <= low) bounds.length = 0;
      bounds.push(bound);
      if (bound > high) return bounds;
    }
  }
}

function countRows(histogram: Histogram, bounds: readonly number[]): number[] {
  const counts = new Array<number>(bounds.length - 1).fill(0);
  if (histogram.count === 0) return counts;
  const { minNs, maxNs } = histogram.summary();
  let row = 0;
  for (const { fromNs, toNs, count } of histogram.buckets()) {
    // A bucket across a bound goes where its middle lies; the extremes are known exactly.
    const valueNs = Math.min(Math.max((fromNs + toNs) / 2, minNs), maxNs);
    while (row < counts.length - 1 && valueNs >= bounds[row + 1]) row++;
    counts[row] += count;
  }
  return counts;
}

/** A bar of `length` character cells; what is not zero is always visible. */
function renderBar(length: number, asciiOnly: boolean): string {
  if (asciiOnly) return "#".repeat(Math.max(1, Math.round(length)));
  const units = Math.max(1, Math.round(length * 8));
  return "█".repeat(Math.floor(units / 8)) + eighths[units % 8];
}

function formatBound(boundNs: number): string {
  const units: [number, string][] = [
    [1e9, "s"],
    [1e6, "ms"],
    [1e3, "us"],
  ];
  for (const [factor, unit] of units) {
    if (boundNs >= factor) return `${Number((boundNs / factor).toPrecision(2))} ${unit}`;
  }
  return `${boundNs} ns`;
}

function formatShare(share: number): string {
  const percent = share * 100;
  if (percent < 0.1) return "<0.1 %";
  return `${percent.toFixed(1)} %`;
}

function clip(text: string, width: number): string {
  return text.length > width ? `${text.slice(0, width - 1)}…` : text.padEnd(width);
}
