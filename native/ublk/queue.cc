/**
 * Queue: see the header.
 *
 * A round of the thread: take the verdicts JavaScript has given, complete what is due, then one system call that hands the
 * completions to the kernel and waits for requests, a wake-up, or the next due time, whichever is first. With
 * DEFER_TASKRUN the kernel dispatches to this thread inside that call only, so a round is kept short.
 *
 * When a request is decided without JavaScript its bytes move and its reply goes out in the same round.
 *
 * Source: Linux, Documentation/block/ublk.rst, drivers/block/ublk_drv.c.
 */
#ifdef __linux__

#include "queue.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace ublk {

namespace {

constexpr size_t kPageBytes = 4096;

/** `user_data` of the wake-up; an exchange has smaller ones. */
constexpr uint64_t kWakeUp = 1ull << 32;

/** So long an error in what was just handed over may go unnoticed, while nothing comes. */
constexpr int64_t kLookAfterNs = 1'000'000'000;

/** A century: what is due later than this comes then. */
constexpr double kNeverNs = 3e18;

/** The first whole nanosecond that is not earlier. */
int64_t RoundUpNs(double ns) { return static_cast<int64_t>(std::ceil(std::min(ns, kNeverNs))); }

size_t RoundUp(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

uint32_t PowerOfTwoFrom(uint32_t count) {
  uint32_t power = 1;
  while (power < count) power *= 2;
  return power;
}

void Signal(int event_fd) {
  uint64_t one = 1;
  // The only failure is a counter at its limit, which wakes as well.
  [[maybe_unused]] ssize_t written = write(event_fd, &one, sizeof one);
}

}  // namespace

Queue::Queue(DeviceContext& device, uint16_t number, SharedQueue* shared, double* counters)
    : device_(device),
      number_(number),
      shared_(shared),
      arrivals_(reinterpret_cast<Arrival*>(shared + 1)),
      verdicts_(reinterpret_cast<Verdict*>(arrivals_ + PowerOfTwoFrom(device.depth))),
      arrivals_mask_(PowerOfTwoFrom(device.depth) - 1),
      verdicts_mask_(PowerOfTwoFrom(2 * device.depth) - 1),
      counters_(counters),
      due_(device.depth),
      requests_(device.depth) {
  arrived_.reserve(device.depth);
  delivered_.reserve(device.depth);
}

Queue::~Queue() {
  Join();
  if (wake_fd_ >= 0) close(wake_fd_);
  if (buffers_ != nullptr) munmap(buffers_, buffers_bytes_);
}

int Queue::Start(const std::vector<uint8_t>& cpus) {
  cpus_ = cpus;
  wake_fd_ = eventfd(0, EFD_CLOEXEC);
  if (wake_fd_ < 0) return errno;
  // Signals are Node's: a thread that never returns to JavaScript must not take them.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&thread_, nullptr, Main, this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) return error;
  has_thread_ = true;
  // Setting up waits for nothing but memory.
  while (set_up_error_.load(std::memory_order_acquire) < 0) sched_yield();
  return set_up_error_.load(std::memory_order_acquire);
}

void Queue::Wake() {
  // Paired with the fence in Wait: either it sees what was written before this, or this sees it asleep.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (shared_->is_asleep.value.load(std::memory_order_relaxed) != 0) Rouse();
}

void Queue::Rouse() {
  shared_->is_asleep.value.store(0, std::memory_order_relaxed);
  Signal(wake_fd_);
}

void Queue::Join() {
  if (!has_thread_) return;
  pthread_join(thread_, nullptr);
  has_thread_ = false;
}

RequestBytes Queue::BytesOf(uint16_t tag) {
  if (buffers_ != nullptr) return {-1, 0, buffers_ + static_cast<size_t>(tag) * device_.largest_bytes};
  return {device_.char_fd, BytesOffset(number_, tag), nullptr};
}

void* Queue::Main(void* queue) {
  static_cast<Queue*>(queue)->Run();
  return nullptr;
}

void Queue::Run() {
  char name[16];
  snprintf(name, sizeof name, "ublk-%u", number_);
  prctl(PR_SET_NAME, name);
  prctl(PR_SET_TIMERSLACK, 1);
  precedence_.Begin(device_.spin_ns == 0);
  // Memory for this thread never waits for the disk it serves itself. Without the right to it, it has to do without.
  prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
  if (!cpus_.empty()) syscall(SYS_sched_setaffinity, 0, cpus_.size(), cpus_.data());
  int error = SetUp();
  set_up_error_.store(error, std::memory_order_release);
  if (error == 0) Serve();
  if (descriptors_ != nullptr) munmap(const_cast<IoDescriptor*>(descriptors_), descriptors_bytes_);
  ring_.Close();
  exchange_.reset();
  has_ended_.store(true, std::memory_order_release);
  Signal(device_.ended_fd);
}

int Queue::SetUp() {
  uint32_t depth = device_.depth;
  // A command for each tag, and the wake-up.
  uint32_t entries = PowerOfTwoFrom(depth + 2);
  int error = ring_.Open(entries, 2 * entries, kSetupSingleIssuer | kSetupDeferTaskrun | kSetupCoopTaskrun);
  if (error != 0) return error;
  ring_.RegisterSelf();
  int32_t files[] = {device_.char_fd};
  if ((error = ring_.Register(kRegisterFiles, files, 1)) != 0) return error;

  descriptors_bytes_ = RoundUp(depth * sizeof(IoDescriptor), kPageBytes);
  void* descriptors = mmap(nullptr, descriptors_bytes_, PROT_READ, MAP_SHARED | MAP_POPULATE, device_.char_fd,
                           static_cast<off_t>(number_ * kDescriptorStride));
  if (descriptors == MAP_FAILED) return errno;
  descriptors_ = static_cast<const IoDescriptor*>(descriptors);
  if (!device_.has_user_copy) {
    buffers_bytes_ = static_cast<size_t>(depth) * device_.largest_bytes;
    void* buffers = mmap(nullptr, buffers_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffers == MAP_FAILED) return errno;
    buffers_ = static_cast<uint8_t*>(buffers);
  }
  mover_ = std::make_unique<Mover>(device_.store, number_, device_.largest_bytes);

  ListenForWake();
  exchange_ = Exchange::Make(
      device_.is_batched, {&ring_, number_, depth, device_.is_zoned, buffers_, device_.largest_bytes});
  if ((error = exchange_->Begin()) != 0) return error;
  if ((error = ring_.Enter(0)) != 0) return error;
  // What the kernel refuses it refuses at once.
  Reap(NowNs());
  return failure();
}

void Queue::Serve() {
  double now_ns = NowNs();
  uint32_t received = 0;
  while (exchange_->is_open() || in_hand_ > 0) {
    if (device_.must_leave.load(std::memory_order_acquire)) return;
    TakeVerdicts();
    if (undecided_ > 0 && device_.is_dead.load(std::memory_order_acquire)) FailUndecided();
    DeliverDue(now_ns);
    counters_.SetInFlight(in_hand_);
    precedence_.EndRound(received, !due_.empty());
    Wait();
    now_ns = NowNs();
    received = Reap(now_ns);
    if (failure() != 0) return;
  }
  counters_.SetInFlight(0);
}

void Queue::Wait() {
  exchange_->Flush();
  bool is_any_due = !due_.empty();
  int64_t wake_ns = is_any_due ? device_.origin_ns + RoundUpNs(due_.next_ns()) - device_.spin_ns : 0;
  int error;
  if (is_any_due && wake_ns <= MonotonicNs()) {
    // Due in a moment: the kernel's requests are looked after, and nobody sleeps.
    error = ring_.Enter(0);
  } else {
    shared_->is_asleep.value.store(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    bool is_wanted = shared_->verdicts_tail.value.load(std::memory_order_relaxed) !=
                         shared_->verdicts_head.value.load(std::memory_order_relaxed) ||
                     device_.must_leave.load(std::memory_order_relaxed) ||
                     (undecided_ > 0 && device_.is_dead.load(std::memory_order_relaxed));
    uint32_t certain = exchange_->certain_completions();
    if (is_wanted) {
      error = ring_.Enter(0);
    } else if (!is_any_due && certain == 0) {
      error = ring_.Enter(1);
    } else {
      int64_t now_ns = MonotonicNs();
      if (!is_any_due) wake_ns = now_ns + kLookAfterNs;
      error = ring_.EnterUntil(1 + certain, wake_ns, now_ns);
    }
    shared_->is_asleep.value.store(0, std::memory_order_relaxed);
  }
  if (error != 0 && error != ETIME && error != EINTR && error != EBUSY && error != EAGAIN) {
    failure_.store(error, std::memory_order_release);
  }
}

uint32_t Queue::Reap(double now_ns) {
  arrived_.clear();
  ring_.ForEachCompletion([&](const Cqe& cqe) {
    if (cqe.user_data == kWakeUp) {
      ListenForWake();
      return;
    }
    int error = exchange_->Take(cqe, arrived_);
    if (error != 0) failure_.store(error, std::memory_order_release);
  });
  for (uint16_t tag : arrived_) Receive(tag, now_ns);
  auto received = static_cast<uint32_t>(arrived_.size());
  if (!has_announced_) return received;
  has_announced_ = false;
  // Paired with the same in JavaScript, which looks at the rings once more after it has said that it sleeps.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  auto& is_asleep = device_.shared->is_listener_asleep.value;
  if (is_asleep.load(std::memory_order_relaxed) != 0 && is_asleep.exchange(0) != 0) Signal(device_.listener_fd);
  return received;
}

void Queue::Receive(uint16_t tag, double now_ns) {
  const IoDescriptor& descriptor = descriptors_[tag];
  Request& request = requests_[tag];
  request = Request{};
  request.arrival_ns = now_ns;
  request.offset_bytes = descriptor.start_sector << kSectorShift;
  request.length_bytes = descriptor.sectors << kSectorShift;
  if ((descriptor.op_flags & kRequestFua) != 0) request.flags |= kFlagFua;
  if ((descriptor.op_flags & kRequestNoUnmap) != 0) request.flags |= kFlagNoHole;
  in_hand_++;
  switch (descriptor.op_flags & 0xff) {
    case kReadRequest:
      request.op = kRead;
      break;
    case kWriteRequest:
      request.op = kWrite;
      break;
    case kFlushRequest:
      request.op = kFlush;
      request.length_bytes = 0;
      break;
    case kDiscardRequest:
      request.op = kTrim;
      break;
    case kWriteZeroesRequest:
      request.op = kZeroes;
      break;
    case kZoneAppendRequest:
      request.op = kAppend;
      break;
    case kZoneOpenRequest:
      request.op = kZoneOpen;
      break;
    case kZoneCloseRequest:
      request.op = kZoneClose;
      break;
    case kZoneFinishRequest:
      request.op = kZoneFinish;
      break;
    case kZoneResetRequest:
      request.op = kZoneReset;
      break;
    case kZoneResetAllRequest:
      request.op = kZoneResetAll;
      break;
    case kReportZonesRequest:
      request.op = kZoneReport;
      request.length_bytes = descriptor.sectors * kZoneBytes;
      break;
    default:
      Commit(tag, -EOPNOTSUPP);
      return;
  }
  if (device_.is_dead.load(std::memory_order_acquire)) {
    Decide(tag, now_ns, EIO);
    return;
  }
  if (device_.shared->is_decided_natively.value.load(std::memory_order_acquire) != 0) {
    double latency_ns = device_.shared->latencies_ns[request.op];
    // What has to be made durable takes JavaScript, where there is something to make durable.
    bool is_ours = latency_ns >= 0 && ((request.flags & kFlagFua) == 0 || device_.shared->latencies_ns[kFlush] >= 0);
    if (is_ours) {
      Decide(tag, now_ns + latency_ns, 0);
      return;
    }
  }
  Announce(tag);
}

void Queue::Announce(uint16_t tag) {
  Request& request = requests_[tag];
  request.stage = Stage::kUndecided;
  undecided_++;
  // One place per tag, and a tag is announced once: it cannot be full.
  uint32_t tail = shared_->arrivals_tail.value.load(std::memory_order_relaxed);
  arrivals_[tail & arrivals_mask_] = {tag,
                                      request.op,
                                      request.flags,
                                      request.length_bytes,
                                      static_cast<double>(request.offset_bytes),
                                      request.arrival_ns,
                                      0};
  shared_->arrivals_tail.value.store(tail + 1, std::memory_order_release);
  has_announced_ = true;
}

void Queue::TakeVerdicts() {
  uint32_t head = shared_->verdicts_head.value.load(std::memory_order_relaxed);
  uint32_t tail = shared_->verdicts_tail.value.load(std::memory_order_acquire);
  for (; head != tail; head++) {
    const Verdict& verdict = verdicts_[head & verdicts_mask_];
    uint16_t tag = verdict.tag;
    // Answers of a device thread that has died meanwhile come too late.
    if (tag >= requests_.size() || requests_[tag].stage != Stage::kUndecided) continue;
    if (verdict.kind == kMove) {
      Move(requests_[tag], tag);
    } else if (verdict.kind == kMoveTo) {
      requests_[tag].offset_bytes = static_cast<uint64_t>(verdict.due_ns);
      Move(requests_[tag], tag);
    } else {
      undecided_--;
      requests_[tag].has_moved |= verdict.kind == kCompleteMoved;
      Decide(tag, verdict.due_ns, verdict.error);
    }
  }
  shared_->verdicts_head.value.store(head, std::memory_order_release);
}

void Queue::FailUndecided() {
  for (size_t tag = 0; tag < requests_.size(); tag++) {
    if (requests_[tag].stage != Stage::kUndecided) continue;
    undecided_--;
    Decide(static_cast<uint16_t>(tag), requests_[tag].arrival_ns, EIO);
  }
}

/** What is decided by JavaScript has its trims and zeroes done there. */
void Queue::Decide(uint16_t tag, double due_ns, int error) {
  Request& request = requests_[tag];
  bool is_by_us = request.stage == Stage::kWithKernel;
  request.stage = Stage::kDue;
  request.due_ns = due_ns;
  if (error != 0) {
    request.error = error;
  } else if (request.op == kWrite) {
    Move(request, tag);
  } else if (is_by_us && request.op == kTrim) {
    request.error = mover_->Discard(request.offset_bytes, request.length_bytes);
  } else if (is_by_us && request.op == kZeroes) {
    request.error =
        mover_->Zero(request.offset_bytes, request.length_bytes, (request.flags & kFlagNoHole) != 0);
  }
  // What is due at its arrival goes out with this round; the others wait in order.
  bool is_timed = due_ns > request.arrival_ns;
  precedence_.CountDecision(is_timed);
  if (is_timed) {
    due_.Push(due_ns, tag);
  } else {
    delivered_.push_back(tag);
  }
}

void Queue::Move(Request& request, uint16_t tag) {
  if (request.has_moved) return;
  request.has_moved = true;
  request.error = mover_->In(BytesOf(tag), request.offset_bytes, request.length_bytes);
}

/** `now_ns` may be older than what was decided since: what is due by now then comes in the next round, at once. */
void Queue::DeliverDue(double now_ns) {
  while (!due_.empty() && due_.next_ns() <= now_ns) delivered_.push_back(due_.Pop());
  if (delivered_.empty()) return;
  for (uint16_t tag : delivered_) {
    Request& request = requests_[tag];
    if (request.op == kRead && request.error == 0) {
      request.error = mover_->Out(BytesOf(tag), request.offset_bytes, request.length_bytes);
    }
  }
  now_ns = NowNs();
  for (uint16_t tag : delivered_) {
    const Request& request = requests_[tag];
    counters_.Record(request.op, request.length_bytes, request.error != 0, now_ns - request.arrival_ns,
                     now_ns - request.due_ns);
    Commit(tag, request.error != 0 ? -request.error : ResultOf(request));
  }
  delivered_.clear();
}

int32_t Queue::ResultOf(const Request& request) const {
  switch (request.op) {
    case kRead:
    case kWrite:
      return static_cast<int32_t>(request.length_bytes);
    case kZoneReport:
      // The driver's buffer may be larger than the report, and it sends a request again that has not filled it. It cuts
      // what is too much (`__ublk_complete_rq`).
      return static_cast<int32_t>(device_.largest_bytes);
    default:
      return 0;
  }
}

void Queue::Commit(uint16_t tag, int32_t result) {
  Request& request = requests_[tag];
  request.stage = Stage::kWithKernel;
  in_hand_--;
  exchange_->Complete(tag, result, request.op == kAppend ? request.offset_bytes >> kSectorShift : 0);
}

void Queue::ListenForWake() {
  Sqe* sqe = ring_.PrepareSurely();
  sqe->opcode = kOpRead;
  sqe->fd = wake_fd_;
  sqe->address = reinterpret_cast<uint64_t>(&wake_value_);
  sqe->length = sizeof wake_value_;
  sqe->user_data = kWakeUp;
}

}  // namespace ublk

#endif
