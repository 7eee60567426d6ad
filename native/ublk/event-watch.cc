/** EventWatch: see the header. */
#ifdef __linux__

#include "event-watch.h"

#include <node_api.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace ublk {

EventWatch* EventWatch::Start(napi_env env, bool keeps_alive, std::function<void()> on_event,
                              std::function<void()> on_end) {
  uv_loop_t* loop = nullptr;
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0 || napi_get_uv_event_loop(env, &loop) != napi_ok) {
    if (fd >= 0) close(fd);
    return nullptr;
  }
  auto* watch = new EventWatch();
  watch->fd_ = fd;
  watch->on_event_ = std::move(on_event);
  watch->on_end_ = std::move(on_end);
  uv_poll_init(loop, &watch->poll_, fd);
  watch->poll_.data = watch;
  uv_poll_start(&watch->poll_, UV_READABLE, OnReadable);
  if (!keeps_alive) uv_unref(reinterpret_cast<uv_handle_t*>(&watch->poll_));
  napi_add_async_cleanup_hook(env, OnEnvironmentEnd, watch, &watch->cleanup_hook_);
  return watch;
}

void EventWatch::Close() {
  if (is_closed_) return;
  is_closed_ = true;
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_), [](uv_handle_t* handle) {
    auto* closed = static_cast<EventWatch*>(handle->data);
    close(closed->fd_);
    // Only now may the environment's end go on: its loop holds the handle no longer.
    napi_remove_async_cleanup_hook(closed->cleanup_hook_);
    delete closed;
  });
}

void EventWatch::OnReadable(uv_poll_t* poll, int, int) {
  auto* watch = static_cast<EventWatch*>(poll->data);
  uint64_t events;
  if (read(watch->fd_, &events, sizeof events) == sizeof events && !watch->is_closed_) watch->on_event_();
}

void EventWatch::OnEnvironmentEnd(napi_async_cleanup_hook_handle, void* data) {
  auto* watch = static_cast<EventWatch*>(data);
  if (watch->is_closed_) return;
  watch->on_end_();
  watch->Close();
}

void CallFromLoop(napi_env env, Napi::AsyncContext& context, const Napi::FunctionReference& function, size_t count,
                  const napi_value* arguments) {
  napi_value global;
  napi_get_global(env, &global);
  // By Node-API itself: napi.h would end the process when the callback fails because its worker is being terminated.
  // Runs microtasks afterwards, as the event loop does after each of its own callbacks.
  napi_status status = napi_make_callback(env, context, global, function.Value(), count, arguments, nullptr);
  if (status != napi_pending_exception) return;
  // No JavaScript is below to catch what was thrown; dropped here, a bug would pass for a hanging device.
  napi_value exception;
  if (napi_get_and_clear_last_exception(env, &exception) == napi_ok) napi_fatal_exception(env, exception);
}

}  // namespace ublk

#endif
