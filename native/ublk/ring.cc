/** Ring: see the header. Source: io_uring(7), io_uring_setup(2), io_uring_enter(2), io_uring_register(2). */
#ifdef __linux__

#include "ring.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#ifndef __NR_io_uring_setup
// The same on every architecture.
#define __NR_io_uring_setup 425
#define __NR_io_uring_enter 426
#define __NR_io_uring_register 427
#endif

namespace ublk {

namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

/** `io_uring_rsrc_update`: registers a ring's own descriptor. */
struct RegisterRingFd {
  uint32_t offset;
  uint32_t reserved;
  uint64_t data;
};

}  // namespace

int64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * kNsPerSecond + now.tv_nsec;
}

int Ring::Open(uint32_t entries, uint32_t completions, uint32_t flags) {
  RingParameters parameters{};
  parameters.flags = flags | (completions > 0 ? kSetupCqSize : 0);
  parameters.cq_entries = completions;
  int fd = static_cast<int>(syscall(__NR_io_uring_setup, entries, &parameters));
  if (fd < 0) return errno;
  fd_ = enter_fd_ = fd;
  if ((parameters.features & kFeatureSingleMap) == 0) return ENOSYS;

  entries_ = parameters.sq_entries;
  entry_bytes_ = (flags & kSetupSqe128) != 0 ? 2 * sizeof(Sqe) : sizeof(Sqe);
  rings_bytes_ = std::max<size_t>(parameters.sq.array + parameters.sq_entries * sizeof(uint32_t),
                                  parameters.cq.cqes + parameters.cq_entries * sizeof(Cqe));
  sqes_bytes_ = static_cast<size_t>(parameters.sq_entries) * entry_bytes_;
  constexpr int kProtection = PROT_READ | PROT_WRITE;
  constexpr int kSharing = MAP_SHARED | MAP_POPULATE;
  void* rings = mmap(nullptr, rings_bytes_, kProtection, kSharing, fd_, kMapSubmission);
  if (rings == MAP_FAILED) return errno;
  rings_ = static_cast<uint8_t*>(rings);
  void* sqes = mmap(nullptr, sqes_bytes_, kProtection, kSharing, fd_, kMapEntries);
  if (sqes == MAP_FAILED) return errno;
  sqes_ = static_cast<uint8_t*>(sqes);

  auto word = [this](uint32_t offset) { return reinterpret_cast<uint32_t*>(rings_ + offset); };
  sq_head_ = word(parameters.sq.head);
  sq_tail_ = word(parameters.sq.tail);
  sq_mask_ = *word(parameters.sq.ring_mask);
  cq_head_ = word(parameters.cq.head);
  cq_tail_ = word(parameters.cq.tail);
  cq_mask_ = *word(parameters.cq.ring_mask);
  cqes_ = reinterpret_cast<Cqe*>(rings_ + parameters.cq.cqes);
  // Entry n always stands at place n: the indirection is filled in once.
  for (uint32_t i = 0; i < entries_; i++) word(parameters.sq.array)[i] = i;
  return 0;
}

Ring::~Ring() { Close(); }

void Ring::Close() {
  if (sqes_ != nullptr) munmap(sqes_, sqes_bytes_);
  if (rings_ != nullptr) munmap(rings_, rings_bytes_);
  sqes_ = rings_ = nullptr;
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

int Ring::Register(uint32_t operation, const void* argument, uint32_t count) {
  return syscall(__NR_io_uring_register, fd_, operation, argument, count) < 0 ? errno : 0;
}

void Ring::RegisterSelf() {
  RegisterRingFd self{UINT32_MAX, 0, static_cast<uint64_t>(fd_)};
  if (syscall(__NR_io_uring_register, fd_, kRegisterRingFds, &self, 1) != 1) return;
  enter_fd_ = static_cast<int>(self.offset);
  enter_flags_ = kEnterRegisteredRing;
}

Sqe* Ring::Prepare() {
  uint32_t tail = *sq_tail_;
  if (tail - __atomic_load_n(sq_head_, __ATOMIC_ACQUIRE) >= entries_) return nullptr;
  auto* sqe = reinterpret_cast<Sqe*>(sqes_ + static_cast<size_t>(tail & sq_mask_) * entry_bytes_);
  // Of a size known here, so that it is a few stores and no call.
  memset(sqe, 0, sizeof(Sqe));
  if (entry_bytes_ > sizeof(Sqe)) memset(sqe + 1, 0, sizeof(Sqe));
  __atomic_store_n(sq_tail_, tail + 1, __ATOMIC_RELEASE);
  prepared_++;
  return sqe;
}

Sqe* Ring::PrepareSurely() {
  Sqe* sqe = Prepare();
  while (sqe == nullptr) {
    Enter(0);
    sqe = Prepare();
  }
  return sqe;
}

int Ring::Enter(uint32_t wait_for) { return DoEnter(wait_for, kEnterGetEvents, nullptr, 0); }

int Ring::EnterUntil(uint32_t wait_for, int64_t deadline_ns, int64_t now_ns) {
  KernelTimespec time;
  WaitArgument argument{0, 0, 0, reinterpret_cast<uint64_t>(&time)};
  uint32_t flags = kEnterGetEvents | kEnterExtendedArgument;
  if (takes_absolute_time_ != 0) {
    time = {deadline_ns / kNsPerSecond, deadline_ns % kNsPerSecond};
    int error = DoEnter(wait_for, flags | kEnterAbsoluteTimer, &argument, sizeof argument);
    // What the flag means is found out once; a kernel without it refuses before it has done anything.
    if (takes_absolute_time_ > 0 || error != EINVAL) {
      takes_absolute_time_ = 1;
      return error;
    }
    takes_absolute_time_ = 0;
  }
  int64_t left_ns = std::max<int64_t>(deadline_ns - now_ns, 0);
  time = {left_ns / kNsPerSecond, left_ns % kNsPerSecond};
  return DoEnter(wait_for, flags, &argument, sizeof argument);
}

int Ring::DoEnter(uint32_t wait_for, uint32_t flags, const void* argument, size_t length) {
  while (true) {
    long taken = syscall(__NR_io_uring_enter, enter_fd_, prepared_, wait_for, flags | enter_flags_, argument, length);
    if (taken >= 0) {
      prepared_ -= static_cast<uint32_t>(taken);
      return 0;
    }
    int error = errno;
    if (error == EINTR) {
      if (prepared_ > 0 || wait_for == 0) continue;
      return EINTR;
    }
    // The time is up; whatever was prepared has been taken before the wait began.
    if (error == ETIME) prepared_ = 0;
    return error;
  }
}

}  // namespace ublk

#endif
