/**
 * SocketMover: moves the bytes of one connected stream socket, on the event loop of the thread that created it.
 *
 * Node's own sockets bring each 64 KiB in a buffer of its own and through a callback of its own, and have every reply copied
 * before it is written. Here JavaScript sees headers only: what is short arrives in one static buffer, a long payload
 * goes where it was told to go, with as many system calls as it takes and one callback at its end, and replies are gathered from
 * JavaScript's buffers and from a device's memory, many of them in one sendmsg.
 *
 * Mechanism only. What the bytes mean, how many replies may wait and when to stop reading is decided in src/nbd.
 */
#include "socket-mover.h"

#ifdef __linux__

#include <errno.h>
#include <fcntl.h>
#include <node_api.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "sparse-memory.h"

namespace {

/** Bits of what JavaScript is told. */
enum Event : unsigned {
  kInput = 1,
  /** The payload asked for by fill() is there. */
  kFilled = 2,
  kSent = 4,
  /** The peer will send nothing more. */
  kEnd = 8,
  /** The socket is broken; the cell `kError` has the errno. */
  kFailed = 16,
  /** Our side is closed, as end() asked for. */
  kShut = 32,
};

/** Cells of the state shared with JavaScript. */
enum Cell : size_t {
  /** Bytes in the input buffer, the kept ones included. */
  kInputBytes,
  /** Bytes at the front of the input buffer that stay: JavaScript writes this one. */
  kKeptBytes,
  kReceivedBytes,
  kSentBytes,
  kError,
};

/** Pieces of one sendmsg: some hundred replies; beyond, the call's own cost no longer shows. */
constexpr size_t kGatherPieces = 256;
/** One socket's turn, in each direction; then the other sockets of the loop have theirs. */
constexpr int kReceiveRounds = 8;
constexpr size_t kSendBytes = 4 << 20;
/**
 * What is read into the input buffer after a long payload: the next header or a few. The payload behind that header is likely to be
 * long too, and had better be left for its own destination.
 */
constexpr size_t kAfterLongBytes = 512;

/** Payload lands in the device's memory block by block, so that a client that vanishes never leaves half of one behind. */
constexpr uint64_t kLandingBlockBytes = 4096;

/**
 * What a Unix socket may hold of our replies. The default (208 KiB) is less than one reply of 256 KiB, and a full socket is
 * writable again only when three quarters of it have been read: client and server would wait for each other in turn. QEMU sets as
 * much (io/channel-socket.c). Without privileges the system's limit (net.core.wmem_max) holds, twice the default.
 */
constexpr int kUnixSendBytes = 2 << 20;

/** What holes read as. Never written, so all of it is the kernel's one page of zeroes. */
uint8_t zeroes[256 * 1024];

/** TCP sockets find a size for themselves, unless they are told one. */
void WidenUnixSocket(int fd) {
  int family = 0;
  socklen_t length = sizeof family;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length) != 0 || family != AF_UNIX) return;
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kUnixSendBytes, sizeof kUnixSendBytes) == 0) return;
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kUnixSendBytes, sizeof kUnixSendBytes);
}

double Double(const Napi::CallbackInfo& info, size_t index) {
  double value = 0;
  napi_get_value_double(info.Env(), info[index], &value);
  return value;
}

/** The memory of a typed array, which stays where it is as long as the array is referenced. */
template <typename T>
T* Data(const Napi::Env& env, napi_value array, size_t* length) {
  void* data = nullptr;
  napi_get_typedarray_info(env, array, nullptr, length, &data, nullptr, nullptr);
  return static_cast<T*>(data);
}

class SocketMover : public Napi::ObjectWrap<SocketMover> {
 public:
  static Napi::Function Define(Napi::Env env) {
    using Self = SocketMover;
    return DefineClass(env, "SocketMover",
                       {
                           InstanceMethod<&Self::SetReading>("setReading"),
                           InstanceMethod<&Self::Fill>("fill"),
                           InstanceMethod<&Self::Land>("land"),
                           InstanceMethod<&Self::Send>("send"),
                           InstanceMethod<&Self::End>("end"),
                           InstanceMethod<&Self::Close>("close"),
                           InstanceAccessor<&Self::Descriptor>("descriptor"),
                       });
  }

