/** BatchExchange: see the header. Source: Linux 7.2, include/uapi/linux/ublk_cmd.h, drivers/block/ublk_drv.c; io_uring(7). */
#ifdef __linux__

#include "batch-exchange.h"

#include <errno.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace ublk {

namespace {

constexpr size_t kPageBytes = 4096;
/** The driver takes one each time it looks whether there are requests: mostly once while the thread is in the kernel. */
constexpr uint16_t kBuffers = 8;
constexpr uint16_t kGroup = 0;

}  // namespace

BatchExchange::BatchExchange(const ExchangeSubject& subject)
    : subject_(subject),
      flags_(subject.buffers != nullptr ? kBatchHasBufferAddress
             : subject.is_zoned         ? kBatchHasZoneSector
                                        : 0),
      element_words_(flags_ == 0 ? 1 : 2),
      sending_(subject.depth * element_words_),
      gathering_(subject.depth * element_words_) {}

BatchExchange::~BatchExchange() {
  if (memory_ != nullptr) munmap(memory_, memory_bytes_);
}

int BatchExchange::Begin() {
  buffer_tags_ = std::min(subject_.depth, kTagsAtOnce);
  memory_bytes_ = kPageBytes + kBuffers * buffer_tags_ * sizeof(uint16_t);
  void* memory = mmap(nullptr, memory_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return errno;
  memory_ = static_cast<uint8_t*>(memory);
  BufferRingRegistration registration{reinterpret_cast<uint64_t>(memory_), kBuffers, kGroup, 0, {}};
  int error = subject_.ring->Register(kRegisterBufferRing, &registration, 1);
  if (error != 0) return error;
  for (uint16_t buffer = 0; buffer < kBuffers; buffer++) Provide(buffer);

  for (uint32_t tag = 0; tag < subject_.depth; tag++) Complete(static_cast<uint16_t>(tag), 0, 0);
  gathered_ = 0;
  // Entered together, the driver carries them out in this order; a fetch it would refuse before.
  PrepareElements(kPrepare, kPrepareBatch, gathering_.data(), subject_.depth);
  PrepareFetch();
  return 0;
}

/** A tag is completed once until it comes again: there is room for it. */
void BatchExchange::Complete(uint16_t tag, int32_t result, uint64_t sector) {
  uint64_t* words = &gathering_[gathered_ * element_words_];
  BatchElement element{tag, 0, result};
  memcpy(words, &element, sizeof element);
  if (subject_.buffers != nullptr) {
    words[1] = reinterpret_cast<uint64_t>(subject_.buffers + static_cast<size_t>(tag) * subject_.buffer_bytes);
  } else if (subject_.is_zoned) {
    words[1] = sector;
  }
  gathered_++;
}

void BatchExchange::Flush() {
  if (sent_ > 0 || gathered_ == 0) return;
  // An enter that failed has left it there.
  while (has_single_ && !subject_.ring->HasTakenUntil(single_until_)) subject_.ring->Enter(0);
  gathering_.swap(sending_);
  sent_ = gathered_;
  taken_ = gathered_ = 0;
  has_single_ = false;
  Sqe* sqe = PrepareElements(kCommit, kCommitBatch, sending_.data(), sent_);
  // Without a fetch the commit's completion is what the thread waits for.
  if (sent_ > 1 || !is_fetching_) return;
  sqe->flags |= kSqeSkipSuccess;
  single_until_ = subject_.ring->place();
  has_single_ = true;
  sent_ = 0;
}

int BatchExchange::Take(const Cqe& cqe, std::vector<uint16_t>& arrived) {
  if (cqe.user_data == kFetch) return TakeFetch(cqe, arrived);
  if (cqe.user_data == kCommit) return TakeCommit(cqe.result);
  return cqe.result < 0 ? -cqe.result : 0;
}

int BatchExchange::TakeFetch(const Cqe& cqe, std::vector<uint16_t>& arrived) {
  if ((cqe.flags & kCqeBuffer) != 0) {
    auto buffer = static_cast<uint16_t>(cqe.flags >> kCqeBufferShift);
    if (cqe.result > 0) {
      const uint16_t* tags = TagsIn(buffer);
      arrived.insert(arrived.end(), tags, tags + cqe.result / sizeof(uint16_t));
    }
    Provide(buffer);
  }
  if ((cqe.flags & kCqeMore) != 0) return 0;
  is_fetching_ = false;
  // ENODEV: the device is being stopped.
  if (cqe.result == -ENODEV) return 0;
  if (cqe.result < 0 && cqe.result != -ENOBUFS) return -cqe.result;
  PrepareFetch();
  return 0;
}

int BatchExchange::TakeCommit(int32_t result) {
  // Nothing was taken: the first element is one the driver does not have, or the elements cannot be read.
  if (result <= 0) return result == 0 ? EIO : -result;
  taken_ += static_cast<uint32_t>(result) / (element_words_ * sizeof(uint64_t));
  if (taken_ < sent_) {
    PrepareElements(kCommit, kCommitBatch, &sending_[taken_ * element_words_], sent_ - taken_);
  } else {
    sent_ = 0;
  }
  return 0;
}

Sqe* BatchExchange::PrepareCommand(Kind kind, uint32_t command, const BatchCommand& batch) {
  Sqe* sqe = subject_.ring->PrepareSurely();
  sqe->opcode = kOpCommand;
  sqe->flags = kSqeFixedFile;
  sqe->fd = 0;
  sqe->offset = command;
  sqe->user_data = kind;
  memcpy(sqe->command, &batch, sizeof batch);
  return sqe;
}

void BatchExchange::PrepareFetch() {
  BatchCommand batch{subject_.queue, 0, 0, sizeof(uint16_t), 0, 0};
  Sqe* sqe = PrepareCommand(kFetch, kFetchBatch, batch);
  sqe->flags |= kSqeBufferSelect;
  sqe->op_flags = kCommandMultishot;
  sqe->buffer_index = kGroup;
  is_fetching_ = true;
}

Sqe* BatchExchange::PrepareElements(Kind kind, uint32_t command, const uint64_t* elements, uint32_t count) {
  auto element_bytes = static_cast<uint8_t>(element_words_ * sizeof(uint64_t));
  BatchCommand batch{subject_.queue, flags_, static_cast<uint16_t>(count), element_bytes, 0, 0};
  Sqe* sqe = PrepareCommand(kind, command, batch);
  sqe->address = reinterpret_cast<uint64_t>(elements);
  sqe->length = count * element_bytes;
  return sqe;
}

/** Gives a buffer that has been read to the kernel. */
void BatchExchange::Provide(uint16_t buffer) {
  auto* ring = reinterpret_cast<ProvidedBuffer*>(memory_);
  ProvidedBuffer& place = ring[provided_ % kBuffers];
  // Not the whole of it: the first one's last field is the tail.
  place.address = reinterpret_cast<uint64_t>(TagsIn(buffer));
  place.length = buffer_tags_ * sizeof(uint16_t);
  place.number = buffer;
  provided_++;
  __atomic_store_n(&ring->tail, provided_, __ATOMIC_RELEASE);
}

const uint16_t* BatchExchange::TagsIn(uint16_t buffer) const {
  return reinterpret_cast<const uint16_t*>(memory_ + kPageBytes) + static_cast<size_t>(buffer) * buffer_tags_;
}

}  // namespace ublk

#endif
