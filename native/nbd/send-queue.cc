/** SendQueue: see the header. */
#ifdef __linux__

#include "send-queue.h"

#include <errno.h>
#include <sys/socket.h>

#include <algorithm>

namespace {

/** Pieces of one sendmsg: some hundred replies; beyond, the call's own cost no longer shows. */
constexpr size_t kGatherPieces = 256;
/** One socket's turn; then the other sockets of the loop have theirs. */
constexpr size_t kTurnBytes = 4 << 20;

/** What holes read as. Never written, so all of it is the kernel's one page of zeroes. */
uint8_t zeroes[256 * 1024];

}  // namespace

void SendQueue::AddScripts(const uint8_t* bytes, uint64_t length) { Add({bytes, 0, length, Owner::kScript}); }

void SendQueue::AddMemory(uint64_t offset, uint64_t length) { Add({nullptr, offset, length, Owner::kMemory}); }

bool SendQueue::HasRoomForHeader(size_t length) const {
  return header_pieces_ == 0 || headers_used_ + length <= kHeaderBytes;
}

uint8_t* SendQueue::AddHeader(size_t length) {
  if (headers_ == nullptr) headers_ = std::make_unique<uint8_t[]>(kHeaderBytes);
  if (header_pieces_ == 0) headers_used_ = 0;
  uint8_t* bytes = headers_.get() + headers_used_;
  headers_used_ += length;
  Piece* last = empty() ? nullptr : &pieces_.back();
  if (last != nullptr && last->owner == Owner::kHeader && last->bytes + last->length == bytes) {
    last->length += length;
    queued_bytes_ += length;
  } else {
    Add({bytes, 0, length, Owner::kHeader});
  }
  return bytes;
}

void SendQueue::Add(const Piece& piece) {
  if (piece.length == 0) return;
  pieces_.push_back(piece);
  queued_bytes_ += piece.length;
  script_pieces_ += piece.owner == Owner::kScript;
  header_pieces_ += piece.owner == Owner::kHeader;
}

int SendQueue::Flush(int fd) {
  size_t budget = kTurnBytes;
  while (!empty() && budget > 0) {
    iovec pieces[kGatherPieces];
    size_t gathered = 0;
    msghdr message{};
    message.msg_iov = pieces;
    message.msg_iovlen = Gather(pieces, budget, &gathered);
    ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) break;
    if (sent < 0) return errno;
    Advance(static_cast<uint64_t>(sent));
    budget -= static_cast<size_t>(sent);
    if (static_cast<size_t>(sent) < gathered) break;
  }
  return 0;
}

void SendQueue::Clear() {
  pieces_.clear();
  head_ = 0;
  sent_of_head_ = 0;
  script_pieces_ = 0;
  header_pieces_ = 0;
}

void SendQueue::Release() {
  Clear();
  pieces_ = {};
  headers_.reset();
}

/** Where the next bytes to send lie, `limit` of them at most; holes of the device are zeroes from elsewhere. */
size_t SendQueue::Gather(iovec* pieces, uint64_t limit, size_t* gathered) const {
  size_t count = 0;
  uint64_t total = 0;
  for (size_t i = head_; i < pieces_.size() && count < kGatherPieces && total < limit; i++) {
    const Piece& piece = pieces_[i];
    uint64_t skipped = i == head_ ? sent_of_head_ : 0;
    uint64_t length = std::min(piece.length - skipped, limit - total);
    if (piece.bytes != nullptr) {
      pieces[count++] = {const_cast<uint8_t*>(piece.bytes) + skipped, static_cast<size_t>(length)};
      total += length;
      continue;
    }
    uint64_t covered = 0;
    int room = static_cast<int>(kGatherPieces - count);
    count += static_cast<size_t>(
        memory_->Runs(piece.offset + skipped, length, zeroes, sizeof zeroes, pieces + count, room, &covered));
    total += covered;
    // The pieces are used up within this one: what follows it must wait.
    if (covered < length) break;
  }
  *gathered = total;
  return count;
}

void SendQueue::Advance(uint64_t sent) {
  sent_bytes_ += sent;
  while (sent > 0) {
    const Piece& piece = pieces_[head_];
    uint64_t left = piece.length - sent_of_head_;
    if (sent < left) {
      sent_of_head_ += sent;
      break;
    }
    sent -= left;
    sent_of_head_ = 0;
    script_pieces_ -= piece.owner == Owner::kScript;
    header_pieces_ -= piece.owner == Owner::kHeader;
    head_++;
  }
  if (empty()) {
    pieces_.clear();
    head_ = 0;
  } else if (head_ > pieces_.size() / 2) {
    pieces_.erase(pieces_.begin(), pieces_.begin() + static_cast<ptrdiff_t>(head_));
    head_ = 0;
  }
}

#endif
