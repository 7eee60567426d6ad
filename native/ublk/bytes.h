#pragma once
#ifdef __linux__

#include <cstdint>
#include <memory>
#include <vector>

#include "../sparse-memory.h"

namespace ublk {

/** A device's bytes as queue threads see them: memory, or a file. Shared by all threads; every method may be called by any. */
struct Store {
  std::shared_ptr<SparseMemory> memory;
  /** What memory may take; writes beyond end in ENOSPC. */
  uint64_t limit_bytes = UINT64_MAX;
  /** Own descriptor of the image, when there is no memory; closed with the last user. */
  int file_fd = -1;

  Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  ~Store();
};

/** Where the bytes of one request lie on the kernel's side. */
struct RequestBytes {
  /** The device's character node and the offset in it, with user copy. */
  int fd;
  uint64_t position;
  /** The tag's own buffer, with the kernel's copying; nullptr with user copy. */
  uint8_t* buffer;
};

/** Copies a write's payload to `target`. Returns 0 or an errno. */
int CopyPayload(const RequestBytes& request, uint8_t* target, uint64_t length);

/** Copies `source` to the beginning of what a request asks for. Returns 0 or an errno. */
int CopyAnswer(const RequestBytes& request, const uint8_t* source, uint64_t length);

/** Moves bytes between requests and a store, for one thread: it has what is needed in between. */
class Mover {
 public:
  /** @param thread number of the thread, for the memory's `Stay` */
  Mover(std::shared_ptr<Store> store, size_t thread, size_t largest_bytes);

  /** A write's payload into the store. Each returns 0 or an errno. */
  int In(const RequestBytes& request, uint64_t offset, uint64_t length);
  /** The store's bytes into a read. */
  int Out(const RequestBytes& request, uint64_t offset, uint64_t length);
  /** Memory only. */
  int Discard(uint64_t offset, uint64_t length);
  int Zero(uint64_t offset, uint64_t length, bool keep_allocated);

  const Store& store() const { return *store_; }

 private:
  bool HasRoomFor(uint64_t offset, uint64_t length) const;
  uint8_t* Between(const RequestBytes& request);

  std::shared_ptr<Store> store_;
  size_t thread_;
  /** For a file with user copy. Empty until it is needed. */
  std::vector<uint8_t> between_;
  size_t largest_bytes_;
};

}  // namespace ublk

#endif
