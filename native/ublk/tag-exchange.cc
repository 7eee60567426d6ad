/** TagExchange: see the header. Source: Linux, Documentation/block/ublk.rst, drivers/block/ublk_drv.c. */
#ifdef __linux__

#include "tag-exchange.h"

#include <errno.h>

#include <cstring>

namespace ublk {

int TagExchange::Begin() {
  for (uint32_t tag = 0; tag < subject_.depth; tag++) Prepare(kFetch, static_cast<uint16_t>(tag), 0, 0);
  live_tags_ = subject_.depth;
  return 0;
}

void TagExchange::Complete(uint16_t tag, int32_t result, uint64_t sector) {
  Prepare(kCommitAndFetch, tag, result, sector);
}

int TagExchange::Take(const Cqe& cqe, std::vector<uint16_t>& arrived) {
  if (cqe.result == kResultRequest) {
    arrived.push_back(static_cast<uint16_t>(cqe.user_data));
    return 0;
  }
  live_tags_--;
  // ENODEV: the device is being stopped. Anything else means that this queue cannot go on.
  return cqe.result == -ENODEV ? 0 : -cqe.result;
}

void TagExchange::Prepare(uint32_t command, uint16_t tag, int32_t result, uint64_t sector) {
  Sqe* sqe = subject_.ring->PrepareSurely();
  sqe->opcode = kOpCommand;
  sqe->flags = kSqeFixedFile;
  sqe->fd = 0;
  sqe->offset = command;
  sqe->user_data = tag;
  IoCommand io{subject_.queue, tag, result, sector};
  if (subject_.buffers != nullptr) {
    io.address = reinterpret_cast<uint64_t>(subject_.buffers + static_cast<size_t>(tag) * subject_.buffer_bytes);
  }
  memcpy(sqe->command, &io, sizeof io);
}

}  // namespace ublk

#endif
