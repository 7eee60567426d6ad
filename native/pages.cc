/** Memory of JavaScript's that is kept, but not needed now. */
#include "pages.h"

#ifdef __linux__

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

/** giveBackPages(bytes, from, to): whole pages of that part go back to the system, and read as zeroes from now on. */
static Napi::Value GiveBackPages(const Napi::CallbackInfo& info) {
  auto bytes = info[0].As<Napi::Uint8Array>();
  auto page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  auto start = reinterpret_cast<uintptr_t>(bytes.Data());
  uintptr_t from = start + static_cast<uintptr_t>(info[1].ToNumber().Int64Value());
  uintptr_t to = start + static_cast<uintptr_t>(info[2].ToNumber().Int64Value());
  uintptr_t first = (from + page_bytes - 1) / page_bytes * page_bytes;
  uintptr_t end = to / page_bytes * page_bytes;
  // Fails where memory is locked, and then it is meant to stay.
  if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
  return info.Env().Undefined();
}

void ExportPages(Napi::Env env, Napi::Object exports) {
  exports.Set("giveBackPages", Napi::Function::New<GiveBackPages>(env, "giveBackPages"));
}

#else

void ExportPages(Napi::Env, Napi::Object) {}

#endif
