#pragma once
#ifdef __linux__

#include "exchange.h"

namespace ublk {

/** A command per tag: it waits for a request, and the next one carries the request's result and waits again. */
class TagExchange final : public Exchange {
 public:
  explicit TagExchange(const ExchangeSubject& subject) : subject_(subject) {}

  int Begin() override;
  void Complete(uint16_t tag, int32_t result, uint64_t sector) override;
  void Flush() override {}
  int Take(const Cqe& cqe, std::vector<uint16_t>& arrived) override;
  bool is_open() const override { return live_tags_ > 0; }
  uint32_t certain_completions() const override { return 0; }

 private:
  void Prepare(uint32_t command, uint16_t tag, int32_t result, uint64_t sector);

  const ExchangeSubject subject_;
  /** Tags the driver has not aborted: their commands wait, or their requests are in hand. */
  uint32_t live_tags_ = 0;
};

}  // namespace ublk

#endif
