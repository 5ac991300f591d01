// Waiting without sleeping, where that pays.
//
// A core that falls asleep takes some 30 us to wake, much more than a short task takes. So whoever has
// just been busy stays awake for a while, but only as long as nobody else of this deployment is awake
// on this CPU: each has a bit there from when it is woken, by the ringer, until it lies down. Thus of
// those that share a CPU one at most is awake without work. It makes no system call for that, and
// others than opsplit's processes wait for the CPU no longer than `awake_ns`.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "ipc/board.hpp"
#include "ipc/futex.hpp"

namespace opsplit::ipc {

// At the most, in a deployment: some wake-ups of a core.
inline constexpr std::uint64_t awake_ns = 200'000;

// A thread that works and waits, as those see it that share its CPU. Not thread safe.
class Presence {
 public:
  // `who`: another number than those that it shares a CPU with, best modulo 64.
  Presence(const Board& board, Futex& futex, std::uint64_t who)
      : board_(board), futex_(futex), bit_(std::uint64_t{1} << who % 64) {}

  Presence(const Presence&) = delete;
  Presence& operator=(const Presence&) = delete;
  ~Presence() { disappear(); }

  // It is awake here.
  void appear() {
    const auto cpu = static_cast<std::uint32_t>(futex_.cpu());
    if (cpu != cpu_) disappear();
    cpu_ = cpu;
    if ((awake().load(std::memory_order_relaxed) & bit_) == 0) awake().fetch_or(bit_);
  }
  [[nodiscard]] bool alone() const {
    return (awake().load(std::memory_order_relaxed) & ~bit_) == 0;
  }
  // It goes on to what is not ours, or to sleep.
  void disappear() {
    if ((awake().load(std::memory_order_relaxed) & bit_) != 0) awake().fetch_and(~bit_);
  }
  // It goes to sleep in `bed`, where whoever wakes it finds how to make it appear.
  void lie_down(Bed& bed) {
    bed.cpu.store(cpu_, std::memory_order_relaxed);
    bed.bit.store(bit_, std::memory_order_relaxed);
    disappear();
  }

 private:
  [[nodiscard]] std::atomic<std::uint64_t>& awake() const { return board_.cpu(cpu_).awake; }

  const Board& board_;
  Futex& futex_;
  std::uint64_t bit_;
  std::uint32_t cpu_ = 0;
};

// Whether something is worth trying: after n failures in a row every 2^n-th time, and every 64th at the
// least. Thread safe, as far as a guess needs to be.
class Backoff {
 public:
  [[nodiscard]] bool worth_trying() {
    const std::uint8_t to_skip = to_skip_.load(std::memory_order_relaxed);
    if (to_skip == 0) return true;
    to_skip_.store(static_cast<std::uint8_t>(to_skip - 1), std::memory_order_relaxed);
    return false;
  }
  void paid(bool did) {
    const int failures = did ? 0 : std::min(failures_.load(std::memory_order_relaxed) + 1, 6);
    failures_.store(static_cast<std::uint8_t>(failures), std::memory_order_relaxed);
    to_skip_.store(static_cast<std::uint8_t>((1 << failures) - 1), std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint8_t> failures_ = 0, to_skip_ = 0;
};

// Looks (which returns whether it found something) until it finds something, somebody else is awake here,
// or `duration_ns` has passed since `now_ns`. Whether it found something.
template <class Look>
bool stay_awake(Presence& self, Backoff& backoff, Futex& futex, std::uint64_t now_ns,
                std::uint64_t duration_ns, Look look) {
  constexpr int looks = 64;  // between two clock readings
  self.appear();
  if (duration_ns == 0 || !self.alone() || !backoff.worth_trying()) return false;
  const std::uint64_t until = now_ns + duration_ns;
  do {
    for (int i = 0; i < looks; ++i) {
      if (look()) {
        backoff.paid(true);
        return true;
      }
      if (!self.alone()) return false;
      spin_pause();
    }
    self.appear();  // the kernel may have moved it
  } while (futex.now_ns() < until);
  backoff.paid(false);
  return false;
}

}  // namespace opsplit::ipc
