/**
 * Clock: one precise timer on the event loop of the thread that created it, in nanoseconds since its creation.
 *
 * The timer is a timerfd on CLOCK_MONOTONIC with an absolute expiry. The kernel's hrtimer behind it has no slack, while
 * epoll's own timeout is rounded to milliseconds by libuv (and would carry the thread's slack of 50 us otherwise).
 * process.hrtime() reads the same clock in half the time of a call into this addon (39 against 71 ns), so telling the
 * time is left to it, and a timer that has fired can never be early by it.
 *
 * A sleeping thread wakes 20 to 100 us late, and later still from a long sleep on a virtual processor. With `spinNs` the
 * timer expires that much earlier, or by as much more as wake-ups turn out to take, and the loop then turns without
 * sleeping, serving its sockets as ever, until the deadline is there: at most a few microseconds late, for a processor that
 * is kept busy so long. It stays awake for a moment after each deadline and each arming too: the answer to a
 * reply is the next request, and a sleeping thread would stamp its arrival as late as it wakes.
 */
#include "clock.h"

#ifdef __linux__

#include <node_api.h>
#include <sched.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

int64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * kNsPerSecond + now.tv_nsec;
}

/** Marks objects of this class, so that no other is taken for one. */
constexpr napi_type_tag kTypeTag{0x83a1c5d07be24f96, 0x2e6f90b41d7c58aa};

