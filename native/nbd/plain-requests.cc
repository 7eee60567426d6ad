/**
 * PlainRequests: see the header.
 *
 * Source of the formats: NetworkBlockDevice/nbd, doc/proto.md, "Transmission". What `Parse` takes for plain is a part of what
 * src/nbd/request-check.ts finds good; a test drives both through the same conversations.
 */
#ifdef __linux__

#include "plain-requests.h"

#include <time.h>

#include <cmath>
#include <cstring>

#include "../clock.h"

namespace {

constexpr uint32_t kRequestMagic = 0x25609513;
constexpr uint32_t kExtendedRequestMagic = 0x21e41c71;
constexpr uint32_t kSimpleReplyMagic = 0x67446698;
constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;
constexpr uint32_t kExtendedReplyMagic = 0x6e8a278c;

constexpr size_t kRequestBytes = 28;
constexpr size_t kExtendedBytes = 32;
constexpr size_t kSimpleReplyBytes = 16;
constexpr size_t kStructuredReplyBytes = 20;
constexpr size_t kOffsetBytes = 8;

enum Command : uint16_t { kRead = 0, kWrite = 1 };

constexpr uint16_t kFlagFua = 1 << 0;
constexpr uint16_t kFlagDf = 1 << 2;
constexpr uint16_t kFlagPayloadLength = 1 << 5;

constexpr uint16_t kChunkDone = 1 << 0;
constexpr uint16_t kChunkNone = 0;
constexpr uint16_t kChunkOffsetData = 1;

uint16_t Load16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }

uint32_t Load32(const uint8_t* at) {
  uint32_t value;
  memcpy(&value, at, sizeof value);
  return be32toh(value);
}

uint64_t Load64(const uint8_t* at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return be64toh(value);
}

void Store16(uint8_t* at, uint16_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

void Store32(uint8_t* at, uint32_t value) {
  value = htobe32(value);
  memcpy(at, &value, sizeof value);
}

void Store64(uint8_t* at, uint64_t value) {
  value = htobe64(value);
  memcpy(at, &value, sizeof value);
}

double NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

/** Later than this (2^62 ns, 146 years) is never. */
constexpr double kLatestNs = 0x1p62;

/** A number of JavaScript's; Infinity is the largest. */
uint64_t Whole(double value) { return value < 1e18 ? static_cast<uint64_t>(value) : UINT64_MAX; }

}  // namespace

PlainRequests::PlainRequests(SparseMemory* memory, SendQueue& queue, const double* settings, const double* latencies,
                             int32_t* in_hand, double* counters)
    : memory_(memory),
      queue_(queue),
      latencies_(latencies),
      in_hand_(in_hand),
      counters_(counters),
      is_chunked_(settings[kReplyMode] != 0),
      is_extended_(settings[kReplyMode] == 2),
      header_bytes_(is_extended_ ? kExtendedBytes : kRequestBytes),
      may_write_(settings[kMayWrite] != 0),
      alignment_bytes_(Whole(settings[kAlignmentBytes])),
      largest_payload_bytes_(Whole(settings[kLargestPayloadBytes])),
      smallest_hole_bytes_(Whole(settings[kSmallestHoleBytes])),
      kept_bytes_(Whole(settings[kKeptBytes])),
      queued_reply_bytes_(Whole(settings[kQueuedReplyBytes])),
      limit_bytes_(Whole(settings[kLimitBytes])),
      most_in_hand_(Whole(settings[kMostInHand])) {}

PlainRequests::Outcome PlainRequests::Answer(const uint8_t* bytes, size_t length, int fd) {
  double arrival_ns = NowNs();
  Outcome outcome{Stop::kOther, 0, 0};
  for (size_t& at = outcome.used_bytes;;) {
    size_t available = length - at;
    if (available < header_bytes_) {
      outcome.stop = Stop::kStarved;
      break;
    }
    Request request;
    if (!Parse(bytes + at, &request)) break;
    bool is_timed = LatencyNs(request) > 0;
    if (is_timed && is_full()) {
      outcome.stop = Stop::kFull;
      break;
    }
    if (!is_timed && !HasRoomFor(request)) {
      // What has been gathered may leave room by being sent.
      outcome.error = queue_.Flush(fd);
      if (outcome.error != 0 || !HasRoomFor(request)) break;
    }
    if (request.is_write) {
      if (available - header_bytes_ < request.length) {
        outcome.stop = request.length <= kept_bytes_ ? Stop::kStarved : Stop::kLong;
        break;
      }
      memory_->Write(request.offset, bytes + at + header_bytes_, request.length);
      at += request.length;
    }
    at += header_bytes_;
    if (is_timed) {
      Wait(request, arrival_ns);
    } else {
      AnswerNow(request);
    }
  }
  Count(arrival_ns);
  if (outcome.error == 0) outcome.error = queue_.Flush(fd);
  return outcome;
}

