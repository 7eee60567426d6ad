/**
 * SparseMemory: see the header. Here are the bookkeeping and the thin JavaScript class over it.
 *
 * JavaScript gets no view of the mapping, only copies in and out of it. A view would be an external ArrayBuffer, whose
 * whole length V8 counts as memory held by the heap: a 1 GiB window provokes full collections although nothing
 * was allocated, and every window would have to be detached before the mapping goes. A copy has neither problem.
 */
#include "sparse-memory.h"

#include <errno.h>
#include <sys/mman.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace {

constexpr uint64_t kBitsPerWord = 64;

/** MADV_DONTNEED_LOCKED, which older headers lack. */
constexpr int kDontNeedLocked = 24;

/** MADV_POPULATE_WRITE, which older headers lack. */
constexpr int kPopulateWrite = 23;

/** From this length on, unmapping pages is cheaper than writing zeroes to them (a system call and later page faults). */
constexpr uint64_t kGiveBackBytes = 256 * 1024;

uint64_t RoundUp(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

/** Address space without memory behind it: pages come on first write. */
void* MapLazily(uint64_t length) {
  void* address =
      mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) return nullptr;
#ifdef __linux__
  // Huge pages would make a 4 KiB write cost 2 MiB.
  madvise(address, length, MADV_NOHUGEPAGE);
  // Child processes (nbd-client, qemu) need no copy of the page tables, which takes milliseconds per GiB.
  madvise(address, length, MADV_DONTFORK);
#endif
  return address;
}

/** The bits of one word that stand for pages [page, end). */
uint64_t WordMask(uint64_t page, uint64_t end) {
  uint64_t first = page % kBitsPerWord;
  uint64_t count = std::min(end - page, kBitsPerWord - first);
  uint64_t ones = count == kBitsPerWord ? ~0ull : (1ull << count) - 1;
  return ones << first;
}

}  // namespace

