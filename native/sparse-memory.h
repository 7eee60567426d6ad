#pragma once
#include <napi.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

/**
 * A run of memory of any size that costs only the pages written: one lazily populated private mapping, and one bit per
 * page (in a second such mapping) that tells which pages hold something.
 *
 * Every method may be called from any thread. Bits change atomically; who overlaps his own reads and writes gets either
 * order, as on a real drive. Ranges must lie within `size()`.
 */
class SparseMemory {
 public:
  SparseMemory() = default;
  SparseMemory(const SparseMemory&) = delete;
  SparseMemory& operator=(const SparseMemory&) = delete;
  ~SparseMemory();

  /** Maps `size` bytes. Returns 0, or the errno of what was refused. */
  int Map(uint64_t size);

  /**
   * Grows to `size` bytes; what is new is a hole. Returns 0, or the errno of what was refused. The one method that must
   * not run while another thread is in any other: the bytes may move.
   */
  int Grow(uint64_t size);

  uint64_t size() const { return size_; }
  uint64_t page_bytes() const { return page_bytes_; }

  /**
   * The bytes from `offset` on, null for a hole; `end` is moved to where the run of held pages or of the hole ends. Valid until
   * the next `Grow`.
   */
  const uint8_t* Run(uint64_t offset, uint64_t* end) const;

  /** Counts the pages as held and tells where the bytes lie, for who writes there by other means. Valid until the next `Grow`. */
  uint8_t* Claim(uint64_t offset, uint64_t length);

  void Read(uint64_t offset, void* target, uint64_t length) const;
  void Write(uint64_t offset, const void* source, uint64_t length);
  /** Makes the range zero and gives whole pages back. */
  void Discard(uint64_t offset, uint64_t length);
  /** Makes the range zero and counts all of its pages as held, written or not. */
  void Reserve(uint64_t offset, uint64_t length);

  uint64_t allocated_bytes() const { return allocated_pages_.load(std::memory_order_relaxed) * page_bytes_; }
  /** Bytes that a write to this range would newly take. */
  uint64_t HoleBytes(uint64_t offset, uint64_t length) const;
  bool IsAllocated(uint64_t offset) const { return Bit(offset / page_bytes_); }
  /** Where the run of equal pages around `offset` ends; at most `end`. */
  uint64_t ExtentEnd(uint64_t offset, uint64_t end) const;

 private:
  bool Bit(uint64_t page) const;
  /** First page in [page, end) whose bit is not `value`; `end` if there is none. */
  uint64_t RunEnd(uint64_t page, uint64_t end, bool value) const;
  /** Sets or clears the bits of [page, end) and returns how many changed. */
  uint64_t Mark(uint64_t page, uint64_t end, bool value);
  /** Clears the bytes of [begin, end) that lie in held pages. */
  void Clear(uint64_t begin, uint64_t end);
  void GiveBack(uint64_t begin, uint64_t end);

  uint8_t* bytes_ = nullptr;
  std::atomic<uint64_t>* bits_ = nullptr;
  uint64_t size_ = 0;
  uint64_t mapped_bytes_ = 0;
  uint64_t bitmap_bytes_ = 0;
  uint64_t page_bytes_ = 4096;
  std::atomic<uint64_t> allocated_pages_{0};
};

/** What a JavaScript `SparseMemory` holds. It lives as long as anyone shares it, closed or not; null when it was closed before. */
std::shared_ptr<SparseMemory> SharedSparseMemory(Napi::Value object);

/** Adds `SparseMemory` to the exports. */
void ExportSparseMemory(Napi::Env env, Napi::Object exports);
