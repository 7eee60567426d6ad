/**
 * What attaching a device to the kernel needs and Node does not have: a netlink socket, and pairs of connected sockets
 * whose descriptors can be handed to the kernel.
 *
 * Bytes only. What stands in the messages is decided in src/nbd/kernel.
 */
#include "netlink.h"

#ifdef __linux__

#include <errno.h>
#include <linux/netlink.h>
#include <node_api.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <cstdint>
#include <string>
#include <vector>

namespace {

/** The longest answer is the list of all nbd devices, 20 bytes each. The kernel sends no datagram over 32 KiB unasked. */
constexpr size_t kDatagramBytes = 64 * 1024;

/** Returns 0 or an errno: the kernel takes the whole datagram or none of it. */
int SendToKernel(int fd, const void* data, size_t length) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  ssize_t sent;
  do {
    sent = sendto(fd, data, length, 0, reinterpret_cast<sockaddr*>(&kernel), sizeof kernel);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? errno : 0;
}

/** The bytes of a Uint8Array argument; false (and a pending exception) when it is none. */
bool Bytes(const Napi::CallbackInfo& info, size_t index, uint8_t** data, size_t* length) {
  napi_typedarray_type type;
  void* bytes = nullptr;
  if (napi_get_typedarray_info(info.Env(), info[index], &type, length, &bytes, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array) {
    Napi::TypeError::New(info.Env(), "not a Uint8Array").ThrowAsJavaScriptException();
    return false;
  }
  *data = static_cast<uint8_t*>(bytes);
  return true;
}

/**
 * A netlink message sent on a thread of libuv's pool. The kernel carries out a command while it is being sent, and may
 * wait for the device meanwhile; the event loop must not wait with it.
 */
class BackgroundSend : public Napi::AsyncWorker {
 public:
  /** `fd` is closed at the end; it is a duplicate, so the socket may be closed in between. */
  BackgroundSend(const Napi::Function& done, int fd, const uint8_t* data, size_t length)
      : Napi::AsyncWorker(done, "blkforge:NetlinkSend"), fd_(fd), message_(data, data + length) {}
  ~BackgroundSend() override { close(fd_); }

 protected:
  void Execute() override { error_ = SendToKernel(fd_, message_.data(), message_.size()); }
  std::vector<napi_value> GetResult(Napi::Env env) override { return {Napi::Number::New(env, error_)}; }

 private:
  const int fd_;
  const std::vector<uint8_t> message_;
  int error_ = 0;
};

class NetlinkSocket : public Napi::ObjectWrap<NetlinkSocket> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "NetlinkSocket",
                       {
                           InstanceMethod<&NetlinkSocket::JoinGroup>("joinGroup"),
                           InstanceMethod<&NetlinkSocket::Send>("send"),
                           InstanceMethod<&NetlinkSocket::SendInBackground>("sendInBackground"),
                           InstanceMethod<&NetlinkSocket::Close>("close"),
                       });
  }

  /** new NetlinkSocket(onDatagram): generic netlink; keeps the process alive until it is closed. */
  explicit NetlinkSocket(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<NetlinkSocket>(info), context_(info.Env(), "blkforge:NetlinkSocket") {
    Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsFunction()) {
      Napi::TypeError::New(env, "NetlinkSocket needs a function").ThrowAsJavaScriptException();
      return;
    }
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_GENERIC);
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    uv_loop_t* loop = nullptr;
    if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        napi_get_uv_event_loop(env, &loop) != napi_ok) {
      std::string reason = uv_strerror(-errno);
      if (fd >= 0) close(fd);
      Napi::Error::New(env, reason).ThrowAsJavaScriptException();
      return;
    }
    watch_ = new Watch{};
    watch_->fd = fd;
    watch_->socket = this;
    uv_poll_init(loop, &watch_->poll, fd);
    watch_->poll.data = watch_;
    uv_poll_start(&watch_->poll, UV_READABLE, OnReadable);
    on_datagram_ = Napi::Persistent(info[0].As<Napi::Function>());
    napi_add_async_cleanup_hook(env, OnEnvironmentEnd, this, &cleanup_hook_);
    // Alive until closed, whoever holds it: the event loop calls into it.
    Ref();
  }

 private:
  /** What libuv holds on to until its close callback has run, which may be after the NetlinkSocket is gone. */
  struct Watch {
    uv_poll_t poll;
    int fd;
    NetlinkSocket* socket;
    napi_async_cleanup_hook_handle cleanup_hook;
  };

  /** joinGroup(group): 0 or an errno. */
  Napi::Value JoinGroup(const Napi::CallbackInfo& info) {
    int group = info[0].ToNumber().Int32Value();
    int result = watch_ == nullptr
                     ? EBADF
                     : setsockopt(watch_->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group);
    return Napi::Number::New(info.Env(), result < 0 ? errno : result);
  }

  /** send(message): 0 or an errno, when the kernel has carried it out. */
  Napi::Value Send(const Napi::CallbackInfo& info) {
    uint8_t* data;
    size_t length;
    if (!Bytes(info, 0, &data, &length)) return info.Env().Undefined();
    int error = watch_ == nullptr ? EBADF : SendToKernel(watch_->fd, data, length);
    return Napi::Number::New(info.Env(), error);
  }

  /** sendInBackground(message, done): `done` gets 0 or an errno. */
  void SendInBackground(const Napi::CallbackInfo& info) {
    uint8_t* data;
    size_t length;
    if (!Bytes(info, 0, &data, &length)) return;
    int fd = watch_ == nullptr ? -1 : dup(watch_->fd);
    (new BackgroundSend(info[1].As<Napi::Function>(), fd, data, length))->Queue();
  }

  void Close(const Napi::CallbackInfo&) { Shut(); }

  static void OnReadable(uv_poll_t* poll, int, int) {
    auto* watch = static_cast<Watch*>(poll->data);
    NetlinkSocket* self = watch->socket;
    // The callback may close the socket.
    while (self->watch_ == watch) {
      sockaddr_nl sender{};
      socklen_t sender_length = sizeof sender;
      ssize_t length = recvfrom(watch->fd, self->datagram_.data(), self->datagram_.size(), 0,
                                reinterpret_cast<sockaddr*>(&sender), &sender_length);
      // ENOBUFS tells that multicasts were lost. Nobody relies on having them all.
      if (length < 0 && (errno == EINTR || errno == ENOBUFS)) continue;
      if (length < 0) return;
      // Any process may send to any netlink socket; only the kernel is believed.
      if (sender.nl_pid != 0) continue;
      self->CallOnDatagram(static_cast<size_t>(length));
    }
  }

  /** By Node-API itself: napi.h would end the process when the callback fails because its worker is being terminated. */
  void CallOnDatagram(size_t length) {
    napi_env env = Env();
    Napi::HandleScope scope(env);
    napi_value global;
    napi_get_global(env, &global);
    napi_value bytes;
    if (napi_create_buffer_copy(env, length, datagram_.data(), nullptr, &bytes) != napi_ok) return;
    // Runs microtasks afterwards, as the event loop does after each of its own callbacks.
    napi_status status = napi_make_callback(env, context_, global, on_datagram_.Value(), 1, &bytes, nullptr);
    if (status != napi_pending_exception) return;
    // No JavaScript is below to catch what was thrown.
    napi_value exception;
    if (napi_get_and_clear_last_exception(env, &exception) == napi_ok) napi_fatal_exception(env, exception);
  }

  static void OnEnvironmentEnd(napi_async_cleanup_hook_handle, void* data) {
    static_cast<NetlinkSocket*>(data)->Shut();
  }

  void Shut() {
    if (watch_ == nullptr) return;
    Watch* watch = watch_;
    watch_ = nullptr;
    watch->cleanup_hook = cleanup_hook_;
    on_datagram_.Reset();
    uv_close(reinterpret_cast<uv_handle_t*>(&watch->poll), [](uv_handle_t* handle) {
      auto* closed = static_cast<Watch*>(handle->data);
      close(closed->fd);
      // Only now may the environment's end go on: its loop holds the handle no longer.
      napi_remove_async_cleanup_hook(closed->cleanup_hook);
      delete closed;
    });
    Unref();
  }

  Napi::AsyncContext context_;
  Napi::FunctionReference on_datagram_;
  napi_async_cleanup_hook_handle cleanup_hook_ = nullptr;
  Watch* watch_ = nullptr;
  std::vector<uint8_t> datagram_ = std::vector<uint8_t>(kDatagramBytes);
};

/** socketPair(ends): fills an Int32Array of two with connected Unix stream sockets; 0 or an errno. */
Napi::Value SocketPair(const Napi::CallbackInfo& info) {
  napi_typedarray_type type;
  size_t length = 0;
  void* ends = nullptr;
  if (napi_get_typedarray_info(info.Env(), info[0], &type, &length, &ends, nullptr, nullptr) != napi_ok ||
      type != napi_int32_array || length < 2) {
    Napi::TypeError::New(info.Env(), "not an Int32Array of two").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  int result = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, static_cast<int*>(ends));
  return Napi::Number::New(info.Env(), result == 0 ? 0 : errno);
}

}  // namespace

void ExportNetlink(Napi::Env env, Napi::Object exports) {
  exports.Set("NetlinkSocket", NetlinkSocket::Define(env));
  exports.Set("socketPair", Napi::Function::New<SocketPair>(env, "socketPair"));
}

#else

void ExportNetlink(Napi::Env, Napi::Object) {}

#endif