void PlainRequests::NoteLanding(const uint8_t* header, uint64_t* offset, uint64_t* length) {
  Request request;
  Parse(header, &request);
  memcpy(landing_header_, header, header_bytes_);
  is_landing_ = true;
  *offset = request.offset;
  *length = request.length;
}

bool PlainRequests::FinishLanding() {
  is_landing_ = false;
  double arrival_ns = NowNs();
  Request request;
  if (!Parse(landing_header_, &request)) return false;
  if (LatencyNs(request) > 0) {
    if (is_full()) return false;
    Wait(request, arrival_ns);
    return true;
  }
  if (!HasRoomFor(request)) return false;
  AnswerNow(request);
  Count(arrival_ns);
  return true;
}

void PlainRequests::Wait(const Request& request, double arrival_ns) {
  waiting_[OperationOf(request)].Push({request, arrival_ns, arrival_ns + LatencyNs(request)});
  ChangeInHand(1);
}

/** Null when nothing waits. */
const Ring<PlainRequests::Arrived>* PlainRequests::FirstDue() const {
  const auto& [reads, writes] = waiting_;
  if (reads.empty() || writes.empty()) return !reads.empty() ? &reads : !writes.empty() ? &writes : nullptr;
  return reads.front().due_ns <= writes.front().due_ns ? &reads : &writes;
}

int64_t PlainRequests::NextNs() const {
  const Ring<Arrived>* first = FirstDue();
  if (first == nullptr || first->front().due_ns >= kLatestNs) return EventLoop::kNever;
  // Rounded up, so that no answer is early.
  return static_cast<int64_t>(std::ceil(first->front().due_ns));
}

int PlainRequests::AnswerDue(int64_t now_ns, int fd) {
  const Ring<Arrived>* first;
  while ((first = FirstDue()) != nullptr && first->front().due_ns <= static_cast<double>(now_ns)) {
    const Arrived& arrived = first->front();
    fallen_due_.push_back(arrived);
    ready_.Push(arrived.request);
    waiting_[OperationOf(arrived.request)].Pop();
  }
  int error = AnswerReady(fd);
  // The answers are with the kernel now, which took its time, too.
  double sent_ns = NowNs();
  for (const Arrived& arrived : fallen_due_) {
    counters_.Record(OperationOf(arrived.request), static_cast<double>(arrived.request.length), false,
                     sent_ns - arrived.arrival_ns, sent_ns - arrived.due_ns);
  }
  fallen_due_.clear();
  return error;
}

int PlainRequests::AnswerReady(int fd) {
  while (!ready_.empty()) {
    const Request& request = ready_.front();
    if (!HasRoomFor(request)) {
      int error = queue_.Flush(fd);
      if (error != 0 || !HasRoomFor(request)) return error;
    }
    Reply(request);
    ready_.Pop();
    ChangeInHand(-1);
  }
  return queue_.Flush(fd);
}

void PlainRequests::Abandon() {
  ChangeInHand(-static_cast<int32_t>(in_hand()));
  for (auto& waiting : waiting_) waiting.Clear();
  ready_.Clear();
}

void PlainRequests::ChangeInHand(int32_t by) {
  *in_hand_ += by;
  counters_.AddInFlight(by);
}

bool PlainRequests::TakeHasAnswered() {
  bool has_answered = has_answered_;
  has_answered_ = false;
  return has_answered;
}

