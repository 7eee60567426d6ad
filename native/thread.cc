/**
 * Tells the kernel that the calling thread is part of a block device.
 *
 * A thread that runs short of memory helps to free some, by writing dirty pages to their disks. When such a disk is the
 * one this very thread serves, it waits for itself. A thread marked PR_SET_IO_FLUSHER gets its memory without starting
 * I/O, and is not throttled for the pages it dirties. See prctl(2); Linux 5.6; needs CAP_SYS_RESOURCE.
 */
#include "thread.h"

#ifdef __linux__

#include <errno.h>
#include <sys/prctl.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/** markIoFlusher(): 0 or an errno. */
static Napi::Value MarkIoFlusher(const Napi::CallbackInfo& info) {
  int result = prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
  return Napi::Number::New(info.Env(), result == 0 ? 0 : errno);
}

void ExportThread(Napi::Env env, Napi::Object exports) {
  exports.Set("markIoFlusher", Napi::Function::New<MarkIoFlusher>(env, "markIoFlusher"));
}

#else

void ExportThread(Napi::Env, Napi::Object) {}

#endif
