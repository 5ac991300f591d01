// Waking whoever waits for an operator's work.
//
// A sleeper announces itself (its bit in `sleepers`), looks once more for work, and only then sleeps
// on the word of its seat. A ringer makes the work visible, then reads `sleepers`. Both are
// sequentially consistent, so one of the two sees the other: no wake-up is lost. A ringer wakes one:
// the bit that it cleared is its own to wake. If it dies in between, that sleeper looks anyway at its
// deadline, and the supervisor rings after every death.
//
// Whom it wakes counts as awake at once, on the CPU where it lay down: nobody is to stay awake in its
// way (ipc/awake.hpp).
#pragma once

#include <bit>
#include <cstdint>

#include "ipc/board.hpp"
#include "ipc/futex.hpp"

namespace opsplit::ipc {

inline void announce_waking(const Board& board, const Bed& bed) {
  const std::uint64_t bit = bed.bit.load(std::memory_order_relaxed);
  if (bit != 0) board.cpu(bed.cpu.load(std::memory_order_relaxed)).awake.fetch_or(bit);
}

// Wakes one sleeper, if there is one. No system call if nobody sleeps.
inline void ring(const Board& board, std::uint32_t op, Futex& futex) {
  Doorbell& bell = board.doorbell(op);
  std::uint64_t sleepers = bell.sleepers.load();
  while (sleepers != 0) {
    const int seat = std::countr_zero(sleepers);
    const std::uint64_t bit = std::uint64_t{1} << seat;
    sleepers = bell.sleepers.fetch_and(~bit);
    if ((sleepers & bit) != 0) {
      announce_waking(board, bell.beds[static_cast<std::size_t>(seat)]);
      auto& word = bell.seats[static_cast<std::size_t>(seat)];
      word.fetch_add(1);
      futex.wake(word, 1);
      return;
    }
  }
}

// Wakes all that sleep, without looking at who announced itself: repairs what a death left.
inline void ring_all(Doorbell& bell, Futex& futex) {
  bell.sleepers.exchange(0);
  for (auto& word : bell.seats) {
    word.fetch_add(1);
    futex.wake(word, 1);
  }
}

// Sleeps at `seat` until rung, or until the deadline, unless `look` (at the hints; it must not take
// one) finds something after the sleep has been announced. The caller looks for work afterwards in
// any case, and passes the ring on if hints remain: its bit may have been cleared by a ringer that
// meant other work than what it found.
template <class Look>
void sleep_unless(Doorbell& bell, std::uint32_t seat, Futex& futex, std::uint64_t deadline_ns,
                  Look look) {
  auto& word = bell.seats[seat];
  const std::uint64_t bit = std::uint64_t{1} << seat;
  const std::uint32_t seen = word.load();
  bell.sleepers.fetch_or(bit);
  if (!look()) futex.wait(word, seen, deadline_ns);
  if ((bell.sleepers.load() & bit) != 0) bell.sleepers.fetch_and(~bit);  // else the ringer did
}

}  // namespace opsplit::ipc
