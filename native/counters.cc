/** Counters: see the header. */
#include "counters.h"

#include <algorithm>

namespace {

constexpr int kSubBucketBits = 6;
constexpr uint64_t kSubBuckets = 1u << kSubBucketBits;
constexpr int kMaximumExponent = 42;
constexpr size_t kBuckets = (kMaximumExponent - kSubBucketBits + 1) * kSubBuckets;
/** Count, sum, sum of squares, minimum, maximum. */
constexpr size_t kHeader = 5;

size_t BucketIndex(uint64_t value) {
  if (value < kSubBuckets) return value;
  if (value >= 1ull << kMaximumExponent) return kBuckets - 1;
  int exponent = 63 - __builtin_clzll(value);
  uint64_t sub = (value >> (exponent - kSubBucketBits)) - kSubBuckets;
  return static_cast<size_t>(exponent - kSubBucketBits + 1) * kSubBuckets + sub;
}

}  // namespace

void Counters::Record(unsigned op, double length_bytes, bool is_error, double latency_ns, double lateness_ns) {
  double* of_op = cells_ + op * kCellsPerOperation;
  of_op[0] += 1;
  if (is_error) {
    of_op[2] += 1;
  } else {
    of_op[1] += length_bytes;
  }
  RecordValue(cells_ + kHistograms + op * (kHeader + kBuckets), latency_ns);
  RecordValue(cells_ + kHistograms + kOperations * (kHeader + kBuckets), lateness_ns);
}

void Counters::RecordLate(unsigned op, uint64_t count, double length_bytes, double latency_ns) {
  double* of_op = cells_ + op * kCellsPerOperation;
  auto times = static_cast<double>(count);
  of_op[0] += times;
  of_op[1] += length_bytes;
  RecordValue(cells_ + kHistograms + op * (kHeader + kBuckets), latency_ns, times);
  RecordValue(cells_ + kHistograms + kOperations * (kHeader + kBuckets), latency_ns, times);
}

void Counters::RecordValue(double* cells, double value_ns, double count) {
  // In this order, since of equal ones the first is taken: -0 becomes 0, as it does in TypeScript.
  double value = std::max(0.0, value_ns);
  if (cells[0] == 0 || value < cells[3]) cells[3] = value;
  if (value > cells[4]) cells[4] = value;
  cells[1] += count * value;
  cells[2] += count * value * value;
  // Times beyond 2^63 ns would not fit the conversion, and belong into the last bucket anyway.
  cells[kHeader + BucketIndex(static_cast<uint64_t>(std::min(value, 9.0e18)))] += count;
  cells[0] += count;
}
