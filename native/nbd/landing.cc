/** Landing: see the header. */
#ifdef __linux__

#include "landing.h"

#include <algorithm>
#include <cstring>

void Landing::Begin(uint64_t offset, uint64_t length, const uint8_t* bytes, size_t count) {
  at_ = offset;
  end_ = offset + length;
  left_ = length - count;
  promised_bytes_ = memory_->HoleBytes(offset, length);
  memory_->Promise(static_cast<int64_t>(promised_bytes_));
  uint64_t whole = WholeBlocks(count);
  uint64_t direct = whole - offset;
  if (direct > 0) memcpy(Hold(direct), bytes, direct);
  at_ = whole;
  torn_bytes_ = count - direct;
  memcpy(torn_, bytes + direct, torn_bytes_);
}

int Landing::Plan(iovec* where, size_t available) {
  if (torn_bytes_ > 0) {
    where[0] = {torn_ + torn_bytes_, static_cast<size_t>(BlockEnd(at_) - at_ - torn_bytes_)};
    return 1;
  }
  whole_ = WholeBlocks(available);
  int count = 0;
  if (whole_ > at_) where[count++] = {Hold(whole_ - at_), static_cast<size_t>(whole_ - at_)};
  if (whole_ < end_) where[count++] = {torn_, static_cast<size_t>(BlockEnd(whole_) - whole_)};
  return count;
}

void Landing::Take(uint64_t length) {
  left_ -= length;
  if (torn_bytes_ == 0) {
    uint64_t direct = std::min(length, whole_ - at_);
    at_ += direct;
    length -= direct;
  }
  torn_bytes_ += length;
  if (torn_bytes_ > 0 && at_ + torn_bytes_ == BlockEnd(at_)) {
    memcpy(Hold(torn_bytes_), torn_, torn_bytes_);
    at_ += torn_bytes_;
    torn_bytes_ = 0;
  }
  if (left_ == 0) Abandon();
}

void Landing::Abandon() {
  if (promised_bytes_ > 0) memory_->Promise(-static_cast<int64_t>(promised_bytes_));
  promised_bytes_ = 0;
  left_ = 0;
}

/**
 * The place of the next `length` bytes, counted as held, with each batch anew: the range may have been trimmed meanwhile. What was
 * promised to them is theirs now.
 */
uint8_t* Landing::Hold(uint64_t length) {
  uint64_t taken = std::min(promised_bytes_, memory_->HoleBytes(at_, length));
  uint8_t* place = memory_->Hold(at_, length);
  memory_->Promise(-static_cast<int64_t>(taken));
  promised_bytes_ -= taken;
  return place;
}

/** Where the block of the device that holds `offset` ends, or the payload. */
uint64_t Landing::BlockEnd(uint64_t offset) const { return std::min(end_, (offset / kBlockBytes + 1) * kBlockBytes); }

/** How far `available` bytes of payload reach in whole blocks. */
uint64_t Landing::WholeBlocks(uint64_t available) const {
  uint64_t end = at_ + available;
  if (end >= end_) return end_;
  return std::max(at_, end / kBlockBytes * kBlockBytes);
}

#endif
