/**
 * Log-linear latency histogram on a typed array that may lie in shared memory: recording is one addition, reading
 * disturbs nobody, and the difference of two snapshots is the histogram of the interval between them.
 *
 * Values are nanoseconds. Each power of two is divided into 64 equal buckets, so a reported percentile is within
 * 1/128 (0.8 %) of a recorded value; values under 64 ns are exact. Negative values count as 0, values of 2^42 ns
 * (73 minutes) and more fall into the last bucket; mean, minimum and maximum stay exact.
 */

const subBuckets = 64;
const subBucketBits = 6;
const maximumExponent = 42;
const bucketCount = (maximumExponent - subBucketBits + 1) * subBuckets;

/** By exponent, one over the width of its buckets: powers of two, so multiplying is exact, and cheaper than computing them. */
const reciprocalWidths = Float64Array.from(
  { length: maximumExponent },
  (_, exponent) => 2 ** (subBucketBits - exponent),
);

/** Float64 slots: count, sum, sum of squares, minimum, maximum, then the buckets. */
const header = 5;

export interface LatencySummary {
  count: number;
  meanNs: number;
  stdevNs: number;
  minNs: number;
  maxNs: number;
  p50Ns: number;
  p90Ns: number;
  p95Ns: number;
  p99Ns: number;
  p999Ns: number;
  p9999Ns: number;
}

export class Histogram {
  /** Bytes a histogram needs in a buffer handed in. */
  static readonly byteLength = (header + bucketCount) * Float64Array.BYTES_PER_ELEMENT;

  private readonly cells: Float64Array;

  /** @param buffer where to live (shared memory, say); its own memory by default. A zeroed region is an empty histogram. */
  constructor(buffer: ArrayBufferLike = new ArrayBuffer(Histogram.byteLength), byteOffset = 0) {
    this.cells = new Float64Array(buffer, byteOffset, header + bucketCount);
  }

  get count(): number {
    return this.cells[0];
  }

  get sumNs(): number {
    return this.cells[1];
  }

  record(valueNs: number): void {
    const cells = this.cells;
    const value = Math.max(valueNs, 0);
    if (cells[0] === 0 || value < cells[3]) cells[3] = value;
    if (value > cells[4]) cells[4] = value;
    cells[1] += value;
    cells[2] += value * value;
    cells[header + bucketIndex(value)]++;
    cells[0]++;
  }

  /** Adds what another histogram has recorded. */
  add(other: Histogram): void {
    const { cells } = this;
    if (other.count === 0) return;
    cells[3] = cells[0] === 0 ? other.cells[3] : Math.min(cells[3], other.cells[3]);
    cells[4] = Math.max(cells[4], other.cells[4]);
    for (let i = 0; i < cells.length; i++) {
      if (i !== 3 && i !== 4) cells[i] += other.cells[i];
    }
  }

  /** The value below which a fraction `quantile` (0..1) of the recorded values lie; NaN when empty. */
  quantile(quantile: number): number {
    const cells = this.cells;
    const count = cells[0];
    if (count === 0) return Number.NaN;
    const rank = Math.max(1, Math.ceil(quantile * count));
    let seen = 0;
    for (let i = 0; i < bucketCount; i++) {
      seen += cells[header + i];
      if (seen >= rank) return Math.min(Math.max(bucketMiddle(i), cells[3]), cells[4]);
    }
    return cells[4];
  }

  summary(): LatencySummary {
    const [count, sum, squares, minimum, maximum] = this.cells;
    const mean = sum / count;
    const variance = count > 1 ? Math.max(0, (squares - count * mean * mean) / (count - 1)) : 0;
    return {
      count,
      meanNs: mean,
      stdevNs: Math.sqrt(variance),
      minNs: minimum,
      maxNs: maximum,
      p50Ns: this.quantile(0.5),
      p90Ns: this.quantile(0.9),
      p95Ns: this.quantile(0.95),
      p99Ns: this.quantile(0.99),
      p999Ns: this.quantile(0.999),
      p9999Ns: this.quantile(0.9999),
    };
  }

  /** Non-empty buckets from low to high: [lower bound, upper bound) in ns and how many values lie there. */
  *buckets(): Generator<{ fromNs: number; toNs: number; count: number }> {
    for (let i = 0; i < bucketCount; i++) {
      const count = this.cells[header + i];
      if (count > 0) yield { fromNs: bucketLow(i), toNs: bucketLow(i + 1), count };
    }
  }

  reset(): void {
    this.cells.fill(0);
  }
}

function bucketIndex(value: number): number {
  if (value < subBuckets) return Math.floor(value);
  if (value >= 2 ** maximumExponent) return bucketCount - 1;
  // floor(log2): exact for 32-bit integers by clz32, and above them after a division by 2^20.
  const exponent = value < 4294967296 ? 31 - Math.clz32(value) : 51 - Math.clz32(Math.floor(value / 1048576));
  const sub = Math.floor(value * reciprocalWidths[exponent]) - subBuckets;
  return (exponent - subBucketBits + 1) * subBuckets + sub;
}

function bucketLow(index: number): number {
  if (index < subBuckets) return index;
  const exponent = Math.floor(index / subBuckets) + subBucketBits - 1;
  return (subBuckets + (index % subBuckets)) * 2 ** (exponent - subBucketBits);
}

function bucketMiddle(index: number): number {
  return index < subBuckets ? index : (bucketLow(index) + bucketLow(index + 1)) / 2;
}
