// What no hand-over between processes can be faster than: one word in shared memory, spun on or slept
// on. Nothing is handed over, and nothing is checked.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "bench/ring.hpp"

namespace opsplit::bench {

// All members spin on the same word: whose turn it is. Whoever finds its turn also has the line by
// then, and can write without asking for it.
class SpinLink {
 public:
  struct Memory {
    alignas(64) std::atomic<std::uint32_t> turn;
  };
  static Result<std::unique_ptr<SpinLink>> open(const Setting& setting, int index, Memory& memory) {
    return std::make_unique<SpinLink>(setting, index, memory);
  }
  SpinLink(const Setting& setting, int index, Memory& memory)
      : turn_(memory.turn),
        own_(static_cast<std::uint32_t>(index)),
        next_((own_ + 1) % static_cast<std::uint32_t>(setting.processes)) {}

  void send() { turn_.store(next_, std::memory_order_release); }
  void receive() {
    while (turn_.load(std::memory_order_acquire) != own_) {
    }
  }

 private:
  std::atomic<std::uint32_t>& turn_;
  std::uint32_t own_, next_;
};

struct alignas(64) Word {
  std::atomic<std::uint32_t> tokens;  // received so far
};
using WordPerMember = std::array<Word, 64>;

// A member's word, and that of the next in the ring.
struct WordPair {
  WordPair(const Setting& setting, int index, WordPerMember& memory)
      : own(memory[static_cast<std::size_t>(index)].tokens),
        next(memory[static_cast<std::size_t>((index + 1) % setting.processes)].tokens) {}

  std::atomic<std::uint32_t>& own;
  std::atomic<std::uint32_t>& next;
};

// Each member spins on a word of its own, as whoever can be rung by several must: the line goes to the
// ringer, and back.
class OwnWordLink {
 public:
  using Memory = WordPerMember;
  static Result<std::unique_ptr<OwnWordLink>> open(const Setting& setting, int index,
                                                   Memory& memory) {
    return std::make_unique<OwnWordLink>(WordPair(setting, index, memory));
  }
  explicit OwnWordLink(WordPair words) : words_(words) {}

  void send() { words_.next.store(++sent_, std::memory_order_release); }
  void receive() {
    while (words_.own.load(std::memory_order_acquire) == seen_) {
    }
    ++seen_;
  }

 private:
  WordPair words_;
  std::uint32_t seen_ = 0, sent_ = 0;
};

// Each member sleeps on a word of its own. Without a timeout: that would cost the kernel a timer.
class FutexLink {
 public:
  using Memory = WordPerMember;
  static Result<std::unique_ptr<FutexLink>> open(const Setting& setting, int index,
                                                 Memory& memory) {
    return std::make_unique<FutexLink>(WordPair(setting, index, memory));
  }
  explicit FutexLink(WordPair words) : words_(words) {}

  void send() {
    words_.next.fetch_add(1);
    syscall(SYS_futex, &words_.next, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  }
  void receive() {
    while (words_.own.load() == seen_)
      syscall(SYS_futex, &words_.own, FUTEX_WAIT, seen_, nullptr, nullptr, 0);
    ++seen_;
  }

 private:
  WordPair words_;
  std::uint32_t seen_ = 0;
};

}  // namespace opsplit::bench
