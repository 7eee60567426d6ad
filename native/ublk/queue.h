#pragma once
#ifdef __linux__

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "bytes.h"
#include "../counters.h"
#include "due-heap.h"
#include "exchange.h"
#include "precedence.h"
#include "ring.h"

namespace ublk {

/** Operation codes as the request table has them (src/base/request.ts). */
enum Operation : uint8_t {
  kRead,
  kWrite,
  kFlush,
  kTrim,
  kZeroes,
  kAppend,
  kZoneOpen,
  kZoneClose,
  kZoneFinish,
  kZoneReset,
  kZoneResetAll,
  kZoneReport,
  kOperationCount,
};

/** Bits of the request table's flags. */
constexpr uint8_t kFlagFua = 1;
constexpr uint8_t kFlagNoHole = 2;

/**
 * Memory a device's threads share: queue threads on one side, the device thread's JavaScript on the other. The layout is
 * src/ublk/shared-memory.ts; every counter has a cache line of its own.
 */
struct alignas(64) SharedCounter {
  std::atomic<uint32_t> value;
};

/** What all queues share. */
struct SharedDevice {
  /** 1 while the device thread sleeps, or is about to: it has to be woken. */
  SharedCounter is_listener_asleep;
  /** 1 while requests are decided by `latencies_ns`, without JavaScript. */
  SharedCounter is_decided_natively;
  /** Time from arrival to completion by operation; negative where JavaScript has to be asked. */
  alignas(64) double latencies_ns[16];
};

/** A request on its way to JavaScript. */
struct Arrival {
  uint16_t tag;
  uint8_t op;
  uint8_t flags;
  uint32_t length_bytes;
  double offset_bytes;
  double arrival_ns;
  double reserved;
};
static_assert(sizeof(Arrival) == 32);
static_assert(kOperationCount <= sizeof(SharedDevice::latencies_ns) / sizeof(double));

/** What JavaScript says about a request. */
struct Verdict {
  uint16_t tag;
  /**
   * `kMove`: a write's payload may move. `kComplete`: that too, and the reply has a due time. `kCompleteMoved`: it has moved.
   * `kMoveTo`: an append's payload may move, to the place that stands where the due time would.
   */
  uint16_t kind;
  /** 0, or the errno the request ends with. */
  int32_t error;
  double due_ns;
};
static_assert(sizeof(Verdict) == 16);

enum VerdictKind : uint16_t { kMove, kComplete, kCompleteMoved, kMoveTo };

/** One queue's part. The two rings follow it: arrivals, then verdicts. Indices run freely; a place is index & mask. */
struct SharedQueue {
  /** Written by the queue. */
  SharedCounter arrivals_tail;
  /** Written by JavaScript. */
  SharedCounter arrivals_head;
  SharedCounter verdicts_tail;
  /** Written by the queue. */
  SharedCounter verdicts_head;
  /** 1 while the queue's thread sleeps, or is about to. */
  SharedCounter is_asleep;
};

/** What the queues of a device have in common. */
struct DeviceContext {
  int char_fd = -1;
  /** Whether bytes are moved with pread and pwrite; otherwise the kernel copies them to and from a buffer per tag. */
  bool has_user_copy = true;
  /** Whether the device was added with commands about many tags. */
  bool is_batched = false;
  bool is_zoned = false;
  uint32_t depth = 0;
  uint32_t largest_bytes = 0;
  /** How long before a deadline a thread stops sleeping. */
  int64_t spin_ns = 0;
  /** Power-on of the device, on CLOCK_MONOTONIC. */
  int64_t origin_ns = 0;
  SharedDevice* shared = nullptr;
  std::shared_ptr<Store> store;
  /** Wakes the device thread. */
  int listener_fd = -1;
  /** Told when a thread has ended. */
  int ended_fd = -1;
  /** No JavaScript answers any more: what waits for it and what comes ends in EIO. */
  std::atomic<bool> is_dead{false};
  /** Threads leave at once, whatever they have in hand. */
  std::atomic<bool> must_leave{false};
};

/**
 * One hardware queue of a ublk device, on a thread of its own: fetches requests, moves their bytes, and completes each
 * when it is due. The thread is the kernel's "daemon" of the queue, so all of its ring is done here.
 */
class Queue {
 public:
  Queue(DeviceContext& device, uint16_t number, SharedQueue* shared, double* counters);
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  /** Starts the thread, on these processors unless `cpus` is empty; returns when all tags are fetched: 0 or an errno. */
  int Start(const std::vector<uint8_t>& cpus);
  /** Makes the thread look around, if it sleeps. Any thread may call it. */
  void Wake();
  /** Wakes it whatever it does. */
  void Rouse();
  bool has_ended() const { return has_ended_.load(std::memory_order_acquire); }
  /** 0, or the errno that ended the thread when nobody had asked for it. */
  int failure() const { return failure_.load(std::memory_order_acquire); }
  void Join();

