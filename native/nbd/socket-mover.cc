/**
 * SocketMover: moves the bytes of one connected stream socket, on the event loop of the thread that created it.
 *
 * Node's own sockets bring each 64 KiB in a buffer of its own and through a callback of its own, and have every reply copied
 * before it is written. Here JavaScript sees headers only: what is short arrives in one static buffer, a long payload
 * goes where it was told to go, with as many system calls as it takes and one callback at its end, and replies are gathered from
 * JavaScript's buffers and from a device's memory, many of them in one sendmsg.
 *
 * Mechanism only. What the bytes mean, how many replies may wait and when to stop reading is decided in src/nbd; requests that need no
 * decision are answered here, when it has said so (`PlainRequests`).
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

#include "../clock.h"
#include "../sparse-memory.h"
#include "landing.h"
#include "plain-requests.h"
#include "send-queue.h"

namespace {

/** Bits of what JavaScript is told. */
enum Event : unsigned {
  kInput = 1,
  /** The payload asked for by fill() or land() is there. */
  kFilled = 2,
  kSent = 4,
  /** The peer will send nothing more. */
  kEnd = 8,
  /** The socket is broken; the cell `kError` has the errno. */
  kFailed = 16,
  /** Our side is closed, as end() asked for. */
  kShut = 32,
  /** The input begins with the header of a write whose payload is not among it: it is in the device's memory. */
  kLanded = 64,
  /** While JavaScript was not idle, the last of the requests that waited here has been answered. */
  kAnswered = 128,
};

/** Cells of the state shared with JavaScript. */
enum Cell : size_t {
  /** Where in the input buffer what JavaScript has to see begins and ends. */
  kInputFrom,
  kInputEnd,
  /** Bytes at the front of the input buffer that stay, and are seen again: written by JavaScript too. */
  kKeptBytes,
  kReceivedBytes,
  /** What there was to send since the start, and what of it is sent. */
  kQueuedBytes,
  kSentBytes,
  kError,
  /** 1 while the next byte is the first of a request and nothing waits for its turn: JavaScript writes this one. */
  kIsIdle,
  /** Requests that have arrived and will be answered here. */
  kInHand,
};

/** One socket's turn; then the other sockets of the loop have theirs. */
constexpr int kReceiveRounds = 8;
/**
 * What is read into the input buffer after a long payload: the next header or a few. The payload behind that header is likely to be
 * long too, and had better be left for its own destination.
 */
constexpr size_t kAfterLongBytes = 512;

/**
 * What a Unix socket may hold of our replies. The default (208 KiB) is less than one reply of 256 KiB, and a full socket is
 * writable again only when three quarters of it have been read: client and server would wait for each other in turn. QEMU sets as
 * much (io/channel-socket.c). Without privileges the system's limit (net.core.wmem_max) holds, twice the default.
 */
constexpr int kUnixSendBytes = 2 << 20;

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
T* Data(const Napi::Env& env, napi_value array, size_t* length = nullptr) {
  void* data = nullptr;
  napi_get_typedarray_info(env, array, nullptr, length, &data, nullptr, nullptr);
  return static_cast<T*>(data);
}

