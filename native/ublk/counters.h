#pragma once
#include <cstddef>
#include <cstdint>

namespace ublk {

/**
 * The counters of one queue, in shared memory laid out as `DeviceStats` (src/device/stats.ts) and `Histogram`
 * (src/base/histogram.ts) have it: the queue's thread adds, JavaScript reads. A test holds the two sides together.
 */
class Counters {
 public:
  explicit Counters(double* cells) : cells_(cells) {}

  void Record(unsigned op, double length_bytes, bool is_error, double latency_ns, double lateness_ns);
  void SetInFlight(uint32_t requests) { cells_[kInFlightCell] = requests; }

  /** Adds a value to the histogram that begins at `cells`. */
  static void RecordValue(double* cells, double value_ns);

 private:
  static constexpr size_t kOperations = 12;
  static constexpr size_t kCellsPerOperation = 3;
  static constexpr size_t kInFlightCell = kOperations * kCellsPerOperation;
  static constexpr size_t kHistograms = kInFlightCell + 2;

  double* cells_;
};

}  // namespace ublk
