#pragma once
#ifdef __linux__

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "../sparse-memory.h"

/**
 * A payload on its way into the device's memory, block by block, so that a client that vanishes never leaves half of one behind.
 * Bytes whose block is not complete yet wait here.
 */
class Landing {
 public:
  explicit Landing(SparseMemory* memory) : memory_(memory) {}

  /** A payload of `length` bytes for `offset`, of which these bytes are there already: fewer than all. */
  void Begin(uint64_t offset, uint64_t length, const uint8_t* bytes, size_t count);

  /** Bytes still to come. */
  size_t left() const { return left_; }

  /** Where they go, as far as that can be said while `available` bytes wait in the socket: up to two places. */
  int Plan(iovec* where, size_t available);

  /** Accounts for bytes that were received as planned. */
  void Take(uint64_t length);

  /** The rest will not come. */
  void Abandon();

 private:
  static constexpr uint64_t kBlockBytes = 4096;

  uint64_t BlockEnd(uint64_t offset) const;
  uint64_t WholeBlocks(uint64_t available) const;
  uint8_t* Hold(uint64_t length);

  SparseMemory* const memory_;
  /** What lies before it is in the memory. */
  uint64_t at_ = 0;
  uint64_t end_ = 0;
  size_t left_ = 0;
  /** How far the batch being received goes straight into the memory. */
  uint64_t whole_ = 0;
  /** What of the memory's limit is promised to the rest. */
  uint64_t promised_bytes_ = 0;
  /** The beginning of the block at `at_`, whose end has not come yet. */
  uint8_t torn_[kBlockBytes];
  size_t torn_bytes_ = 0;
};

#endif
