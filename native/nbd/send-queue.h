#pragma once
#ifdef __linux__

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../sparse-memory.h"

/**
 * What is to be sent to one client, oldest first, in pieces that stay where they lie until the socket takes them: bytes of
 * JavaScript's, which keeps them until then; parts of the device's memory; and headers written here.
 */
class SendQueue {
 public:
  explicit SendQueue(const SparseMemory* memory) : memory_(memory) {}

  bool empty() const { return head_ == pieces_.size(); }
  /** Bytes put in, and sent, since the start. */
  uint64_t queued_bytes() const { return queued_bytes_; }
  uint64_t sent_bytes() const { return sent_bytes_; }
  uint64_t unsent_bytes() const { return queued_bytes_ - sent_bytes_; }
  /** Whether JavaScript has bytes in it that it wants back. */
  bool holds_scripts() const { return script_pieces_ > 0; }

  void AddScripts(const uint8_t* bytes, uint64_t length);
  /** A part of the device's memory, read when the socket takes it. */
  void AddMemory(uint64_t offset, uint64_t length);
  bool HasRoomForHeader(size_t length) const;
  /** A place for a header, to be written at once. There must be room for it. */
  uint8_t* AddHeader(size_t length);

  /** Sends what the socket takes now, one turn's share at most; returns the errno of a broken one. */
  int Flush(int fd);
  void Clear();
  /** Gives its memory back: nothing is added any more. */
  void Release();

 private:
  enum class Owner : uint8_t { kScript, kMemory, kHeader };

  struct Piece {
    /** Null for a part of the memory, which may move meanwhile. */
    const uint8_t* bytes;
    uint64_t offset;
    uint64_t length;
    Owner owner;
  };

  /** Headers of some hundred replies. */
  static constexpr size_t kHeaderBytes = 16 * 1024;

  void Add(const Piece& piece);
  size_t Gather(iovec* pieces, uint64_t limit, size_t* gathered) const;
  void Advance(uint64_t sent);

  const SparseMemory* const memory_;
  std::vector<Piece> pieces_;
  size_t head_ = 0;
  uint64_t sent_of_head_ = 0;
  uint64_t queued_bytes_ = 0;
  uint64_t sent_bytes_ = 0;
  size_t script_pieces_ = 0;
  size_t header_pieces_ = 0;
  /** Filled from the front, and from there again once none of it waits. Had when it is first needed. */
  std::unique_ptr<uint8_t[]> headers_;
  size_t headers_used_ = 0;
};

#endif