class SocketMover : public Napi::ObjectWrap<SocketMover>, public TimedTask {
 public:
  static Napi::Function Define(Napi::Env env) {
    using Self = SocketMover;
    return DefineClass(env, "SocketMover",
                       {
                           InstanceMethod<&Self::AnswerPlain>("answerPlain"),
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
      : Napi::ObjectWrap<SocketMover>(info),
        context_(info.Env(), "blkforge:SocketMover"),
        memory_(SparseMemoryOf(info[1])),
        queue_(memory_.get()),
        landing_(memory_.get()) {
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
    input_ = Data<uint8_t>(env, info[2], &input_capacity_);
    state_ = Data<double>(env, info[3]);
    inserts_ = Data<double>(env, info[4]);
    for (size_t i = 2; i < 5; i++) Hold(info[i]);
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

  int64_t NextNs() const override { return plain_->NextNs(); }

  void OnDue(int64_t now_ns) override {
    int error = plain_->AnswerDue(now_ns, watch_->fd);
    TellCounts();
    if (error != 0) {
      Fail(error);
    } else if (GoOn(0)) {
      UpdateWatch();
    }
  }

 private:
  /** What libuv holds on to until its close callback has run. */
  struct Watch {
    uv_poll_t poll;
    int fd = -1;
    SocketMover* mover = nullptr;
    napi_async_cleanup_hook_handle cleanup_hook = nullptr;
  };

  Napi::Value Descriptor(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), watch_ == nullptr ? -1 : watch_->fd);
  }

  /**
   * answerPlain(settings, latenciesNs, inHand, counters, clock): requests that need no decision are answered here while JavaScript is
   * idle, when they are due by the clock. All but the clock as `PlainRequests` has it. The clock's loop stays awake for what follows
   * an answer.
   */
  void AnswerPlain(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (watch_ == nullptr) return;
    for (size_t i = 1; i < 5; i++) Hold(info[i]);
    plain_ = std::make_unique<PlainRequests>(memory_.get(), queue_, Data<double>(env, info[0]), Data<double>(env, info[1]),
                                             Data<int32_t>(env, info[2]), Data<double>(env, info[3]));
    loop_ = EventLoopOf(info[4]);
    loop_->Join(this);
  }

  /** setReading(isReading) */
  void SetReading(const Napi::CallbackInfo& info) {
    is_reading_ = info[0].As<Napi::Boolean>().Value() && !has_ended_;
    UpdateWatch();
  }

  /** fill(bytes, from, to): what comes next goes there. JavaScript keeps `bytes` until then, or until it closes. */
  void Fill(const Napi::CallbackInfo& info) {
    auto* bytes = Data<uint8_t>(info.Env(), info[0]);
    fill_at_ = bytes + static_cast<size_t>(Double(info, 1));
    fill_left_ = static_cast<size_t>(Double(info, 2) - Double(info, 1));
    was_long_ = true;
  }

  /**
   * land(bytes, from, to, offset, length): a payload of `length` bytes goes into the device's memory at `offset`. It begins with
   * those bytes; the rest comes next.
   */
  void Land(const Napi::CallbackInfo& info) {
    if (watch_ == nullptr) return;
    auto from = static_cast<size_t>(Double(info, 1));
    landing_.Begin(static_cast<uint64_t>(Double(info, 3)), static_cast<uint64_t>(Double(info, 4)),
                   Data<uint8_t>(info.Env(), info[0]) + from, static_cast<size_t>(Double(info, 2)) - from);
    was_long_ = true;
  }

  /**
   * send(bytes, from, to, insertCount): those bytes, with pieces of the device's memory between them, each a triple in
   * `inserts`: before which byte, offset, length. True when all is sent; else JavaScript keeps `bytes` until it is.
   */
  Napi::Value Send(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (watch_ == nullptr) return Napi::Boolean::New(env, false);
    const auto* bytes = Data<uint8_t>(env, info[0]);
    auto from = static_cast<uint64_t>(Double(info, 1));
    auto to = static_cast<uint64_t>(Double(info, 2));
    auto count = static_cast<size_t>(Double(info, 3));
    bool was_empty = queue_.empty();
    for (size_t i = 0; i < count; i++) {
      auto at = static_cast<uint64_t>(inserts_[3 * i]);
      queue_.AddScripts(bytes + from, at - from);
      queue_.AddMemory(static_cast<uint64_t>(inserts_[3 * i + 1]), static_cast<uint64_t>(inserts_[3 * i + 2]));
      from = at;
    }
    queue_.AddScripts(bytes + from, to - from);
    // What waits is sent when the socket says so, or fails there: a call of JavaScript's is no place to call it back.
    if (was_empty) queue_.Flush(watch_->fd);
    TellCounts();
    UpdateWatch();
    return Napi::Boolean::New(env, queue_.empty());
  }

  /** end(): closes our side when all is sent. True when it is. */
  Napi::Value End(const Napi::CallbackInfo& info) {
    is_ending_ = true;
    bool is_done = queue_.empty();
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
    if ((events & UV_WRITABLE) != 0 && !mover->queue_.empty()) {
      bool is_awaited = mover->queue_.holds_scripts() || !mover->IsIdle();
      int error = mover->queue_.Flush(watch->fd);
      if (error == 0 && mover->plain_) error = mover->plain_->AnswerReady(watch->fd);
      mover->TellCounts();
      if (error != 0) {
        mover->Fail(error);
        return;
      }
      if (is_awaited) happened = kSent;
      if (mover->is_ending_ && mover->queue_.empty()) {
        shutdown(watch->fd, SHUT_WR);
        happened |= kShut;
      }
      if (!mover->GoOn(happened)) return;
      happened = 0;
    }
    if ((events & UV_READABLE) != 0) {
      mover->Receive(happened);
    } else if (happened != 0) {
      mover->Tell(happened);
    }
    if (mover->watch_ != nullptr) mover->UpdateWatch();
  }

  void Receive(unsigned happened) {
    for (int round = 0; round < kReceiveRounds && is_reading_ && !is_full_; round++) {
      iovec where[3];
      int count = PlanPayload(where);
      size_t wanted = 0;
      for (int i = 0; i < count; i++) wanted += where[i].iov_len;
      auto kept = static_cast<size_t>(state_[kKeptBytes]);
      if (wanted == PayloadLeft()) {
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
      if (PayloadLeft() > 0) {
        length -= TakePayload(length);
        if (PayloadLeft() > 0) continue;
        if (!plain_ || !plain_->is_landing()) {
          happened |= kFilled;
        } else if (!IsIdle() || !plain_->FinishLanding()) {
          happened |= kLanded;
          length = PutHeaderBefore(length);
        }
      }
      if (length > 0) was_long_ = false;
      bool is_decided_here = plain_ && IsIdle();
      if (!TakeInput(kept + length, happened)) return;
      happened = 0;
      // JavaScript has had its turn: what fell due meanwhile comes before what else has been sent.
      if (!is_decided_here) break;
      // Not filled to the brim: the socket is empty, or the loop will say that it no longer is.
      if (static_cast<size_t>(got) < wanted && PayloadLeft() == 0) break;
    }
    if (happened != 0) Tell(happened);
  }

  size_t PayloadLeft() const { return fill_left_ + landing_.left(); }

  /** Where the rest of the payload goes, as far as that can be said now. */
  int PlanPayload(iovec* where) {
    if (fill_left_ > 0) {
      where[0] = {fill_at_, fill_left_};
      return 1;
    }
    if (landing_.left() == 0) return 0;
    int available = 0;
    ioctl(watch_->fd, FIONREAD, &available);
    return landing_.Plan(where, static_cast<size_t>(std::max(available, 0)));
  }

  /** Accounts for the payload among `length` bytes received as planned; returns how much of them it is. */
  size_t TakePayload(size_t length) {
    size_t taken = std::min(length, PayloadLeft());
    if (fill_left_ > 0) {
      fill_at_ += taken;
      fill_left_ -= taken;
    } else {
      landing_.Take(taken);
    }
    return taken;
  }

  /** Puts the header of the write that has landed before what follows it in the input, a few hundred bytes at most. */
  size_t PutHeaderBefore(size_t length) {
    size_t header_bytes = plain_->header_bytes();
    memmove(input_ + header_bytes, input_, length);
    memcpy(input_, plain_->landing_header(), header_bytes);
    return header_bytes + length;
  }

  bool IsIdle() const { return state_[kIsIdle] != 0; }

  /** Answers what needs no decision of the first `length` bytes of the input, and leaves the rest to JavaScript. False once closed. */
  bool TakeInput(size_t length, unsigned happened) {
    size_t from = 0;
    bool is_for_scripts = length > 0 || (happened & kFilled) != 0;
    if (plain_ && IsIdle() && (happened & kLanded) == 0) {
      PlainRequests::Outcome outcome = plain_->Answer(input_, length, watch_->fd);
      TellCounts();
      if (outcome.error != 0) {
        Fail(outcome.error);
        return false;
      }
      from = outcome.used_bytes;
      is_full_ = outcome.stop == PlainRequests::Stop::kFull;
      if (outcome.stop == PlainRequests::Stop::kLong) BeginLanding(from, length);
      if (outcome.stop == PlainRequests::Stop::kStarved || is_full_) Keep(from, length);
      is_for_scripts = outcome.stop == PlainRequests::Stop::kOther;
    }
    if (is_for_scripts) {
      state_[kInputFrom] = static_cast<double>(from);
      state_[kInputEnd] = static_cast<double>(length);
      state_[kKeptBytes] = 0;
      happened |= kInput;
    }
    if (happened != 0) Tell(happened);
    // Last, since either may bring JavaScript to close this.
    if (watch_ != nullptr && plain_ && plain_->TakeHasAnswered()) loop_->StayAwake();
    if (watch_ != nullptr && plain_) loop_->Expect(plain_->NextNs());
    return watch_ != nullptr;
  }

  /** Some of what was in hand may have been answered: the input goes on where it had to wait for that. False once closed. */
  bool GoOn(unsigned happened) {
    if (plain_ && plain_->in_hand() == 0 && !IsIdle()) happened |= kAnswered;
    if (is_full_ && !plain_->is_full()) {
      is_full_ = false;
      return TakeInput(static_cast<size_t>(state_[kKeptBytes]), happened);
    }
    if (happened != 0) Tell(happened);
    return watch_ != nullptr;
  }

  /** The header at `from` is of a write whose payload goes into the memory; some of it is there already. */
  void BeginLanding(size_t from, size_t end) {
    uint64_t offset;
    uint64_t length;
    plain_->NoteLanding(input_ + from, &offset, &length);
    from += plain_->header_bytes();
    landing_.Begin(offset, length, input_ + from, end - from);
    was_long_ = true;
    state_[kKeptBytes] = 0;
  }

  /** The rest of the input is to be completed behind it. */
  void Keep(size_t from, size_t end) {
    if (from > 0) memmove(input_, input_ + from, end - from);
    state_[kKeptBytes] = static_cast<double>(end - from);
  }

  void TellCounts() {
    state_[kQueuedBytes] = static_cast<double>(queue_.queued_bytes());
    state_[kSentBytes] = static_cast<double>(queue_.sent_bytes());
    if (plain_) state_[kInHand] = static_cast<double>(plain_->in_hand());
  }

  void UpdateWatch() {
    if (watch_ == nullptr) return;
    int wanted = (is_reading_ && !is_full_ ? UV_READABLE : 0) | (queue_.empty() ? 0 : UV_WRITABLE);
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
    queue_.Clear();
    if (plain_) plain_->Abandon();
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

  /** Keeps an object of JavaScript's from the garbage collector until the socket is closed. */
  void Hold(const Napi::Value& object) { held_.push_back(Napi::Persistent(object.As<Napi::Object>())); }

  static void OnEnvironmentEnd(napi_async_cleanup_hook_handle, void* data) { static_cast<SocketMover*>(data)->Shut(); }

  void Shut() {
    if (watch_ == nullptr) return;
    Watch* watch = watch_;
    watch_ = nullptr;
    is_reading_ = false;
    queue_.Clear();
    if (plain_) {
      plain_->Abandon();
      loop_->Leave(this);
    }
    landing_.Abandon();
    memory_.reset();
    uv_close(reinterpret_cast<uv_handle_t*>(&watch->poll), OnClosed);
  }

  static void OnClosed(uv_handle_t* handle) {
    auto* watch = static_cast<Watch*>(handle->data);
    close(watch->fd);
    // Not earlier: close() may have been called from within Tell().
    SocketMover* mover = watch->mover;
    mover->on_events_.Reset();
    mover->held_.clear();
    // The garbage collector, which knows little of what this costs, may take its time with the rest.
    mover->plain_.reset();
    mover->queue_.Release();
    mover->Unref();
    napi_remove_async_cleanup_hook(watch->cleanup_hook);
    delete watch;
  }

  Napi::AsyncContext context_;
  Napi::FunctionReference on_events_;
  std::vector<Napi::ObjectReference> held_;
  /** Arrays of JavaScript's, held. */
  uint8_t* input_ = nullptr;
  size_t input_capacity_ = 0;
  double* state_ = nullptr;
  double* inserts_ = nullptr;

  std::shared_ptr<SparseMemory> memory_;
  SendQueue queue_;
  Landing landing_;
  std::unique_ptr<PlainRequests> plain_;
  /** Of a clock, held. */
  EventLoop* loop_ = nullptr;

  /** The payload that comes next goes there. */
  uint8_t* fill_at_ = nullptr;
  size_t fill_left_ = 0;
  /** The latest request had a payload that was worth a destination of its own. */
  bool was_long_ = false;
  bool is_reading_ = true;
  /** As many requests are in hand as may be: the rest of the input waits in its buffer. */
  bool is_full_ = false;
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
