#pragma once
#include <cstddef>
#include <cstdint>

/**
 * The counters of a device, or of one queue of it, in shared memory laid out as `DeviceStats` (src/device/stats.ts) and `Histogram`
 * (src/base/histogram.ts) have it: one thread adds, JavaScript reads. A test holds the two sides together.
 */
class Counters {
 public:
  explicit Counters(double* cells) : cells_(cells) {}

  void Record(unsigned op, double length_bytes, bool is_error, double latency_ns, double lateness_ns);
  /** Requests that succeeded and took the same time, all of it lateness: they were due when they arrived. */
  void RecordLate(unsigned op, uint64_t count, double length_bytes, double latency_ns);
  void SetInFlight(uint32_t requests) { cells_[kInFlightCell] = requests; }
  void AddInFlight(int32_t requests) { cells_[kInFlightCell] += requests; }

  /** Adds a value to the histogram that begins at `cells`, so many times. */
  static void RecordValue(double* cells, double value_ns, double count = 1);

 private:
  static constexpr size_t kOperations = 12;
  static constexpr size_t kCellsPerOperation = 3;
  static constexpr size_t kInFlightCell = kOperations * kCellsPerOperation;
  static constexpr size_t kHistograms = kInFlightCell + 2;

  double* cells_;
};
