/**
 * What node:fs cannot do with a file descriptor: lock it, punch holes, zero ranges, find holes.
 *
 * Each function returns an errno (0 for success); what it means is decided in TypeScript. Functions the system lacks
 * are not exported.
 */
#include "file.h"

#include <errno.h>
#include <sys/file.h>
#include <unistd.h>

#ifdef __linux__
#include <fcntl.h>
#include <linux/falloc.h>
#endif

namespace {

double Double(const Napi::CallbackInfo& info, size_t index) {
  double value = -1;
  napi_get_value_double(info.Env(), info[index], &value);
  return value;
}

/** lockFile(fd, isExclusive): an advisory lock of the open file, given up when it is closed or the process ends. */
Napi::Value LockFile(const Napi::CallbackInfo& info) {
  bool is_exclusive = info[1].ToBoolean();
  int result = flock(static_cast<int>(Double(info, 0)), (is_exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB);
  return Napi::Number::New(info.Env(), result == 0 ? 0 : errno);
}

#if defined(SEEK_HOLE) && defined(SEEK_DATA)

/** seekFile(fd, offset, forData): the next data or hole at or after `offset`; a negative errno if there is none. */
Napi::Value SeekFile(const Napi::CallbackInfo& info) {
  bool for_data = info[2].ToBoolean();
  off_t at = lseek(static_cast<int>(Double(info, 0)), static_cast<off_t>(Double(info, 1)),
                   for_data ? SEEK_DATA : SEEK_HOLE);
  return Napi::Number::New(info.Env(), at >= 0 ? static_cast<double>(at) : -errno);
}

#endif

#ifdef __linux__

Napi::Value Allocate(const Napi::CallbackInfo& info, int mode) {
  int result;
  do {
    result = fallocate(static_cast<int>(Double(info, 0)), mode | FALLOC_FL_KEEP_SIZE,
                       static_cast<off_t>(Double(info, 1)), static_cast<off_t>(Double(info, 2)));
  } while (result != 0 && errno == EINTR);
  return Napi::Number::New(info.Env(), result == 0 ? 0 : errno);
}

/** punchHole(fd, offset, length): the range reads as zero and its blocks are freed. */
Napi::Value PunchHole(const Napi::CallbackInfo& info) { return Allocate(info, FALLOC_FL_PUNCH_HOLE); }

/** zeroRange(fd, offset, length): the range reads as zero and its blocks stay reserved. */
Napi::Value ZeroRange(const Napi::CallbackInfo& info) { return Allocate(info, FALLOC_FL_ZERO_RANGE); }

#endif

}  // namespace

void ExportFile(Napi::Env env, Napi::Object exports) {
  exports.Set("lockFile", Napi::Function::New<LockFile>(env, "lockFile"));
#if defined(SEEK_HOLE) && defined(SEEK_DATA)
  exports.Set("seekFile", Napi::Function::New<SeekFile>(env, "seekFile"));
#endif
#ifdef __linux__
  exports.Set("punchHole", Napi::Function::New<PunchHole>(env, "punchHole"));
  exports.Set("zeroRange", Napi::Function::New<ZeroRange>(env, "zeroRange"));
#endif
}
