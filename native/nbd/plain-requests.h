#pragma once
#ifdef __linux__

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../counters.h"
#include "../sparse-memory.h"
#include "ring.h"
#include "send-queue.h"

/**
 * Answers plain requests without JavaScript: reads and writes that are good beyond doubt, of a device that takes the same time for each,
 * or none, with nothing set that wants to see or to change them. The bytes of a write move when it arrives, those of a read when its
 * answer is due.
 *
 * Mechanism only, as with the queues of ublk: whether there is such a device is decided in src/device, and said in a cell for each
 * operation that is looked at with every request. Nothing is ever refused here. A request that is not plain, for whatever reason, is
 * left to JavaScript with all that follows it, so what is an error and which one is written down once, in src/nbd/request-check.ts.
 */
class PlainRequests {
 public:
  /** What JavaScript says of the connection: the cells of `settings`, in this order. */
  enum Setting : size_t {
    /** 0 simple replies, 1 structured ones, 2 extended headers. */
    kReplyMode,
    kMayWrite,
    kAlignmentBytes,
    kLargestPayloadBytes,
    /** From this length on a chunked reply tells of holes. */
    kSmallestHoleBytes,
    /** Payloads up to this size are completed where they have begun. */
    kKeptBytes,
    /** Replies that may wait for the client to take them. */
    kQueuedReplyBytes,
    /** What the memory may hold. */
    kLimitBytes,
    /** Requests that may wait here until they are due, or for the client to take what was before them. */
    kMostInHand,
  };

  /** Why it went no further. */
  enum class Stop {
    /** What is left is the beginning of a plain request, to be completed where it is. */
    kStarved,
    /** What is left is the header of a plain write that is worth landing, and the beginning of its payload. */
    kLong,
    /** What is left begins with a plain request, for which there is room when others have been answered. */
    kFull,
    /** What is left is for JavaScript. */
    kOther,
  };

  struct Outcome {
    Stop stop;
    size_t used_bytes;
    /** Of sending, errno. */
    int error;
  };

  /**
   * `latencies` has a cell for reads and one for writes: what they take in nanoseconds, negative while they are for JavaScript.
   * `in_hand` counts, over all connections of the device, what waits here. All of it outlives this.
   */
  PlainRequests(SparseMemory* memory, SendQueue& queue, const double* settings, const double* latencies, int32_t* in_hand,
                double* counters);

  size_t header_bytes() const { return header_bytes_; }

  /** Answers what it can of these bytes, a request at their front, into the queue, and sends it; or keeps it until it is due. */
  Outcome Answer(const uint8_t* bytes, size_t length, int fd);

  /** When the next answer is due, on CLOCK_MONOTONIC; `EventLoop::kNever` when none is. */
  int64_t NextNs() const;
  /** Sends the answers that are due; returns the errno of a broken socket. */
  int AnswerDue(int64_t now_ns, int fd);
  /** Sends answers the client did not make room for before; likewise. */
  int AnswerReady(int fd);
  /** Requests that have arrived and are not answered yet. */
  size_t in_hand() const { return waiting_[kReads].size() + waiting_[kWrites].size() + ready_.size(); }
  bool is_full() const { return in_hand() >= most_in_hand_; }
  /** The client has gone, and takes no answers any more. */
  void Abandon();

  /** The write at the front of these bytes, where `Answer` has stopped with kLong, is being landed. */
  void NoteLanding(const uint8_t* header, uint64_t* offset, uint64_t* length);
  bool is_landing() const { return is_landing_; }
  /**
   * It has landed. True when it is answered now; false when somebody wants to see it meanwhile, or there is no room for an answer.
   * Then it is for JavaScript, as a header without its payload.
   */
  bool FinishLanding();
  const uint8_t* landing_header() const { return landing_header_; }

  /** Whether something was answered since this was last asked. */
  bool TakeHasAnswered();

 private:
  struct Request {
    bool is_write;
    /** As on the wire. */
    uint64_t cookie;
    uint64_t offset;
    uint64_t length;
  };

  /** One that is answered later. Times are on CLOCK_MONOTONIC. */
  struct Arrived {
    Request request;
    double arrival_ns;
    double due_ns;
  };

  /** Of a device's counters (src/base/request.ts), and of the latencies. */
  enum Operation : unsigned { kReads, kWrites };

  static constexpr size_t kLongestHeaderBytes = 32;

  static Operation OperationOf(const Request& request) { return request.is_write ? kWrites : kReads; }
  double LatencyNs(const Request& request) const { return latencies_[OperationOf(request)]; }
  void Wait(const Request& request, double arrival_ns);
  const Ring<Arrived>* FirstDue() const;
  void ChangeInHand(int32_t by);
  bool Parse(const uint8_t* header, Request* request) const;
  bool HasLargeHole(uint64_t offset, uint64_t length) const;
  size_t ReplyHeaderBytes(bool is_write) const;
  bool HasRoomFor(const Request& request) const;
  void AnswerNow(const Request& request);
  void Reply(const Request& request);
  void Count(double arrival_ns);

  SparseMemory* const memory_;
  SendQueue& queue_;
  const double* latencies_;
  int32_t* in_hand_;
  Counters counters_;

  bool is_chunked_;
  bool is_extended_;
  size_t header_bytes_;
  bool may_write_;
  uint64_t alignment_bytes_;
  uint64_t largest_payload_bytes_;
  uint64_t smallest_hole_bytes_;
  uint64_t kept_bytes_;
  uint64_t queued_reply_bytes_;
  uint64_t limit_bytes_;
  uint64_t most_in_hand_;

  /** By operation: all of one take the same time, so each stands behind those that are due before it. */
  Ring<Arrived> waiting_[2];
  /** Due, and not sent since the client does not take what is before them. */
  Ring<Request> ready_;
  /** Those that fell due in this round. */
  std::vector<Arrived> fallen_due_;

  /** Of the batch answered at its arrival, by operation. */
  uint64_t counts_[2] = {};
  uint64_t bytes_[2] = {};
  bool has_answered_ = false;
  bool is_landing_ = false;
  uint8_t landing_header_[kLongestHeaderBytes];
};

#endif
