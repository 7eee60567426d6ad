/**
 * Slow devices as studies of large installations found them, in the words of the `slow` key of a profile. Figures
 * that a study does not give are chosen, and marked unverified.
 */
export const slowPresets = {
  /**
   * Hao et al., "The Tail at Store" (FAST'16), 450 000 disks over 87 days: 0.22 % of all drive hours are at least twice
   * slower than those of the drive's peers. The tail's shape is unverified.
   */
  "tail-at-store-hdd": [
    {
      kind: "stretches",
      length: "1h",
      probability: 0.0022,
      ratio: { minimum: 2, shape: 1.5, maximum: 100 },
    },
  ],
  /** The same study, 4000 SSDs: 0.58 %. */
  "tail-at-store-ssd": [
    {
      kind: "stretches",
      length: "1h",
      probability: 0.0058,
      ratio: { minimum: 2, shape: 1.5, maximum: 100 },
    },
  ],
  /** Lu et al., "Perseus" (FAST'23): drives that stay slow; twice to ten times (unverified), drawn once per device. */
  "fail-slow-chronic": [{ kind: "timeline", phases: [{ at: 0, ratio: [2, 10] }] }],
  /** The same study: slow for hours, then well again. The lengths are unverified. */
  "fail-slow-transient": [
    { kind: "episodes", between: { mean: "12h" }, lasting: ["1h", "4h"], ratio: [2, 10] },
  ],
  /** Gunawi et al., "Fail-Slow at Scale" (FAST'18): SSD firmware that stops for seconds. How often is unverified. */
  "fw-stall": [{ kind: "episodes", between: { mean: "10m" }, lasting: ["1s", "5s"], ratio: "stop" }],
  /** The same study: few reads four orders of magnitude slower. How few is unverified. */
  "ssd-read-10000x": [{ kind: "requests", operations: ["read"], probability: 0.00001, ratio: 10_000 }],
  /** The same study: vibration makes disks retry, and takes 50 to 90 % of their speed. Lengths are unverified. */
  "hdd-vibration": [{ kind: "episodes", between: { mean: "5m" }, lasting: ["10s", "2m"], ratio: [2, 10] }],
  /** The same study: gunk on the platter, 2 MB/s and later 11 (of some 150; the times are unverified). */
  "hdd-gunk": [
    {
      kind: "timeline",
      phases: [
        { at: 0, ratio: 75 },
        { at: "24h", ratio: 14 },
      ],
    },
  ],
  /** The same study: drives in hot places throttle, lightly or heavily. All figures are unverified. */
  thermal: [{ kind: "episodes", between: { mean: "1h" }, lasting: ["5m", "20m"], ratio: [1.3, 10] }],
  /** A Seagate ST2000DM006 measured by ublk-disksim: about 0.2 % of 1707 reads took 75 to 130 ms more, 9 to 16 revolutions. */
  "hdd-retry": [{ kind: "requests", operations: ["read"], probability: 0.002, add: ["75ms", "130ms"] }],
} as const;

export type SlowPreset = keyof typeof slowPresets;