/** False for whatever is not plain. */
bool PlainRequests::Parse(const uint8_t* header, Request* request) const {
  if (Load32(header) != (is_extended_ ? kExtendedRequestMagic : kRequestMagic)) return false;
  uint16_t flags = Load16(header + 4);
  uint16_t command = Load16(header + 6);
  memcpy(&request->cookie, header + 8, sizeof request->cookie);
  uint64_t offset = Load64(header + 16);
  uint64_t length = is_extended_ ? Load64(header + 24) : Load32(header + 24);
  request->offset = offset;
  request->length = length;
  request->is_write = command == kWrite;
  if (length == 0 || length > largest_payload_bytes_) return false;
  if (offset > memory_->size() || length > memory_->size() - offset) return false;
  if (((offset | length) & (alignment_bytes_ - 1)) != 0) return false;
  // FUA asks for nothing that memory has not done already.
  flags &= ~kFlagFua;
  if (command == kRead) {
    if (latencies_[kReads] < 0) return false;
    if (is_chunked_ && flags == kFlagDf) return true;
    return flags == 0 && !(is_chunked_ && length >= smallest_hole_bytes_ && HasLargeHole(offset, length));
  }
  if (command != kWrite || latencies_[kWrites] < 0 || !may_write_) return false;
  return flags == (is_extended_ ? kFlagPayloadLength : 0) && memory_->HasRoomFor(offset, length, limit_bytes_);
}

/** Whether the reply has to tell of a hole. */
bool PlainRequests::HasLargeHole(uint64_t offset, uint64_t length) const {
  for (uint64_t end = offset + length; offset < end;) {
    uint64_t run_end = memory_->ExtentEnd(offset, end);
    if (run_end - offset >= smallest_hole_bytes_ && !memory_->IsAllocated(offset)) return true;
    offset = run_end;
  }
  return false;
}

size_t PlainRequests::ReplyHeaderBytes(bool is_write) const {
  if (!is_chunked_) return kSimpleReplyBytes;
  return (is_extended_ ? kExtendedBytes : kStructuredReplyBytes) + (is_write ? 0 : kOffsetBytes);
}

/** The rule of GatherOutbox.canTake: a single larger reply may pass when nothing else waits. */
bool PlainRequests::HasRoomFor(const Request& request) const {
  size_t header_bytes = ReplyHeaderBytes(request.is_write);
  if (!queue_.HasRoomForHeader(header_bytes)) return false;
  uint64_t reply_bytes = header_bytes + (request.is_write ? 0 : request.length);
  return queue_.empty() || queue_.unsent_bytes() + reply_bytes <= queued_reply_bytes_;
}

void PlainRequests::AnswerNow(const Request& request) {
  Reply(request);
  counts_[OperationOf(request)]++;
  bytes_[OperationOf(request)] += request.length;
}

void PlainRequests::Reply(const Request& request) {
  uint8_t* out = queue_.AddHeader(ReplyHeaderBytes(request.is_write));
  if (!is_chunked_) {
    Store32(out, kSimpleReplyMagic);
    Store32(out + 4, 0);
    memcpy(out + 8, &request.cookie, sizeof request.cookie);
  } else {
    uint64_t body_bytes = request.is_write ? 0 : kOffsetBytes + request.length;
    Store32(out, is_extended_ ? kExtendedReplyMagic : kStructuredReplyMagic);
    Store16(out + 4, kChunkDone);
    Store16(out + 6, request.is_write ? kChunkNone : kChunkOffsetData);
    memcpy(out + 8, &request.cookie, sizeof request.cookie);
    if (is_extended_) {
      Store64(out + 16, request.offset);
      Store64(out + 24, body_bytes);
    } else {
      Store32(out + 16, static_cast<uint32_t>(body_bytes));
    }
    if (!request.is_write) Store64(out + (is_extended_ ? kExtendedBytes : kStructuredReplyBytes), request.offset);
  }
  if (!request.is_write) queue_.AddMemory(request.offset, request.length);
}

/** What takes no time: the whole batch arrived at once and is answered at once. */
void PlainRequests::Count(double arrival_ns) {
  if (counts_[kReads] + counts_[kWrites] == 0) return;
  double latency_ns = NowNs() - arrival_ns;
  for (unsigned operation : {kReads, kWrites}) {
    if (counts_[operation] == 0) continue;
    counters_.RecordLate(operation, counts_[operation], static_cast<double>(bytes_[operation]), latency_ns);
    counts_[operation] = 0;
    bytes_[operation] = 0;
  }
  has_answered_ = true;
}

#endif
