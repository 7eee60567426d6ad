#pragma once
#ifdef __linux__

#include <cstdint>

namespace ublk {

/**
 * How a queue's thread stands to the others of its processor: the one that submits is usually among them, since the kernel
 * serves a queue where its requests come from. What fits depends on what the device does, so it is found out as it runs.
 *
 * Punctual: real-time (SCHED_FIFO). While replies have due times nobody may come before who has to keep them: V8 collects garbage
 * with as many threads as there are processors, and who wakes among equals may wait for the slices of several. A mere nice value
 * does not spare it that wait: the fair scheduler (EEVDF, Linux 6.6) owes a waking thread nothing that has had more than its share,
 * however light the others are.
 *
 * Prompt: an ordinary thread, with all the weight there is. A device that never waits keeps no time, and must not be real-time: the
 * kernel takes the processor for a while from a real-time thread that uses it for 950 ms of a second, which a busy queue does. As
 * it wakes it mostly goes before the submitter, which finds its request done when it looks. That is best for one request at a time.
 *
 * Patient: SCHED_BATCH, the same but for going before others as it wakes. The submitter goes on until it sleeps, so all that it has to
 * submit is found at once and costs two changes of threads, not two per request. That is best for many at a time, and cannot be
 * seen while the thread is prompt, since each request is then done before the next one comes. So it is tried now and then.
 */
class Precedence {
 public:
  /** For the thread that calls it. @param sleeps whether it sleeps until its deadlines: who spins cannot be real-time */
  void Begin(bool sleeps);

  /** A reply was found to be due later than its request came, or at once. */
  void CountDecision(bool is_timed) { is_timed ? timed_++ : untimed_++; }
  /** Ends a round of the thread, in which so many requests came. */
  void EndRound(uint32_t received, bool is_any_due) {
    if (timed_ > 0 || is_any_due) {
      timed_ = untimed_ = 0;
      if (manner_ != Manner::kPunctual) Become(Manner::kPunctual);
    } else if (manner_ == Manner::kPunctual) {
      // Some untimed requests among timed ones change nothing.
      if (untimed_ >= kUntimedForGood) Become(Manner::kPrompt);
    } else if (received > 0) {
      Learn(received);
    }
  }

 private:
  enum class Manner : uint8_t { kPunctual, kPrompt, kPatient };

  static constexpr uint32_t kUntimedForGood = 256;
  /** A try takes so many rounds and comes after so many requests: what it costs those that come one by one is lost in the noise. */
  static constexpr uint32_t kRoundsTried = 8;
  static constexpr uint32_t kRequestsBetweenTries = 1024;

  void Learn(uint32_t received);
  void Become(Manner manner);

  Manner manner_ = Manner::kPunctual;
  bool sleeps_ = false;
  uint32_t timed_ = 0;
  uint32_t untimed_ = 0;
  /** Since the manner was taken, or last judged. */
  uint32_t rounds_ = 0;
  uint32_t requests_ = 0;
};

}  // namespace ublk

#endif
