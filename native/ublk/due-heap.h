#pragma once
#include <cstdint>
#include <vector>

namespace ublk {

/** Tags by the time their reply is due; ties in the order they went in. A binary heap that allocates nothing after its start. */
class DueHeap {
 public:
  /** @param capacity tags at once: each can be in it once */
  explicit DueHeap(size_t capacity) { entries_.reserve(capacity); }

  bool empty() const { return entries_.empty(); }
  double next_ns() const { return entries_.front().due_ns; }

  void Push(double due_ns, uint16_t tag) {
    entries_.push_back({due_ns, next_order_++, tag});
    size_t hole = entries_.size() - 1;
    Entry entry = entries_[hole];
    while (hole > 0 && IsBefore(entry, entries_[(hole - 1) / 2])) {
      entries_[hole] = entries_[(hole - 1) / 2];
      hole = (hole - 1) / 2;
    }
    entries_[hole] = entry;
  }

  uint16_t Pop() {
    uint16_t earliest = entries_.front().tag;
    Entry last = entries_.back();
    entries_.pop_back();
    size_t size = entries_.size();
    size_t hole = 0;
    while (2 * hole + 1 < size) {
      size_t child = 2 * hole + 1;
      if (child + 1 < size && IsBefore(entries_[child + 1], entries_[child])) child++;
      if (!IsBefore(entries_[child], last)) break;
      entries_[hole] = entries_[child];
      hole = child;
    }
    if (size > 0) entries_[hole] = last;
    return earliest;
  }

 private:
  struct Entry {
    double due_ns;
    uint64_t order;
    uint16_t tag;
  };

  static bool IsBefore(const Entry& a, const Entry& b) {
    return a.due_ns < b.due_ns || (a.due_ns == b.due_ns && a.order < b.order);
  }

  std::vector<Entry> entries_;
  uint64_t next_order_ = 0;
};

}  // namespace ublk
