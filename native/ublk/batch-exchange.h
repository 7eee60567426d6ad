#pragma once
#ifdef __linux__

#include "exchange.h"

namespace ublk {

/**
 * Commands about many tags (UBLK_F_BATCH_IO, since 7.0): one at the beginning prepares all tags, one that stays fetches requests as
 * they come, and one per round of the thread commits the round's results.
 *
 * A fetch writes the tags that have requests into one of the buffers provided for it, and ends with ENOBUFS when there is none left:
 * then it is prepared anew, with the buffers that have been read meanwhile. Requests wait in the driver until then.
 *
 * A commit is carried out as it is entered, and its completion says how many bytes of elements the driver has taken. What it has not
 * taken is committed once more; an element refused twice is an error. So the elements stay where they are until then, and the next
 * results gather elsewhere. A commit of a single element is taken or fails: it has a completion only in the latter case, which spares
 * who sends requests one by one a good part of the cost.
 */
class BatchExchange final : public Exchange {
 public:
  explicit BatchExchange(const ExchangeSubject& subject);
  ~BatchExchange() override;

  int Begin() override;
  void Complete(uint16_t tag, int32_t result, uint64_t sector) override;
  void Flush() override;
  int Take(const Cqe& cqe, std::vector<uint16_t>& arrived) override;
  bool is_open() const override { return is_fetching_ || sent_ > 0 || gathered_ > 0; }
  uint32_t certain_completions() const override { return is_fetching_ && sent_ > 0 && gathered_ == 0 ? 1 : 0; }

 private:
  /** `user_data` of its commands. */
  enum Kind : uint64_t { kPrepare, kFetch, kCommit };

  Sqe* PrepareCommand(Kind kind, uint32_t command, const BatchCommand& batch);
  void PrepareFetch();
  Sqe* PrepareElements(Kind kind, uint32_t command, const uint64_t* elements, uint32_t count);
  int TakeFetch(const Cqe& cqe, std::vector<uint16_t>& arrived);
  int TakeCommit(int32_t result);
  void Provide(uint16_t buffer);
  const uint16_t* TagsIn(uint16_t buffer) const;

  const ExchangeSubject subject_;
  const uint16_t flags_;
  /** An element takes one word, or two. */
  const uint32_t element_words_;
  /** Of `depth` elements each: those on their way to the driver, and those that gather for the next commit. */
  std::vector<uint64_t> sending_;
  std::vector<uint64_t> gathering_;
  /** Elements of either; of those sent, how many the driver has taken. */
  uint32_t sent_ = 0;
  uint32_t taken_ = 0;
  uint32_t gathered_ = 0;
  /** A commit of a single element may still be in the ring, before this place. */
  bool has_single_ = false;
  uint32_t single_until_ = 0;

  /** One mapping: the ring of provided buffers in the first page, the buffers behind it. */
  uint8_t* memory_ = nullptr;
  size_t memory_bytes_ = 0;
  uint32_t buffer_tags_ = 0;
  uint16_t provided_ = 0;
  bool is_fetching_ = false;
};

}  // namespace ublk

#endif
