#pragma once
#include <napi.h>

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

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
   * Grows to `size` bytes; what is new is a hole. Returns 0, or the errno of what was refused. The bytes may move, so it
   * waits for every `Stay` to end. The thread that grows is the one that may use the memory without one.
   */
  int Grow(uint64_t size);

  /** Has memory found for all of it; before anything was written. Returns 0 or an errno. */
  int Populate();

  /** Pages that are touched, from now on, are never swapped out. Returns 0 or an errno. */
  int Lock();

  /** How many other threads can stay at once without waiting for each other. */
  static constexpr size_t kStays = 16;

  /** While it lives the bytes stay where they are. Threads with different numbers do not meet in it. */
  class Stay {
   public:
    Stay(SparseMemory& memory, size_t number) : guard_(memory.stays_[number % kStays].mutex) {}

   private:
    std::lock_guard<std::mutex> guard_;
  };

  uint64_t size() const { return size_; }
  uint64_t page_bytes() const { return page_bytes_; }

  void Read(uint64_t offset, void* target, uint64_t length) const;
  void Write(uint64_t offset, const void* source, uint64_t length);
  /** Counts the range as held and gives the place of its bytes, for somebody else to write them. */
  uint8_t* Hold(uint64_t offset, uint64_t length);
  /**
   * The places of the bytes from `offset` on, at most `count` runs of them, for somebody else to read. Holes lie in
   * `zeroes`, of which there are `zero_bytes`. Returns the number of runs; `covered` is how many bytes they are.
   */
  int Runs(uint64_t offset, uint64_t length, const void* zeroes, uint64_t zero_bytes, iovec* runs, int count,
           uint64_t* covered) const;
  /** Makes the range zero and gives whole pages back. */
  void Discard(uint64_t offset, uint64_t length);
  /** Makes the range zero and counts all of its pages as held, written or not. */
  void Reserve(uint64_t offset, uint64_t length);

  uint64_t allocated_bytes() const { return allocated_pages_.load(std::memory_order_relaxed) * page_bytes_; }
  /** Bytes that a write to this range would newly take. */
  uint64_t HoleBytes(uint64_t offset, uint64_t length) const;
  /** Whether a write to this range leaves no more than `limit` held or promised. What overwrites held pages always fits. */
  bool HasRoomFor(uint64_t offset, uint64_t length, uint64_t limit) const;
  /** Sets so many bytes aside for a write under way, or gives them back when it is negative. */
  void Promise(int64_t bytes) { promised_bytes_.fetch_add(bytes, std::memory_order_relaxed); }
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
  std::atomic<int64_t> promised_bytes_{0};
  /** One cache line each: who stays touches nobody else's. */
  struct alignas(64) StayMutex {
    std::mutex mutex;
  };
  StayMutex stays_[kStays];
};

/** The memory behind a JavaScript SparseMemory, to be shared with native threads; nullptr when it is none, or closed. */
std::shared_ptr<SparseMemory> SparseMemoryOf(Napi::Value object);

/** Adds `SparseMemory` to the exports. */
void ExportSparseMemory(Napi::Env env, Napi::Object exports);