class Clock : public Napi::ObjectWrap<Clock>, public EventLoop {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Clock",
                       {
                           InstanceMethod<&Clock::Arm>("arm"),
                           InstanceMethod<&Clock::Close>("close"),
                           InstanceAccessor<&Clock::OriginNs>("originNs"),
                       });
  }

  /**
   * new Clock(onDeadline, spinNs, onRehearsal?, onWork?): power-on is now. `onWork` is told, every now and then, that native code
   * waits for something, or has just answered somebody.
   */
  explicit Clock(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<Clock>(info), origin_ns_(MonotonicNs()), context_(info.Env(), "blkforge:Clock") {
    Napi::Env env = info.Env();
    napi_type_tag_object(env, info.This(), &kTypeTag);
    if (info.Length() < 1 || !info[0].IsFunction()) {
      Napi::TypeError::New(env, "Clock needs a function").ThrowAsJavaScriptException();
      return;
    }
    uv_loop_t* loop = nullptr;
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0 || napi_get_uv_event_loop(env, &loop) != napi_ok) {
      if (fd >= 0) close(fd);
      Napi::Error::New(env, "no timer descriptor could be had").ThrowAsJavaScriptException();
      return;
    }
    double spin_ns = 0;
    if (info.Length() > 1) napi_get_value_double(env, info[1], &spin_ns);
    spin_ns_ = static_cast<int64_t>(std::fmin(std::fmax(spin_ns, 0), kLatestNs));
    watch_ = new Watch{};
    watch_->fd = fd;
    watch_->clock = this;
    uv_poll_init(loop, &watch_->poll, fd);
    uv_idle_init(loop, &watch_->idle);
    uv_check_init(loop, &watch_->check);
    watch_->poll.data = watch_->idle.data = watch_->check.data = watch_;
    uv_poll_start(&watch_->poll, UV_READABLE, OnReadable);
    // An idle timer must not keep the process alive; only an armed one does.
    uv_unref(reinterpret_cast<uv_handle_t*>(&watch_->poll));
    on_deadline_ = Napi::Persistent(info[0].As<Napi::Function>());
    if (info.Length() > 2 && info[2].IsFunction()) on_rehearsal_ = Napi::Persistent(info[2].As<Napi::Function>());
    if (info.Length() > 3 && info[3].IsFunction()) on_work_ = Napi::Persistent(info[3].As<Napi::Function>());
    napi_add_async_cleanup_hook(env, OnEnvironmentEnd, this, &cleanup_hook_);
    // Alive until closed, whoever holds it: the event loop calls into it.
    Ref();
  }

  void StayAwake() override {
    if (watch_ == nullptr || spin_ns_ == 0) return;
    int64_t now_ns = MonotonicNs();
    KeepTurning(now_ns);
    TellOfWork(now_ns);
  }

  void Join(TimedTask* task) override { tasks_.push_back(task); }

  void Leave(TimedTask* task) override {
    auto place = std::find(tasks_.begin(), tasks_.end(), task);
    if (place == tasks_.end()) return;
    // A round over the tasks goes on where it was.
    if (is_running_tasks_) {
      *place = nullptr;
    } else {
      tasks_.erase(place);
    }
  }

  void Expect(int64_t due_ns) override {
    if (watch_ == nullptr || due_ns == kNever) return;
    int64_t now_ns = MonotonicNs();
    bool is_earlier = due_ns < NextNs();
    tasks_due_ns_ = std::min(tasks_due_ns_, due_ns);
    if (spin_ns_ > 0) {
      KeepTurning(now_ns);
    } else if (is_earlier) {
      SetTimer(due_ns);
    }
    TellOfWork(now_ns);
  }

 private:
  /** What libuv holds on to until its close callback has run, which may be after the Clock is gone. */
  struct Watch {
    uv_poll_t poll;
    /** Active while spinning: an active idle handle keeps the loop from sleeping. */
    uv_idle_t idle;
    /** Looks at the time once per turn of the loop, after the sockets were served. */
    uv_check_t check;
    int open_handles = 3;
    int fd;
    Clock* clock;
    napi_async_cleanup_hook_handle cleanup_hook;
  };

  /** Power-on on CLOCK_MONOTONIC, which is what process.hrtime() reads too. */
  Napi::Value OriginNs(const Napi::CallbackInfo& info) { return Napi::BigInt::New(info.Env(), origin_ns_); }

  /** arm(deadlineNs): replaces the deadline; what is no finite time (Infinity) disarms. */
  void Arm(const Napi::CallbackInfo& info) {
    if (watch_ == nullptr) return;
    double deadline_ns = 0;
    napi_get_value_double(info.Env(), info[0], &deadline_ns);
    auto* handle = reinterpret_cast<uv_handle_t*>(&watch_->poll);
    if (deadline_ns <= kLatestNs) {
      // Rounded up, so that it never fires early.
      expiry_ns_ = origin_ns_ + static_cast<int64_t>(std::ceil(std::fmax(deadline_ns, 0)));
      uv_ref(handle);
    } else {
      expiry_ns_ = kNever;
      uv_unref(handle);
    }
    if (spin_ns_ > 0) {
      KeepTurning(MonotonicNs());
    } else {
      SetTimer(NextNs());
    }
  }

  void TellOfWork(int64_t now_ns) {
    if (now_ns < tell_from_ns_ || on_work_.IsEmpty()) return;
    tell_from_ns_ = now_ns + kTellNs;
    Call(on_work_);
  }

  /** JavaScript's deadline, or the first of the tasks'. */
  int64_t NextNs() const { return std::min(expiry_ns_, tasks_due_ns_); }

  /**
   * Learns how late wake-ups are: a step up for each beyond what is reckoned with, a twentieth of it down for each within, which
   * settles where one in twenty is beyond (stochastic approximation of the 95th percentile; Robbins and Monro, 1951).
   */
  void LearnWakeUp(int64_t now_ns) {
    int64_t late_ns = now_ns - wake_ns_;
    wake_late_ns_ += late_ns > wake_late_ns_ ? kLearnNs : -kLearnNs / 20;
    wake_late_ns_ = std::clamp<int64_t>(wake_late_ns_, 0, kLongestLeadNs);
  }

  /** How long before a deadline to stop sleeping. */
  int64_t LeadNs() const { return std::max(spin_ns_, wake_late_ns_ + kMarginNs); }

  /** `kNever` disarms; the past fires at once. Saves the system call where nothing was armed and nothing shall be. */
  void SetTimer(int64_t wake_ns) {
    if (wake_ns == kNever && !is_timer_set_) return;
    is_timer_set_ = wake_ns != kNever;
    wake_ns_ = wake_ns;
    itimerspec setting{};
    if (is_timer_set_) {
      setting.it_value.tv_sec = wake_ns / kNsPerSecond;
      setting.it_value.tv_nsec = wake_ns % kNsPerSecond;
    }
    timerfd_settime(watch_->fd, TFD_TIMER_ABSTIME, &setting, nullptr);
  }

  /** Keeps the loop turning; the timer is set when it goes to sleep. */
  void KeepTurning(int64_t now_ns) {
    awake_until_ns_ = now_ns + kLingerNs;
    if (uv_is_active(reinterpret_cast<uv_handle_t*>(&watch_->check))) return;
    uv_idle_start(&watch_->idle, [](uv_idle_t*) {});
    uv_check_start(&watch_->check, [](uv_check_t* check) { static_cast<Watch*>(check->data)->clock->Look(); });
  }

  /** Once per turn of the loop while awake: is the deadline there, or nothing near that is worth staying awake for? */
  void Look() {
    int64_t now_ns = MonotonicNs();
    int64_t next_ns = NextNs();
    int64_t rise_ns = next_ns == kNever ? kNever : next_ns - LeadNs();
    bool is_near = now_ns >= rise_ns;
    if (now_ns >= next_ns) {
      Fire(now_ns);
    } else if (!is_near && now_ns >= awake_until_ns_) {
      Sleep();
      SetTimer(rise_ns);
    } else if (!is_near) {
      // The kernel likes to wake a client on the processor of who wakes it, expecting him to sleep soon. On a busy machine we
      // would keep the very client we wait for from running.
      sched_yield();
    }
  }

  void Sleep() {
    uv_idle_stop(&watch_->idle);
    uv_check_stop(&watch_->check);
  }

  void Close(const Napi::CallbackInfo&) { Shut(); }

  static void OnReadable(uv_poll_t* poll, int, int) {
    auto* watch = static_cast<Watch*>(poll->data);
    uint64_t expirations = 0;
    // Nothing to read: the timer was armed anew after epoll had seen it expire.
    if (read(watch->fd, &expirations, sizeof expirations) != sizeof expirations) return;
    Clock* clock = watch->clock;
    clock->is_timer_set_ = false;
    int64_t now_ns = MonotonicNs();
    if (clock->spin_ns_ == 0) {
      clock->Fire(now_ns);
      // For what was not due yet. Who armed the timer meanwhile may not have known of all there is.
      bool is_set = clock->is_timer_set_ && clock->wake_ns_ == clock->NextNs();
      if (clock->watch_ != nullptr && !is_set) clock->SetTimer(clock->NextNs());
    } else {
      clock->LearnWakeUp(now_ns);
      clock->KeepTurning(now_ns);
      // A long sleep leaves the caches cold: what will decide and reply is run once before it matters.
      bool is_ahead = clock->expiry_ns_ != kNever && now_ns < clock->expiry_ns_;
      if (is_ahead && !clock->on_rehearsal_.IsEmpty()) clock->Call(clock->on_rehearsal_);
      if (clock->watch_ != nullptr) clock->Look();
    }
  }

  void Fire(int64_t now_ns) {
    if (spin_ns_ > 0) KeepTurning(now_ns);
    if (tasks_due_ns_ <= now_ns) RunTasks(now_ns);
    // A task may have brought JavaScript to close this clock.
    if (watch_ == nullptr || expiry_ns_ > now_ns) return;
    expiry_ns_ = kNever;
    uv_unref(reinterpret_cast<uv_handle_t*>(&watch_->poll));
    Call(on_deadline_);
  }

  void RunTasks(int64_t now_ns) {
    tasks_due_ns_ = kNever;
    is_running_tasks_ = true;
    for (size_t i = 0; i < tasks_.size(); i++) {
      if (tasks_[i] != nullptr && tasks_[i]->NextNs() <= now_ns) tasks_[i]->OnDue(now_ns);
    }
    is_running_tasks_ = false;
    tasks_.erase(std::remove(tasks_.begin(), tasks_.end(), nullptr), tasks_.end());
    for (const TimedTask* task : tasks_) tasks_due_ns_ = std::min(tasks_due_ns_, task->NextNs());
  }

  /** By Node-API itself: napi.h would end the process when the callback fails because its worker is being terminated. */
  void Call(const Napi::FunctionReference& function) {
    napi_env env = Env();
    Napi::HandleScope scope(env);
    napi_value global;
    napi_get_global(env, &global);
    // Runs microtasks afterwards, as the event loop does after each of its own callbacks.
    napi_status status = napi_make_callback(env, context_, global, function.Value(), 0, nullptr, nullptr);
    if (status != napi_pending_exception) return;
    // No JavaScript is below to catch what was thrown; dropped here, a bug would pass for a hanging device.
    napi_value exception;
    if (napi_get_and_clear_last_exception(env, &exception) == napi_ok) napi_fatal_exception(env, exception);
  }

  static void OnEnvironmentEnd(napi_async_cleanup_hook_handle, void* data) { static_cast<Clock*>(data)->Shut(); }

  void Shut() {
    if (watch_ == nullptr) return;
    Watch* watch = watch_;
    watch_ = nullptr;
    watch->cleanup_hook = cleanup_hook_;
    on_deadline_.Reset();
    on_rehearsal_.Reset();
    on_work_.Reset();
    uv_close(reinterpret_cast<uv_handle_t*>(&watch->poll), OnClosed);
    uv_close(reinterpret_cast<uv_handle_t*>(&watch->idle), OnClosed);
    uv_close(reinterpret_cast<uv_handle_t*>(&watch->check), OnClosed);
    Unref();
  }

  static void OnClosed(uv_handle_t* handle) {
    auto* closed = static_cast<Watch*>(handle->data);
    if (--closed->open_handles > 0) return;
    close(closed->fd);
    // Only now may the environment's end go on: its loop holds the handles no longer.
    napi_remove_async_cleanup_hook(closed->cleanup_hook);
    delete closed;
  }

  /** How often it is told that native code works. */
  static constexpr int64_t kTellNs = 100'000'000;

  /** A client on the same machine has its next requests out within this: a wake-up and some work. Measured: 100 us is too short. */
  static constexpr int64_t kLingerNs = 300'000;

  static constexpr int64_t kLearnNs = 20'000;
  /** Between the wake-up and the deadline there is a turn of the loop. */
  static constexpr int64_t kMarginNs = 20'000;
  /** Who wakes later than this is short of processors, and should not take even more of them. */
  static constexpr int64_t kLongestLeadNs = 400'000;

  /** Deadlines beyond this (2^53 ns, 104 days) are no times but "never". */
  static constexpr double kLatestNs = 9007199254740992.0;

  const int64_t origin_ns_;
  int64_t spin_ns_ = 0;
  /** The armed deadline on CLOCK_MONOTONIC, or kNever. */
  int64_t expiry_ns_ = kNever;
  /** Not later than anything a task waits for. */
  int64_t tasks_due_ns_ = kNever;
  std::vector<TimedTask*> tasks_;
  bool is_running_tasks_ = false;
  int64_t tell_from_ns_ = 0;
  /** When the timer shall ring, and how late the thread usually is then. */
  int64_t wake_ns_ = 0;
  int64_t wake_late_ns_ = 0;
  int64_t awake_until_ns_ = 0;
  bool is_timer_set_ = false;
  Napi::AsyncContext context_;
  Napi::FunctionReference on_deadline_;
  Napi::FunctionReference on_rehearsal_;
  Napi::FunctionReference on_work_;
  napi_async_cleanup_hook_handle cleanup_hook_ = nullptr;
  Watch* watch_ = nullptr;
};

}  // namespace

EventLoop* EventLoopOf(Napi::Value object) {
  bool is_one = false;
  if (!object.IsObject() || napi_check_object_type_tag(object.Env(), object, &kTypeTag, &is_one) != napi_ok || !is_one) {
    return nullptr;
  }
  return Clock::Unwrap(object.As<Napi::Object>());
}

void ExportClock(Napi::Env env, Napi::Object exports) { exports.Set("Clock", Clock::Define(env)); }

#else

void ExportClock(Napi::Env, Napi::Object) {}

#endif
