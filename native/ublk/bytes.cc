/**
 * Mover: see the header.
 *
 * With user copy a request's bytes are read and written at an offset of the character node. Memory is then copied once:
 * the kernel writes a payload to where it stays, and fills a read from there, holes from a page of zeroes. A file takes
 * one copy more, through a buffer of the thread.
 */
#ifdef __linux__

#include "bytes.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace ublk {

namespace {

/** Runs of held pages and holes handed to the kernel in one call. */
constexpr int kRunsAtOnce = 64;

alignas(4096) const uint8_t kZeroes[64 * 1024] = {};

/** Reads or writes all of it. `Transfer` is pread or pwrite. What comes to an end early is an I/O error. */
template <typename Transfer, typename Byte>
int All(Transfer transfer, int fd, Byte* bytes, uint64_t length, uint64_t position) {
  while (length > 0) {
    ssize_t count = transfer(fd, bytes, length, static_cast<off_t>(position));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    if (count == 0) return EIO;
    bytes += count;
    position += static_cast<uint64_t>(count);
    length -= static_cast<uint64_t>(count);
  }
  return 0;
}

}  // namespace

Store::~Store() {
  if (file_fd >= 0) close(file_fd);
}

int CopyPayload(const RequestBytes& request, uint8_t* target, uint64_t length) {
  if (request.buffer == nullptr) return All(pread, request.fd, target, length, request.position);
  memcpy(target, request.buffer, length);
  return 0;
}

int CopyAnswer(const RequestBytes& request, const uint8_t* source, uint64_t length) {
  if (request.buffer == nullptr) return All(pwrite, request.fd, source, length, request.position);
  memcpy(request.buffer, source, length);
  return 0;
}

Mover::Mover(std::shared_ptr<Store> store, size_t thread, size_t largest_bytes)
    : store_(std::move(store)), thread_(thread), largest_bytes_(largest_bytes) {}

int Mover::In(const RequestBytes& request, uint64_t offset, uint64_t length) {
  if (store_->memory == nullptr) {
    uint8_t* bytes = Between(request);
    int error = request.buffer != nullptr ? 0 : All(pread, request.fd, bytes, length, request.position);
    return error != 0 ? error : All(pwrite, store_->file_fd, bytes, length, offset);
  }
  SparseMemory& memory = *store_->memory;
  SparseMemory::Stay stay(memory, thread_);
  if (!HasRoomFor(offset, length)) return ENOSPC;
  if (request.buffer == nullptr) return All(pread, request.fd, memory.Hold(offset, length), length, request.position);
  memory.Write(offset, request.buffer, length);
  return 0;
}

int Mover::Out(const RequestBytes& request, uint64_t offset, uint64_t length) {
  if (store_->memory == nullptr) {
    uint8_t* bytes = Between(request);
    int error = All(pread, store_->file_fd, bytes, length, offset);
    return error != 0 || request.buffer != nullptr ? error : All(pwrite, request.fd, bytes, length, request.position);
  }
  SparseMemory& memory = *store_->memory;
  SparseMemory::Stay stay(memory, thread_);
  if (request.buffer != nullptr) {
    memory.Read(offset, request.buffer, length);
    return 0;
  }
  uint64_t position = request.position;
  while (length > 0) {
    iovec runs[kRunsAtOnce];
    uint64_t covered;
    int count = memory.Runs(offset, length, kZeroes, sizeof kZeroes, runs, kRunsAtOnce, &covered);
    ssize_t written = count == 1 ? pwrite(request.fd, runs[0].iov_base, runs[0].iov_len, static_cast<off_t>(position))
                                 : pwritev(request.fd, runs, count, static_cast<off_t>(position));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    if (written == 0) return EIO;
    position += static_cast<uint64_t>(written);
    offset += static_cast<uint64_t>(written);
    length -= static_cast<uint64_t>(written);
  }
  return 0;
}

int Mover::Discard(uint64_t offset, uint64_t length) {
  SparseMemory::Stay stay(*store_->memory, thread_);
  store_->memory->Discard(offset, length);
  return 0;
}

int Mover::Zero(uint64_t offset, uint64_t length, bool keep_allocated) {
  SparseMemory::Stay stay(*store_->memory, thread_);
  if (!keep_allocated) {
    store_->memory->Discard(offset, length);
  } else if (HasRoomFor(offset, length)) {
    store_->memory->Reserve(offset, length);
  } else {
    return ENOSPC;
  }
  return 0;
}

bool Mover::HasRoomFor(uint64_t offset, uint64_t length) const {
  return store_->memory->HasRoomFor(offset, length, store_->limit_bytes);
}

uint8_t* Mover::Between(const RequestBytes& request) {
  if (request.buffer != nullptr) return request.buffer;
  if (between_.empty()) between_.resize(largest_bytes_);
  return between_.data();
}

}  // namespace ublk

#endif
