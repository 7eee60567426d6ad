#pragma once
#include <napi.h>

#include <cstdint>

/** What native code does at times of its own, on the thread of an event loop. */
class TimedTask {
 public:
  /** When it next has something to do, on CLOCK_MONOTONIC; `EventLoop::kNever` when there is nothing. */
  virtual int64_t NextNs() const = 0;
  /** Does what is due by `now_ns`. May call JavaScript. */
  virtual void OnDue(int64_t now_ns) = 0;

 protected:
  ~TimedTask() = default;
};

/** The event loop of a JavaScript Clock, which keeps time for native code too. To be used on its own thread. */
class EventLoop {
 public:
  static constexpr int64_t kNever = INT64_MAX;

  /**
   * Keeps it from sleeping for a moment: what comes next is about to come, and a thread that sleeps wakes late. May call JavaScript.
   */
  virtual void StayAwake() = 0;
  /** From now on the task is called when what it has told with `Expect` is due. */
  virtual void Join(TimedTask* task) = 0;
  virtual void Leave(TimedTask* task) = 0;
  /** A task that has joined has something to do then. May call JavaScript. */
  virtual void Expect(int64_t due_ns) = 0;

 protected:
  ~EventLoop() = default;
};

/** That of a JavaScript Clock, usable as long as the object is referenced; nullptr when it is none. */
EventLoop* EventLoopOf(Napi::Value object);

/** Adds `Clock` to the exports, where the system has a precise timer (Linux). */
void ExportClock(Napi::Env env, Napi::Object exports);
