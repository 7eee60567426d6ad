#pragma once
#include <napi.h>

/** An event loop that can be kept from sleeping for a moment: what comes next is about to come, and a thread that sleeps wakes late. */
class Wakefulness {
 public:
  virtual void StayAwake() = 0;

 protected:
  ~Wakefulness() = default;
};

/** That of a JavaScript Clock, to be used on its thread as long as the object is referenced; nullptr when it is none. */
Wakefulness* WakefulnessOf(Napi::Value object);

/** Adds `Clock` to the exports, where the system has a precise timer (Linux). */
void ExportClock(Napi::Env env, Napi::Object exports);
