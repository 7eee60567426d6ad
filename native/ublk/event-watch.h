#pragma once
#ifdef __linux__

#include <napi.h>
#include <uv.h>

#include <functional>

namespace ublk {

/**
 * An eventfd watched by the event loop of one JavaScript environment: whoever writes to it, from any thread, has a
 * JavaScript function called there. Several writes before the loop turns are one call.
 */
class EventWatch {
 public:
  /**
   * Starts to watch; an errno when it cannot. `on_event` runs on the loop; `on_end` once, when the environment ends
   * before `Close` was called. A watch keeps the process alive only if asked to.
   */
  static EventWatch* Start(napi_env env, bool keeps_alive, std::function<void()> on_event,
                           std::function<void()> on_end);

  /** To write to. */
  int fd() const { return fd_; }
  /** Stops; the watch deletes itself when the loop has let go of it, and must not be used any more. */
  void Close();

 private:
  EventWatch() = default;
  static void OnReadable(uv_poll_t* poll, int status, int events);
  static void OnEnvironmentEnd(napi_async_cleanup_hook_handle, void* data);

  uv_poll_t poll_;
  int fd_ = -1;
  bool is_closed_ = false;
  std::function<void()> on_event_;
  std::function<void()> on_end_;
  napi_async_cleanup_hook_handle cleanup_hook_ = nullptr;
};

/** Calls a JavaScript function from the event loop; what it throws is an uncaught exception there, as it should be. */
void CallFromLoop(napi_env env, Napi::AsyncContext& context, const Napi::FunctionReference& function, size_t count,
                  const napi_value* arguments);

}  // namespace ublk

#endif
