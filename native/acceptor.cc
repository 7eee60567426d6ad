/**
 * Listening where Node cannot: abstract Unix sockets, whose names Node 20 fills up with NULs, and vsock, which libuv does not
 * know. The sockets are bound here. An abstract one is then listened on by `net` like any inherited one; clients on vsock
 * are accepted by an Acceptor, on the event loop of the thread that created it.
 */
#include "acceptor.h"

#ifdef __linux__

#include <errno.h>
#include <node_api.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include <linux/vm_sockets.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>

namespace {

/** Clients that may wait to be accepted; Node's own listeners ask for as many. */
constexpr int kBacklog = 511;
/** One turn of the event loop; then others have theirs. */
constexpr int kAcceptsAtOnce = 32;

/** The descriptor, or the negative errno. */
int Bound(int family, const void* address, size_t length) {
  int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (bind(fd, static_cast<const sockaddr*>(address), static_cast<socklen_t>(length)) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

/** bindAbstract(name): a Unix socket of that name, at most 107 bytes, without the NUL before it; negative errno. */
Napi::Value BindAbstract(const Napi::CallbackInfo& info) {
  auto name = info[0].As<Napi::Uint8Array>();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path + 1, name.Data(), std::min(name.ByteLength(), sizeof address.sun_path - 1));
  size_t length = offsetof(sockaddr_un, sun_path) + 1 + name.ByteLength();
  return Napi::Number::New(info.Env(), Bound(AF_UNIX, &address, length));
}

/** bindVsock(cid, port): a CID of 0xffffffff for any; negative errno. */
Napi::Value BindVsock(const Napi::CallbackInfo& info) {
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = info[0].ToNumber().Uint32Value();
  address.svm_port = info[1].ToNumber().Uint32Value();
  return Napi::Number::New(info.Env(), Bound(AF_VSOCK, &address, sizeof address));
}

class Acceptor : public Napi::ObjectWrap<Acceptor> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Acceptor", {InstanceMethod<&Acceptor::Close>("close")});
  }

  /** new Acceptor(fd, onClient): listens on the bound socket, which it takes over; onClient(fd) or onClient(negative errno). */
  explicit Acceptor(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<Acceptor>(info), context_(info.Env(), "blkforge:Acceptor") {
    Napi::Env env = info.Env();
    uv_loop_t* loop = nullptr;
    int fd = info[0].ToNumber().Int32Value();
    int error = listen(fd, kBacklog) == 0 ? 0 : errno;
    auto watch = std::make_unique<Watch>();
    if (error == 0 && napi_get_uv_event_loop(env, &loop) != napi_ok) error = ENOTSUP;
    if (error == 0) error = -uv_poll_init(loop, &watch->poll, fd);
    if (error != 0) {
      close(fd);
      Napi::Error::New(env, strerror(error)).ThrowAsJavaScriptException();
      return;
    }
    on_client_ = Napi::Persistent(info[1].As<Napi::Function>());
    watch_ = watch.release();
    watch_->fd = fd;
    watch_->acceptor = this;
    watch_->poll.data = watch_;
    napi_add_async_cleanup_hook(env, OnEnvironmentEnd, this, &watch_->cleanup_hook);
    // Alive until closed, whoever holds it: the event loop calls into it.
    Ref();
    uv_poll_start(&watch_->poll, UV_READABLE, OnPoll);
  }

 private:
  /** What libuv holds on to until its close callback has run. */
  struct Watch {
    uv_poll_t poll;
    int fd = -1;
    Acceptor* acceptor = nullptr;
    napi_async_cleanup_hook_handle cleanup_hook = nullptr;
  };

  void Close(const Napi::CallbackInfo&) { Shut(); }

  static void OnPoll(uv_poll_t* poll, int status, int) {
    Acceptor* acceptor = static_cast<Watch*>(poll->data)->acceptor;
    if (status < 0) {
      acceptor->Tell(status);
      return;
    }
    for (int i = 0; i < kAcceptsAtOnce && acceptor->watch_ != nullptr; i++) {
      int fd = accept4(acceptor->watch_->fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
      if (fd < 0 && errno == EAGAIN) return;
      acceptor->Tell(fd < 0 ? -errno : fd);
      if (fd < 0) return;
    }
  }

  void Tell(int fd) {
    napi_env env = Env();
    Napi::HandleScope scope(env);
    napi_value global, argument;
    napi_get_global(env, &global);
    napi_create_int32(env, fd, &argument);
    napi_status status = napi_make_callback(env, context_, global, on_client_.Value(), 1, &argument, nullptr);
    if (status != napi_pending_exception) return;
    napi_value exception;
    if (napi_get_and_clear_last_exception(env, &exception) == napi_ok) napi_fatal_exception(env, exception);
  }

  static void OnEnvironmentEnd(napi_async_cleanup_hook_handle, void* data) { static_cast<Acceptor*>(data)->Shut(); }

  void Shut() {
    if (watch_ == nullptr) return;
    Watch* watch = watch_;
    watch_ = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&watch->poll), [](uv_handle_t* handle) {
      auto* closed = static_cast<Watch*>(handle->data);
      close(closed->fd);
      closed->acceptor->on_client_.Reset();
      closed->acceptor->Unref();
      napi_remove_async_cleanup_hook(closed->cleanup_hook);
      delete closed;
    });
  }

  Napi::AsyncContext context_;
  Napi::FunctionReference on_client_;
  Watch* watch_ = nullptr;
};

}  // namespace

void ExportAcceptor(Napi::Env env, Napi::Object exports) {
  exports.Set("bindAbstract", Napi::Function::New<BindAbstract>(env, "bindAbstract"));
  exports.Set("bindVsock", Napi::Function::New<BindVsock>(env, "bindVsock"));
  exports.Set("Acceptor", Acceptor::Define(env));
}

#else

void ExportAcceptor(Napi::Env, Napi::Object) {}

#endif