  /** Where the bytes of a tag lie: any thread may move them while the request is in flight. */
  RequestBytes BytesOf(uint16_t tag);

 private:
  /** Where a tag is. */
  enum class Stage : uint8_t { kWithKernel, kUndecided, kDue };

  struct Request {
    Stage stage = Stage::kWithKernel;
    uint8_t op = 0;
    uint8_t flags = 0;
    bool has_moved = false;
    int32_t error = 0;
    uint32_t length_bytes = 0;
    uint64_t offset_bytes = 0;
    double arrival_ns = 0;
    double due_ns = 0;
  };

  static void* Main(void* queue);
  void Run();
  int SetUp();
  void Serve();
  /** Returns the number of requests that have come. */
  uint32_t Reap(double now_ns);
  void Receive(uint16_t tag, double now_ns);
  void Announce(uint16_t tag);
  void TakeVerdicts();
  void Decide(uint16_t tag, double due_ns, int error);
  void Move(Request& request, uint16_t tag);
  void DeliverDue(double now_ns);
  void FailUndecided();
  void Commit(uint16_t tag, int32_t result);
  int32_t ResultOf(const Request& request) const;
  void ListenForWake();
  void Wait();
  double NowNs() const { return static_cast<double>(MonotonicNs() - device_.origin_ns); }

  DeviceContext& device_;
  const uint16_t number_;
  SharedQueue* const shared_;
  Arrival* const arrivals_;
  Verdict* const verdicts_;
  const uint32_t arrivals_mask_;
  const uint32_t verdicts_mask_;
  Counters counters_;
  DueHeap due_;
  Precedence precedence_;
  std::vector<Request> requests_;
  std::unique_ptr<Mover> mover_;
  Ring ring_;
  std::unique_ptr<Exchange> exchange_;
  int wake_fd_ = -1;
  /** Where the kernel puts the event that has woken the thread. */
  uint64_t wake_value_ = 0;
  const IoDescriptor* descriptors_ = nullptr;
  size_t descriptors_bytes_ = 0;
  /** Tags' buffers without user copy, one after the other. */
  uint8_t* buffers_ = nullptr;
  size_t buffers_bytes_ = 0;
  /** Tags with a request in hand, and those of them without a verdict. */
  uint32_t in_hand_ = 0;
  uint32_t undecided_ = 0;
  bool has_announced_ = false;
  /** Tags whose requests have come in this round. */
  std::vector<uint16_t> arrived_;
  /** Tags whose reply goes out in this round; all of them have bytes moved before the clock is read for their counters. */
  std::vector<uint16_t> delivered_;

  pthread_t thread_{};
  bool has_thread_ = false;
  std::vector<uint8_t> cpus_;
  /** -1 until the set-up is over. */
  std::atomic<int> set_up_error_{-1};
  std::atomic<bool> has_ended_{false};
  std::atomic<int> failure_{0};
};

}  // namespace ublk

#endif