  /** new SocketMover(fd, memory or null, input, state, inserts, onEvents): reads from now on, from a duplicate of `fd`. */
  explicit SocketMover(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<SocketMover>(info), context_(info.Env(), "blkforge:SocketMover") {
    Napi::Env env = info.Env();
    uv_loop_t* loop = nullptr;
    int fd = fcntl(static_cast<int>(Double(info, 0)), F_DUPFD_CLOEXEC, 0);
    int error = fd < 0 ? errno : 0;
    auto watch = std::make_unique<Watch>();
    if (error == 0 && napi_get_uv_event_loop(env, &loop) != napi_ok) error = ENOTSUP;
    if (error == 0) error = -uv_poll_init(loop, &watch->poll, fd);
    if (error != 0) {
      if (fd >= 0) close(fd);
      Napi::Error::New(env, strerror(error)).ThrowAsJavaScriptException();
      return;
    }
    WidenUnixSocket(fd);
    if (info[1].IsObject()) memory_ = SparseMemoryOf(info[1]);
    input_ = Data<uint8_t>(env, info[2], &input_capacity_);
    size_t length = 0;
    state_ = Data<double>(env, info[3], &length);
    inserts_ = Data<double>(env, info[4], &length);
    for (size_t i = 2; i < 5; i++) held_[i - 2] = Napi::Persistent(info[i].As<Napi::Object>());
    on_events_ = Napi::Persistent(info[5].As<Napi::Function>());
    watch_ = watch.release();
    watch_->fd = fd;
    watch_->mover = this;
    watch_->poll.data = watch_;
    napi_add_async_cleanup_hook(env, OnEnvironmentEnd, this, &watch_->cleanup_hook);
    // Alive until closed, whoever holds it: the event loop calls into it.
    Ref();
    UpdateWatch();
  }

 private:
  /** What libuv holds on to until its close callback has run. */
  struct Watch {
    uv_poll_t poll;
    int fd = -1;
    SocketMover* mover = nullptr;
    napi_async_cleanup_hook_handle cleanup_hook = nullptr;
  };

  /** Bytes to send: in a buffer of JavaScript's, which keeps it until they are sent, or in the device's memory. */
  struct Piece {
    /** Null for a piece of the device's memory, which may move meanwhile. */
    const uint8_t* bytes;
    uint64_t offset;
    uint64_t length;
  };

  Napi::Value Descriptor(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), watch_ == nullptr ? -1 : watch_->fd);
  }

  /** setReading(isReading) */
  void SetReading(const Napi::CallbackInfo& info) {
    is_reading_ = info[0].As<Napi::Boolean>().Value() && !has_ended_;
    UpdateWatch();
  }

  /** fill(bytes, from, to): what comes next goes there. JavaScript keeps `bytes` until then, or until it closes. */
  void Fill(const Napi::CallbackInfo& info) {
    size_t length;
    auto* bytes = Data<uint8_t>(info.Env(), info[0], &length);
    fill_at_ = bytes + static_cast<size_t>(Double(info, 1));
    fill_left_ = static_cast<size_t>(Double(info, 2) - Double(info, 1));
    is_landing_ = false;
    was_long_ = true;
  }

  /**
   * land(bytes, from, to, offset, length): a payload of `length` bytes goes into the device's memory at `offset`. It begins with
   * those bytes; the rest comes next.
   */
  void Land(const Napi::CallbackInfo& info) {
    size_t ignored;
    const auto* bytes = Data<uint8_t>(info.Env(), info[0], &ignored);
    auto from = static_cast<size_t>(Double(info, 1));
    auto length = static_cast<size_t>(Double(info, 2)) - from;
    landing_at_ = static_cast<uint64_t>(Double(info, 3));
    landing_end_ = landing_at_ + static_cast<uint64_t>(Double(info, 4));
    uint64_t whole = WholeBlocks(length);
    memory_->Write(landing_at_, bytes + from, whole - landing_at_);
    torn_bytes_ = length - (whole - landing_at_);
    landing_at_ = whole;
    memcpy(torn_, bytes + from + length - torn_bytes_, torn_bytes_);
    is_landing_ = true;
    was_long_ = true;
    fill_left_ = landing_end_ - landing_at_ - torn_bytes_;
  }

  /**
   * send(bytes, from, to, insertCount): those bytes, with pieces of the device's memory between them, each a triple in
   * `inserts`: before which byte, offset, length. True when all is sent; else JavaScript keeps `bytes` until it is.
   */
  Napi::Value Send(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (watch_ == nullptr) return Napi::Boolean::New(env, false);
    size_t length;
    const auto* bytes = Data<uint8_t>(env, info[0], &length);
    auto from = static_cast<uint64_t>(Double(info, 1));
    auto to = static_cast<uint64_t>(Double(info, 2));
    auto count = static_cast<size_t>(Double(info, 3));
    bool was_empty = IsQueueEmpty();
    for (size_t i = 0; i < count; i++) {
      auto at = static_cast<uint64_t>(inserts_[3 * i]);
      Enqueue({bytes + from, 0, at - from});
      Enqueue({nullptr, static_cast<uint64_t>(inserts_[3 * i + 1]), static_cast<uint64_t>(inserts_[3 * i + 2])});
      from = at;
    }
    Enqueue({bytes + from, 0, to - from});
    // What waits is sent when the socket says so, or fails there: a call of JavaScript's is no place to call it back.
    if (was_empty) Flush();
    UpdateWatch();
    return Napi::Boolean::New(env, IsQueueEmpty());
  }

  /** end(): closes our side when all is sent. True when it is. */
  Napi::Value End(const Napi::CallbackInfo& info) {
    is_ending_ = true;
    bool is_done = IsQueueEmpty();
    if (watch_ != nullptr && is_done) shutdown(watch_->fd, SHUT_WR);
    return Napi::Boolean::New(info.Env(), is_done);
  }

  void Close(const Napi::CallbackInfo&) { Shut(); }

  static void OnPoll(uv_poll_t* poll, int status, int events) {
    auto* watch = static_cast<Watch*>(poll->data);
    SocketMover* mover = watch->mover;
    if (status < 0) {
      mover->Fail(-status);
      return;
    }
    unsigned happened = 0;
    if ((events & UV_WRITABLE) != 0 && !mover->IsQueueEmpty()) {
      int error = mover->Flush();
      if (error != 0) {
        mover->Fail(error);
        return;
      }
      happened = kSent;
      if (mover->is_ending_ && mover->IsQueueEmpty()) {
        shutdown(watch->fd, SHUT_WR);
        happened |= kShut;
      }
    }
    if ((events & UV_READABLE) != 0) {
      mover->Receive(happened);
    } else if (happened != 0) {
      mover->Tell(happened);
    }
    if (mover->watch_ != nullptr) mover->UpdateWatch();
  }

  void Receive(unsigned happened) {
    for (int round = 0; round < kReceiveRounds && is_reading_; round++) {
      iovec where[3];
      int count = PlanFill(where);
      size_t wanted = 0;
      for (int i = 0; i < count; i++) wanted += where[i].iov_len;
      auto kept = static_cast<size_t>(state_[kKeptBytes]);
      if (wanted == fill_left_) {
        size_t room = input_capacity_ - kept;
        if (was_long_) room = std::min(room, kAfterLongBytes);
        where[count++] = {input_ + kept, room};
        wanted += room;
      }
      ssize_t got = readv(watch_->fd, where, count);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) break;
      if (got < 0) {
        Fail(errno);
        return;
      }
      if (got == 0) {
        has_ended_ = true;
        is_reading_ = false;
        happened |= kEnd;
        break;
      }
      auto length = static_cast<size_t>(got);
      state_[kReceivedBytes] += static_cast<double>(length);
      if (fill_left_ > 0) {
        size_t taken = std::min(length, fill_left_);
        fill_left_ -= taken;
        if (is_landing_) {
          TakeLanded(taken);
        } else {
          fill_at_ += taken;
        }
        length -= taken;
        if (fill_left_ > 0) continue;
        happened |= kFilled;
      }
      state_[kInputBytes] = static_cast<double>(kept + length);
      state_[kKeptBytes] = 0;
      if (length > 0) was_long_ = false;
      Tell(happened | kInput);
      happened = 0;
      if (watch_ == nullptr) return;
      // Not filled to the brim: the socket is empty, or the loop will say that it no longer is.
      if (static_cast<size_t>(got) < wanted && fill_left_ == 0) break;
    }
    if (happened != 0) Tell(happened);
  }

  /** Where the rest of the payload goes, as far as that can be said now. */
  int PlanFill(iovec* where) {
    if (fill_left_ == 0) return 0;
    if (!is_landing_) {
      where[0] = {fill_at_, fill_left_};
      return 1;
    }
    if (torn_bytes_ > 0) {
      where[0] = {torn_ + torn_bytes_, static_cast<size_t>(BlockEnd(landing_at_) - landing_at_ - torn_bytes_)};
      return 1;
    }
    int available = 0;
    ioctl(watch_->fd, FIONREAD, &available);
    uint64_t whole = WholeBlocks(static_cast<uint64_t>(std::max(available, 0)));
    int count = 0;
    if (whole > landing_at_) {
      // Counted as held with each batch anew: the range may have been trimmed meanwhile.
      where[count++] = {memory_->Hold(landing_at_, whole - landing_at_), static_cast<size_t>(whole - landing_at_)};
    }
    if (whole < landing_end_) where[count++] = {torn_, static_cast<size_t>(BlockEnd(whole) - whole)};
    landing_whole_ = whole;
    return count;
  }

  /** Accounts for bytes that were received as planned. */
  void TakeLanded(uint64_t length) {
    if (torn_bytes_ == 0) {
      uint64_t direct = std::min(length, landing_whole_ - landing_at_);
      landing_at_ += direct;
      length -= direct;
    }
    torn_bytes_ += length;
    if (torn_bytes_ == 0 || landing_at_ + torn_bytes_ < BlockEnd(landing_at_)) return;
    memory_->Write(landing_at_, torn_, torn_bytes_);
    landing_at_ += torn_bytes_;
    torn_bytes_ = 0;
  }

  /** Where the block of the device that holds `offset` ends, or the payload. */
  uint64_t BlockEnd(uint64_t offset) const {
    return std::min(landing_end_, (offset / kLandingBlockBytes + 1) * kLandingBlockBytes);
  }

  /** How far `available` bytes of payload reach in whole blocks. */
  uint64_t WholeBlocks(uint64_t available) const {
    uint64_t end = landing_at_ + available;
    if (end >= landing_end_) return landing_end_;
    return std::max(landing_at_, end / kLandingBlockBytes * kLandingBlockBytes);
  }

  bool IsQueueEmpty() const { return queue_head_ == queue_.size(); }

  void Enqueue(const Piece& piece) {
    if (piece.length > 0) queue_.push_back(piece);
  }

  /** Sends what the socket takes; returns the errno of a broken one. */
  int Flush() {
    size_t budget = kSendBytes;
    while (!IsQueueEmpty() && budget > 0) {
      iovec pieces[kGatherPieces];
      size_t gathered = 0;
      msghdr message{};
      message.msg_iov = pieces;
      message.msg_iovlen = Gather(pieces, budget, &gathered);
      ssize_t sent = sendmsg(watch_->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && errno == EAGAIN) break;
      if (sent < 0) return errno;
      Advance(static_cast<uint64_t>(sent));
      budget -= static_cast<size_t>(sent);
      if (static_cast<size_t>(sent) < gathered) break;
    }
    return 0;
  }

  /** Where the next bytes to send lie, `limit` of them at most; holes of the device are zeroes from elsewhere. */
  size_t Gather(iovec* pieces, uint64_t limit, size_t* gathered) {
    size_t count = 0;
    uint64_t total = 0;
    for (size_t i = queue_head_; i < queue_.size() && count < kGatherPieces && total < limit; i++) {
      const Piece& piece = queue_[i];
      uint64_t skipped = i == queue_head_ ? sent_of_head_ : 0;
      uint64_t length = std::min(piece.length - skipped, limit - total);
      if (piece.bytes != nullptr) {
        pieces[count++] = {const_cast<uint8_t*>(piece.bytes) + skipped, static_cast<size_t>(length)};
        total += length;
        continue;
      }
      uint64_t covered = 0;
      int room = static_cast<int>(kGatherPieces - count);
      count += static_cast<size_t>(
          memory_->Runs(piece.offset + skipped, length, zeroes, sizeof zeroes, pieces + count, room, &covered));
      total += covered;
      // The pieces are used up within this one: what follows it must wait.
      if (covered < length) break;
    }
    *gathered = total;
    return count;
  }

  void Advance(uint64_t sent) {
    state_[kSentBytes] += static_cast<double>(sent);
    while (sent > 0) {
      uint64_t left = queue_[queue_head_].length - sent_of_head_;
      if (sent < left) {
        sent_of_head_ += sent;
        break;
      }
      sent -= left;
      sent_of_head_ = 0;
      queue_head_++;
    }
    if (IsQueueEmpty()) {
      queue_.clear();
      queue_head_ = 0;
    } else if (queue_head_ > queue_.size() / 2) {
      queue_.erase(queue_.begin(), queue_.begin() + static_cast<ptrdiff_t>(queue_head_));
      queue_head_ = 0;
    }
  }

  void UpdateWatch() {
    if (watch_ == nullptr) return;
    int wanted = (is_reading_ ? UV_READABLE : 0) | (IsQueueEmpty() ? 0 : UV_WRITABLE);
    if (wanted == watched_) return;
    watched_ = wanted;
    if (wanted == 0) {
      uv_poll_stop(&watch_->poll);
    } else {
      uv_poll_start(&watch_->poll, wanted, OnPoll);
    }
  }

  void Fail(int error) {
    has_ended_ = true;
    is_reading_ = false;
    queue_.clear();
    queue_head_ = 0;
    sent_of_head_ = 0;
    state_[kError] = error;
    UpdateWatch();
    Tell(kFailed);
  }

  /** By Node-API itself: napi.h would end the process when the callback fails because its worker is being terminated. */
  void Tell(unsigned happened) {
    napi_env env = Env();
    Napi::HandleScope scope(env);
    napi_value global, argument;
    napi_get_global(env, &global);
    napi_create_uint32(env, happened, &argument);
    napi_status status = napi_make_callback(env, context_, global, on_events_.Value(), 1, &argument, nullptr);
    if (status != napi_pending_exception) return;
    // No JavaScript is below to catch what was thrown; dropped here, a bug would pass for a hanging device.
    napi_value exception;
    if (napi_get_and_clear_last_exception(env, &exception) == napi_ok) napi_fatal_exception(env, exception);
  }

  static void OnEnvironmentEnd(napi_async_cleanup_hook_handle, void* data) { static_cast<SocketMover*>(data)->Shut(); }

  void Shut() {
    if (watch_ == nullptr) return;
    Watch* watch = watch_;
    watch_ = nullptr;
    is_reading_ = false;
    queue_.clear();
    queue_head_ = 0;
    memory_.reset();
    uv_close(reinterpret_cast<uv_handle_t*>(&watch->poll), OnClosed);
  }

  static void OnClosed(uv_handle_t* handle) {
    auto* watch = static_cast<Watch*>(handle->data);
    close(watch->fd);
    // Not earlier: close() may have been called from within Tell().
    SocketMover* mover = watch->mover;
    mover->on_events_.Reset();
    for (auto& held : mover->held_) held.Reset();
    mover->Unref();
    napi_remove_async_cleanup_hook(watch->cleanup_hook);
    delete watch;
  }

  Napi::AsyncContext context_;
  Napi::FunctionReference on_events_;
  /** The arrays below, kept from the garbage collector. */
  Napi::ObjectReference held_[3];
  uint8_t* input_ = nullptr;
  size_t input_capacity_ = 0;
  double* state_ = nullptr;
  double* inserts_ = nullptr;
  std::shared_ptr<SparseMemory> memory_;

  uint8_t* fill_at_ = nullptr;
  size_t fill_left_ = 0;
  /** The latest request had a payload that was worth a destination of its own. */
  bool was_long_ = false;
  /** The payload goes into the device's memory: what lies before `landing_at_` is there. */
  bool is_landing_ = false;
  uint64_t landing_at_ = 0;
  uint64_t landing_end_ = 0;
  /** How far the batch being received goes straight into the memory. */
  uint64_t landing_whole_ = 0;
  /** The beginning of the block at `landing_at_`, whose end has not come yet. */
  uint8_t torn_[kLandingBlockBytes];
  size_t torn_bytes_ = 0;
  /** What is to be sent, oldest first, from `queue_head_` on. */
  std::vector<Piece> queue_;
  size_t queue_head_ = 0;
  uint64_t sent_of_head_ = 0;
  bool is_reading_ = true;
  bool has_ended_ = false;
  bool is_ending_ = false;
  int watched_ = 0;
  Watch* watch_ = nullptr;
};

}  // namespace

void ExportSocketMover(Napi::Env env, Napi::Object exports) {
  exports.Set("SocketMover", SocketMover::Define(env));
}

#else

void ExportSocketMover(Napi::Env, Napi::Object) {}

#endif
