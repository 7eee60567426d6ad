#pragma once
#ifdef __linux__

#include <cstdint>
#include <memory>
#include <vector>

#include "abi.h"
#include "ring.h"

namespace ublk {

/** What an exchange is about: one hardware queue. The device's character node is file 0 of the ring. */
struct ExchangeSubject {
  Ring* ring;
  uint16_t queue;
  uint32_t depth;
  /** Whether completions of appends tell where the bytes went. */
  bool is_zoned;
  /** Tags' buffers, one after the other, where the kernel copies; nullptr with user copy. */
  uint8_t* buffers;
  uint32_t buffer_bytes;
};

/**
 * How a queue gets requests from the driver and gives results back. Two protocols stand behind it: a command per tag, which
 * every driver has, and commands about many tags (7.0). Which of them it is, the device was added with.
 *
 * For the queue's thread alone. Nothing here enters the ring but for room in it: what is prepared goes with the next enter.
 */
class Exchange {
 public:
  static std::unique_ptr<Exchange> Make(bool is_batched, const ExchangeSubject& subject);

  virtual ~Exchange() = default;

  /** Prepares what has the driver send requests. Returns 0 or an errno; what the driver refuses comes to `Take`. */
  virtual int Begin() = 0;
  /** The request of this tag has ended, and the tag may carry the next. `sector`: of an append, where it was written to; else 0. */
  virtual void Complete(uint16_t tag, int32_t result, uint64_t sector) = 0;
  /** Prepares the results that have gathered. To be called before each enter. */
  virtual void Flush() = 0;
  /** Takes one of its completions, and appends the tags that have requests. Returns 0 or the errno that ends the queue. */
  virtual int Take(const Cqe& cqe, std::vector<uint16_t>& arrived) = 0;
  /** False when the driver sends no more requests, since the device is being stopped, and has all results. */
  virtual bool is_open() const = 0;
  /** Completions that come as soon as what is prepared is entered, and are no reason to wake up. */
  virtual uint32_t certain_completions() const = 0;
};

}  // namespace ublk

#endif
