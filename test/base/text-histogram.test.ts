import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Histogram } from "../../src/base/histogram.js";
import { Random } from "../../src/base/random.js";
import { renderHistograms } from "../../src/base/text-histogram.js";

function histogramOf(values: Iterable<number>): Histogram {
  const histogram = new Histogram();
  for (const value of values) histogram.record(value);
  return histogram;
}

/** The counts shown in a column, row by row. */
function countsOf(lines: string[]): number[] {
  return lines.slice(1).map((line) => Number(/ (\d+) +(?:<0\.1|[\d.]+) %$/.exec(line)?.[1] ?? 0));
}

describe("text histogram", () => {
  test("every recorded value is in exactly one row, and the rows are bounded", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.integer({ min: 0, max: 4e12 }), fc.integer({ min: 0, max: 2000 })), {
          minLength: 1,
        }),
        (values) => {
          const lines = renderHistograms([{ title: "all", histogram: histogramOf(values) }]);
          expect(countsOf(lines).reduce((sum, count) => sum + count, 0)).toBe(values.length);
          expect(lines.length).toBeLessThanOrEqual(1 + 21);
        },
      ),
    );
  });

  test("a constant latency on a bound is one row, and lies in it", () => {
    const lines = renderHistograms([{ title: "fixed", histogram: histogramOf([1e6, 1e6, 1e6]) }]);
    expect(lines).toHaveLength(2);
    expect(lines[1]).toMatch(/^ {2}1 ms \.\. 1\.2 ms {2}█+ +3 +100\.0 %$/);
  });

  test("two devices share rows and scale", () => {
    const random = new Random(1, "test");
    const disk = histogramOf(Array.from({ length: 1000 }, () => 4e6 + random.next() * 16e6));
    const instant = histogramOf(Array.from({ length: 1000 }, () => 20e3 + random.next() * 30e3));
    const lines = renderHistograms([
      { title: "hdd-7200", histogram: disk },
      { title: "instant", histogram: instant },
    ]);
    expect(lines[0]).toMatch(/hdd-7200 .*instant$/);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(100);
    expect(lines.some((line) => line.includes("ms"))).toBe(true);
    expect(lines.some((line) => line.includes("us"))).toBe(true);
  });

  test("a rare value is visible beside a common one, in ASCII too", () => {
    const values = [...new Array<number>(100_000).fill(1e5), 9e6];
    const histogram = histogramOf(values);
    expect(renderHistograms([{ title: "", histogram }]).at(-1)).toMatch(/▏ +1 +<0\.1 %$/);
    expect(renderHistograms([{ title: "", histogram }], { asciiOnly: true }).at(-1)).toMatch(
      /# +1 +<0\.1 %$/,
    );
  });

  test("nothing recorded gives no lines", () => {
    expect(renderHistograms([{ title: "empty", histogram: new Histogram() }])).toEqual([]);
  });
});
