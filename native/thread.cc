/**
 * Tells the kernel that a process, or one thread of it, is part of a block device.
 *
 * A thread that runs short of memory helps to free some, by writing dirty pages to their disks. When such a disk is the
 * one this very thread serves, it waits for itself. A thread marked PR_SET_IO_FLUSHER gets its memory without starting
 * I/O, and is not throttled for the pages it dirties. The mark is one of the thread, which threads it starts inherit; the
 * threads Node has started before this addon is loaded have none. It survives execve, so a process that marks itself and
 * begins anew has it on all of its threads. See prctl(2); Linux 5.6; needs CAP_SYS_RESOURCE.
 */
#include "thread.h"

#ifdef __linux__

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <string>
#include <vector>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#define PR_GET_IO_FLUSHER 58
#endif

namespace {

Napi::Value Errno(const Napi::CallbackInfo& info, int result) {
  return Napi::Number::New(info.Env(), result == 0 ? 0 : errno);
}

/** markIoFlusher(): marks the calling thread; 0 or an errno. */
Napi::Value MarkIoFlusher(const Napi::CallbackInfo& info) {
  return Errno(info, prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0));
}

/** isIoFlusher(): whether the calling thread is marked. */
Napi::Value IsIoFlusher(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) == 1);
}

/**
 * leaveMountNamespace(): the process gets mounts of its own, which follow those of the machine; 0 or an errno. It then
 * cannot be the last to hold a file system on its own device, and wait for itself to write it back when it ends. Only of
 * use before `reexecute`: other threads stay where they are.
 */
Napi::Value LeaveMountNamespace(const Napi::CallbackInfo& info) {
  if (unshare(CLONE_NEWNS) != 0) return Errno(info, -1);
  return Errno(info, mount("none", "/", nullptr, MS_REC | MS_SLAVE, nullptr));
}

/** reexecute(path, argv, descriptors): the program anew, in this process, with these open; an errno when it cannot. */
Napi::Value Reexecute(const Napi::CallbackInfo& info) {
  std::string path = info[0].ToString();
  auto list = info[1].As<Napi::Array>();
  std::vector<std::string> words;
  for (uint32_t i = 0; i < list.Length(); i++) words.push_back(Napi::Value(list[i]).ToString());
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  // Node has marked even its standard streams to be closed here.
  auto descriptors = info[2].As<Napi::Int32Array>();
  for (size_t i = 0; i < descriptors.ElementLength(); i++) fcntl(descriptors[i], F_SETFD, 0);
  execv(path.c_str(), argv.data());
  return Errno(info, -1);
}

}  // namespace

void ExportThread(Napi::Env env, Napi::Object exports) {
  exports.Set("markIoFlusher", Napi::Function::New<MarkIoFlusher>(env, "markIoFlusher"));
  exports.Set("isIoFlusher", Napi::Function::New<IsIoFlusher>(env, "isIoFlusher"));
  exports.Set("leaveMountNamespace", Napi::Function::New<LeaveMountNamespace>(env, "leaveMountNamespace"));
  exports.Set("reexecute", Napi::Function::New<Reexecute>(env, "reexecute"));
}

#else

void ExportThread(Napi::Env, Napi::Object) {}

#endif
