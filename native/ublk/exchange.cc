/** Exchange: see the header. */
#ifdef __linux__

#include "exchange.h"

#include "batch-exchange.h"
#include "tag-exchange.h"

namespace ublk {

std::unique_ptr<Exchange> Exchange::Make(bool is_batched, const ExchangeSubject& subject) {
  if (is_batched) return std::make_unique<BatchExchange>(subject);
  return std::make_unique<TagExchange>(subject);
}

}  // namespace ublk

#endif