int SparseMemory::Map(uint64_t size) {
  page_bytes_ = std::max<uint64_t>(4096, static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
  mapped_bytes_ = RoundUp(size, page_bytes_);
  bitmap_bytes_ = RoundUp(mapped_bytes_ / page_bytes_, kBitsPerWord) / 8;
  bytes_ = static_cast<uint8_t*>(MapLazily(mapped_bytes_));
  if (bytes_ == nullptr) return errno;
  bits_ = static_cast<std::atomic<uint64_t>*>(MapLazily(bitmap_bytes_));
  if (bits_ == nullptr) return errno;
  size_ = size;
  return 0;
}

int SparseMemory::Lock() {
#if defined(__linux__) && defined(SYS_mlock2)
  constexpr int kOnFault = 1;
  if (syscall(SYS_mlock2, bits_, bitmap_bytes_, kOnFault) != 0) return errno;
  return syscall(SYS_mlock2, bytes_, mapped_bytes_, kOnFault) == 0 ? 0 : errno;
#else
  return ENOSYS;
#endif
}

int SparseMemory::Populate() {
#ifdef __linux__
  // Every page is wanted, so huge ones cost nothing more.
  madvise(bytes_, mapped_bytes_, MADV_HUGEPAGE);
  if (madvise(bytes_, mapped_bytes_, kPopulateWrite) == 0) return 0;
  // Kernels before 5.14 do not know it.
  if (errno != EINVAL) return errno;
#endif
  for (uint64_t at = 0; at < mapped_bytes_; at += page_bytes_) static_cast<volatile uint8_t*>(bytes_)[at] = 0;
  return 0;
}

int SparseMemory::Grow(uint64_t size) {
#ifdef __linux__
  std::unique_lock<std::mutex> locks[kStays];
  for (size_t i = 0; i < kStays; i++) locks[i] = std::unique_lock<std::mutex>(stays_[i].mutex);
  // Past the old end everything is zero, in its last page too: nobody can have written there.
  uint64_t mapped_bytes = RoundUp(size, page_bytes_);
  uint64_t bitmap_bytes = RoundUp(mapped_bytes / page_bytes_, kBitsPerWord) / 8;
  void* bits = mremap(bits_, bitmap_bytes_, bitmap_bytes, MREMAP_MAYMOVE);
  if (bits == MAP_FAILED) return errno;
  bits_ = static_cast<std::atomic<uint64_t>*>(bits);
  bitmap_bytes_ = bitmap_bytes;
  void* bytes = mremap(bytes_, mapped_bytes_, mapped_bytes, MREMAP_MAYMOVE);
  if (bytes == MAP_FAILED) return errno;
  bytes_ = static_cast<uint8_t*>(bytes);
  mapped_bytes_ = mapped_bytes;
  size_ = size;
  return 0;
#else
  return size == size_ ? 0 : ENOTSUP;
#endif
}

SparseMemory::~SparseMemory() {
  if (bytes_ != nullptr) munmap(bytes_, mapped_bytes_);
  if (bits_ != nullptr) munmap(bits_, bitmap_bytes_);
}

void SparseMemory::Read(uint64_t offset, void* target, uint64_t length) const {
  auto* out = static_cast<uint8_t*>(target);
  uint64_t end = offset + length;
  while (offset < end) {
    bool is_held = IsAllocated(offset);
    uint64_t run_end = ExtentEnd(offset, end);
    // A hole is answered without touching it: a touched hole would cost page tables.
    if (is_held) {
      memcpy(out, bytes_ + offset, run_end - offset);
    } else {
      memset(out, 0, run_end - offset);
    }
    out += run_end - offset;
    offset = run_end;
  }
}

void SparseMemory::Write(uint64_t offset, const void* source, uint64_t length) {
  if (length == 0) return;
  Mark(offset / page_bytes_, RoundUp(offset + length, page_bytes_) / page_bytes_, true);
  memcpy(bytes_ + offset, source, length);
}

uint8_t* SparseMemory::Hold(uint64_t offset, uint64_t length) {
  Mark(offset / page_bytes_, RoundUp(offset + length, page_bytes_) / page_bytes_, true);
  return bytes_ + offset;
}

int SparseMemory::Runs(uint64_t offset, uint64_t length, const void* zeroes, uint64_t zero_bytes, iovec* runs,
                       int count, uint64_t* covered) const {
  uint64_t begin = offset;
  uint64_t end = offset + length;
  int used = 0;
  while (offset < end && used < count) {
    uint64_t run_end = ExtentEnd(offset, end);
    bool is_held = IsAllocated(offset);
    if (!is_held) run_end = std::min(run_end, offset + zero_bytes);
    runs[used].iov_base = is_held ? bytes_ + offset : const_cast<void*>(zeroes);
    runs[used].iov_len = run_end - offset;
    used++;
    offset = run_end;
  }
  *covered = offset - begin;
  return used;
}

void SparseMemory::Discard(uint64_t offset, uint64_t length) {
  uint64_t end = offset + length;
  // What follows the end of the device in its last page belongs to nobody.
  uint64_t whole_end = end == size_ ? mapped_bytes_ : end / page_bytes_ * page_bytes_;
  uint64_t whole_begin = RoundUp(offset, page_bytes_);
  if (whole_begin >= whole_end) {
    Clear(offset, end);
    return;
  }
  Clear(offset, whole_begin);
  if (whole_end < end) Clear(whole_end, end);
  if (Mark(whole_begin / page_bytes_, whole_end / page_bytes_, false) > 0) GiveBack(whole_begin, whole_end);
}

void SparseMemory::Reserve(uint64_t offset, uint64_t length) {
  if (length == 0) return;
  uint64_t end = offset + length;
  uint64_t whole_begin = RoundUp(offset, page_bytes_);
  uint64_t whole_end = end / page_bytes_ * page_bytes_;
  if (length < kGiveBackBytes) {
    Clear(offset, end);
  } else {
    Clear(offset, whole_begin);
    GiveBack(whole_begin, whole_end);
    Clear(whole_end, end);
  }
  Mark(offset / page_bytes_, RoundUp(end, page_bytes_) / page_bytes_, true);
}

uint64_t SparseMemory::HoleBytes(uint64_t offset, uint64_t length) const {
  if (length == 0) return 0;
  uint64_t page = offset / page_bytes_;
  uint64_t end = RoundUp(offset + length, page_bytes_) / page_bytes_;
  uint64_t holes = 0;
  while (page < end) {
    uint64_t mask = WordMask(page, end);
    holes += __builtin_popcountll(~bits_[page / kBitsPerWord].load(std::memory_order_relaxed) & mask);
    page += kBitsPerWord - page % kBitsPerWord;
  }
  return holes * page_bytes_;
}

bool SparseMemory::HasRoomFor(uint64_t offset, uint64_t length, uint64_t limit) const {
  if (limit == UINT64_MAX) return true;
  uint64_t wanted = HoleBytes(offset, length);
  if (wanted == 0) return true;
  uint64_t promised = static_cast<uint64_t>(promised_bytes_.load(std::memory_order_relaxed));
  return allocated_bytes() + promised + wanted <= limit;
}

uint64_t SparseMemory::ExtentEnd(uint64_t offset, uint64_t end) const {
  uint64_t page = offset / page_bytes_;
  uint64_t page_end = RoundUp(end, page_bytes_) / page_bytes_;
  return std::min(end, RunEnd(page + 1, page_end, Bit(page)) * page_bytes_);
}

bool SparseMemory::Bit(uint64_t page) const {
  return (bits_[page / kBitsPerWord].load(std::memory_order_relaxed) >> (page % kBitsPerWord) & 1) != 0;
}

uint64_t SparseMemory::RunEnd(uint64_t page, uint64_t end, bool value) const {
  while (page < end) {
    uint64_t word = bits_[page / kBitsPerWord].load(std::memory_order_relaxed);
    uint64_t others = (value ? ~word : word) & WordMask(page, end);
    if (others != 0) return page / kBitsPerWord * kBitsPerWord + __builtin_ctzll(others);
    page += kBitsPerWord - page % kBitsPerWord;
  }
  return end;
}

uint64_t SparseMemory::Mark(uint64_t page, uint64_t end, bool value) {
  uint64_t changed = 0;
  while (page < end) {
    auto& word = bits_[page / kBitsPerWord];
    uint64_t mask = WordMask(page, end);
    uint64_t wanted = value ? mask : 0;
    // Looked at before written: the bitmap of a range without anything in it stays untouched too.
    if ((word.load(std::memory_order_relaxed) & mask) != wanted) {
      uint64_t before = value ? word.fetch_or(mask) : word.fetch_and(~mask);
      changed += __builtin_popcountll((value ? ~before : before) & mask);
    }
    page += kBitsPerWord - page % kBitsPerWord;
  }
  if (value) {
    allocated_pages_ += changed;
  } else {
    allocated_pages_ -= changed;
  }
  return changed;
}

void SparseMemory::Clear(uint64_t begin, uint64_t end) {
  while (begin < end) {
    uint64_t run_end = ExtentEnd(begin, end);
    if (IsAllocated(begin)) memset(bytes_ + begin, 0, run_end - begin);
    begin = run_end;
  }
}

void SparseMemory::GiveBack(uint64_t begin, uint64_t end) {
  if (begin >= end) return;
#ifdef __linux__
  if (madvise(bytes_ + begin, end - begin, MADV_DONTNEED) == 0) return;
  // Refused for locked memory; newer kernels (5.18) have a way for that, and zeroes do everywhere.
  if (madvise(bytes_ + begin, end - begin, kDontNeedLocked) == 0) return;
  memset(bytes_ + begin, 0, end - begin);
#else
  // Elsewhere MADV_DONTNEED is only advice; a fresh mapping in its place reads as zero everywhere.
  mmap(bytes_ + begin, end - begin, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
       -1, 0);
#endif
}

namespace {

/** Marks objects of this class, so that no other is taken for one. */
constexpr napi_type_tag kTypeTag{0x5f1d0a6b3c8e4217, 0x9b24c7d1e06f83a5};

/** The JavaScript class. Arguments were checked in TypeScript; a range outside is refused here too, for it would crash. */
class SparseMemoryObject : public Napi::ObjectWrap<SparseMemoryObject> {
 public:
  static Napi::Function Define(Napi::Env env) {
    using Self = SparseMemoryObject;
    return DefineClass(env, "SparseMemory",
                       {
                           InstanceMethod<&Self::Read>("read"),
                           InstanceMethod<&Self::Write>("write"),
                           InstanceMethod<&Self::Discard>("discard"),
                           InstanceMethod<&Self::Reserve>("reserve"),
                           InstanceMethod<&Self::Grow>("grow"),
                           InstanceMethod<&Self::Lock>("lock"),
                           InstanceMethod<&Self::Populate>("populate"),
                           InstanceMethod<&Self::AllocatedBytes>("allocatedBytes"),
                           InstanceMethod<&Self::HasRoomFor>("hasRoomFor"),
                           InstanceMethod<&Self::IsAllocated>("isAllocated"),
                           InstanceMethod<&Self::ExtentEnd>("extentEnd"),
                           InstanceMethod<&Self::Close>("close"),
                       });
  }

  /** new SparseMemory(sizeBytes) */
  explicit SparseMemoryObject(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<SparseMemoryObject>(info), memory_(std::make_shared<SparseMemory>()) {
    napi_type_tag_object(info.Env(), info.This(), &kTypeTag);
    double size = Double(info, 0);
    int error = size >= 1 && size <= kLargest ? memory_->Map(static_cast<uint64_t>(size)) : EINVAL;
    if (error != 0) Napi::Error::New(info.Env(), strerror(error)).ThrowAsJavaScriptException();
  }

  std::shared_ptr<SparseMemory> memory() const { return memory_; }

 private:
  static constexpr double kLargest = 9007199254740991.0;

  static double Double(const Napi::CallbackInfo& info, size_t index) {
    double value = -1;
    napi_get_value_double(info.Env(), info[index], &value);
    return value;
  }

  bool IsWithin(const Napi::CallbackInfo& info, double offset, double length) {
    if (memory_ != nullptr && offset >= 0 && length >= 0 && offset + length <= static_cast<double>(memory_->size())) {
      return true;
    }
    Napi::RangeError::New(info.Env(), "range outside the memory").ThrowAsJavaScriptException();
    return false;
  }

  /** The bytes of a Uint8Array argument and the offset before it, if they fit into the memory. */
  bool Copy(const Napi::CallbackInfo& info, uint64_t* offset, void** data, size_t* length) {
    napi_typedarray_type type;
    if (napi_get_typedarray_info(info.Env(), info[1], &type, length, data, nullptr, nullptr) != napi_ok ||
        type != napi_uint8_array) {
      Napi::TypeError::New(info.Env(), "not a Uint8Array").ThrowAsJavaScriptException();
      return false;
    }
    double from = Double(info, 0);
    *offset = static_cast<uint64_t>(std::max(from, 0.0));
    return IsWithin(info, from, static_cast<double>(*length));
  }

  /** read(offset, target) */
  void Read(const Napi::CallbackInfo& info) {
    uint64_t offset;
    void* data;
    size_t length;
    if (Copy(info, &offset, &data, &length)) memory_->Read(offset, data, length);
  }

  /** write(offset, source) */
  void Write(const Napi::CallbackInfo& info) {
    uint64_t offset;
    void* data;
    size_t length;
    if (Copy(info, &offset, &data, &length)) memory_->Write(offset, data, length);
  }

  /** discard(offset, length) */
  void Discard(const Napi::CallbackInfo& info) {
    double offset = Double(info, 0), length = Double(info, 1);
    if (IsWithin(info, offset, length)) {
      memory_->Discard(static_cast<uint64_t>(offset), static_cast<uint64_t>(length));
    }
  }

  /** reserve(offset, length) */
  void Reserve(const Napi::CallbackInfo& info) {
    double offset = Double(info, 0), length = Double(info, 1);
    if (IsWithin(info, offset, length)) {
      memory_->Reserve(static_cast<uint64_t>(offset), static_cast<uint64_t>(length));
    }
  }

  /** grow(sizeBytes): 0 or an errno. */
  Napi::Value Grow(const Napi::CallbackInfo& info) {
    double size = Double(info, 0);
    bool is_growth = memory_ != nullptr && size >= static_cast<double>(memory_->size()) && size <= kLargest;
    return Napi::Number::New(info.Env(), is_growth ? memory_->Grow(static_cast<uint64_t>(size)) : EINVAL);
  }

  /** populate(): 0 or an errno. */
  Napi::Value Populate(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), memory_->Populate());
  }

  /** lock(): 0 or an errno. */
  Napi::Value Lock(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), memory_ != nullptr ? memory_->Lock() : EINVAL);
  }

  Napi::Value AllocatedBytes(const Napi::CallbackInfo& info) {
    double bytes = memory_ == nullptr ? 0 : static_cast<double>(memory_->allocated_bytes());
    return Napi::Number::New(info.Env(), bytes);
  }

  /** hasRoomFor(offset, length, limit): a limit beyond all sizes is none. */
  Napi::Value HasRoomFor(const Napi::CallbackInfo& info) {
    double offset = Double(info, 0), length = Double(info, 1), limit = Double(info, 2);
    if (!IsWithin(info, offset, length)) return info.Env().Undefined();
    uint64_t limit_bytes = limit > kLargest ? UINT64_MAX : static_cast<uint64_t>(limit);
    bool has_room = memory_->HasRoomFor(static_cast<uint64_t>(offset), static_cast<uint64_t>(length), limit_bytes);
    return Napi::Boolean::New(info.Env(), has_room);
  }

  /** isAllocated(offset) */
  Napi::Value IsAllocated(const Napi::CallbackInfo& info) {
    double offset = Double(info, 0);
    if (!IsWithin(info, offset, 1)) return info.Env().Undefined();
    return Napi::Boolean::New(info.Env(), memory_->IsAllocated(static_cast<uint64_t>(offset)));
  }

  /** extentEnd(offset, end) */
  Napi::Value ExtentEnd(const Napi::CallbackInfo& info) {
    double offset = Double(info, 0), end = Double(info, 1);
    if (!IsWithin(info, offset, end - offset) || end == offset) return info[1];
    uint64_t at = memory_->ExtentEnd(static_cast<uint64_t>(offset), static_cast<uint64_t>(end));
    return Napi::Number::New(info.Env(), static_cast<double>(at));
  }

  void Close(const Napi::CallbackInfo&) { memory_.reset(); }

  std::shared_ptr<SparseMemory> memory_;
};

}  // namespace

std::shared_ptr<SparseMemory> SparseMemoryOf(Napi::Value object) {
  bool is_one = false;
  if (!object.IsObject() || napi_check_object_type_tag(object.Env(), object, &kTypeTag, &is_one) != napi_ok || !is_one) {
    return nullptr;
  }
  return SparseMemoryObject::Unwrap(object.As<Napi::Object>())->memory();
}

void ExportSparseMemory(Napi::Env env, Napi::Object exports) {
  exports.Set("SparseMemory", SparseMemoryObject::Define(env));
}
