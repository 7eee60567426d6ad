/** Precedence: see the header. Source: sched(7), Linux kernel/sched/fair.c (`check_preempt_wakeup_fair`). */
#ifdef __linux__

#include "precedence.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace ublk {

namespace {

/** As a nice value. */
constexpr int kHighestPriority = -20;

/** Of the calling thread. False without the right to it (CAP_SYS_NICE, for real time): it stays what it was. */
bool SetPolicy(int policy, int priority) {
  sched_param parameters{};
  parameters.sched_priority = priority;
  return sched_setscheduler(0, policy | SCHED_RESET_ON_FORK, &parameters) == 0;
}

}  // namespace

void Precedence::Begin(bool sleeps) {
  sleeps_ = sleeps;
  // Holds whenever the thread is not real-time. Without CAP_SYS_NICE it has the weight of all others.
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kHighestPriority);
  Become(Manner::kPunctual);
}

void Precedence::Learn(uint32_t received) {
  requests_ += received;
  rounds_++;
  if (manner_ == Manner::kPrompt) {
    if (requests_ >= kRequestsBetweenTries) Become(Manner::kPatient);
  } else if (rounds_ == kRoundsTried) {
    if (requests_ < 2 * kRoundsTried) Become(Manner::kPrompt);
    rounds_ = requests_ = 0;
  }
}

void Precedence::Become(Manner manner) {
  manner_ = manner;
  timed_ = untimed_ = rounds_ = requests_ = 0;
  if (manner == Manner::kPunctual && sleeps_ && SetPolicy(SCHED_FIFO, 1)) return;
  SetPolicy(manner == Manner::kPatient ? SCHED_BATCH : SCHED_OTHER, 0);
}

}  // namespace ublk

#endif
