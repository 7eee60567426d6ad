#pragma once
#ifdef __linux__

#include <cstddef>
#include <cstdint>

#include "abi.h"

namespace ublk {

/**
 * An io_uring by its three system calls, for one thread at a time.
 *
 * Entries are prepared in place and go to the kernel with the next `Enter`. The kernel consumes every entry of an enter
 * at once here, so the ring can only be full of what has not been entered.
 */
class Ring {
 public:
  Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring();

  /** Sets the ring up. Returns 0 or an errno. `completions` of 0 leaves their number to the kernel. */
  int Open(uint32_t entries, uint32_t completions, uint32_t flags);

  /** Ends it; the kernel takes back what it still has of it. */
  void Close();

  int fd() const { return fd_; }
  int Register(uint32_t operation, const void* argument, uint32_t count);
  /** Spares each enter the look-up of the descriptor, for the thread that calls it. Not vital, so it tells nothing. */
  void RegisterSelf();

  /** A zeroed entry, or nullptr when the ring is full. */
  Sqe* Prepare();
  /** The same, entering until there is room. */
  Sqe* PrepareSurely();

  /** Hands over what is prepared; with `wait_for` > 0 waits for so many completions. Returns 0 or an errno. */
  int Enter(uint32_t wait_for);
  /** The same, waiting at most until `deadline_ns` on CLOCK_MONOTONIC; ETIME then. */
  int EnterUntil(uint32_t wait_for, int64_t deadline_ns, int64_t now_ns);

  uint32_t prepared() const { return prepared_; }
  /** Where the next entry will stand, running freely; and whether the kernel has taken all that stands before a place. */
  uint32_t place() const { return *sq_tail_; }
  bool HasTakenUntil(uint32_t place) const {
    return static_cast<int32_t>(__atomic_load_n(sq_head_, __ATOMIC_ACQUIRE) - place) >= 0;
  }
  bool HasCompletion() const { return *cq_head_ != __atomic_load_n(cq_tail_, __ATOMIC_ACQUIRE); }

  /** Calls `handle(completion)` for each that is there. */
  template <typename Handle>
  void ForEachCompletion(Handle handle) {
    uint32_t head = *cq_head_;
    uint32_t tail = __atomic_load_n(cq_tail_, __ATOMIC_ACQUIRE);
    for (; head != tail; head++) handle(static_cast<const Cqe&>(cqes_[head & cq_mask_]));
    __atomic_store_n(cq_head_, head, __ATOMIC_RELEASE);
  }

 private:
  int DoEnter(uint32_t wait_for, uint32_t flags, const void* argument, size_t length);

  int fd_ = -1;
  int enter_fd_ = -1;
  uint32_t enter_flags_ = 0;
  /** -1 until it is known whether the kernel takes absolute times. */
  int takes_absolute_time_ = -1;
  uint32_t prepared_ = 0;
  uint32_t entries_ = 0;
  uint32_t entry_bytes_ = sizeof(Sqe);

  uint8_t* rings_ = nullptr;
  size_t rings_bytes_ = 0;
  uint8_t* sqes_ = nullptr;
  size_t sqes_bytes_ = 0;
  uint32_t* sq_head_ = nullptr;
  uint32_t* sq_tail_ = nullptr;
  uint32_t sq_mask_ = 0;
  uint32_t* cq_head_ = nullptr;
  uint32_t* cq_tail_ = nullptr;
  uint32_t cq_mask_ = 0;
  Cqe* cqes_ = nullptr;
};

/** CLOCK_MONOTONIC, which process.hrtime() reads too. */
int64_t MonotonicNs();

}  // namespace ublk

#endif
