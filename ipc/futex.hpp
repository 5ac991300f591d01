// The few things that waiting needs from the kernel, behind an interface so that tests of whoever
// waits need neither time nor threads.
#pragma once

#include <atomic>
#include <cstdint>

namespace opsplit::ipc {

class Futex {
 public:
  virtual ~Futex() = default;

  // CLOCK_MONOTONIC, in nanoseconds: the same clock in every process of the host.
  [[nodiscard]] virtual std::uint64_t now_ns() = 0;
  // Sleeps while `word` holds `seen`, until woken or until the deadline; may return early.
  virtual void wait(std::atomic<std::uint32_t>& word, std::uint32_t seen,
                    std::uint64_t deadline_ns) = 0;
  virtual void wake(std::atomic<std::uint32_t>& word, int sleepers) = 0;
  // That the calling thread runs on.
  [[nodiscard]] virtual int cpu() = 0;
};

// The kernel's, for words in memory that processes share. Stateless and thread safe.
class SystemFutex final : public Futex {
 public:
  std::uint64_t now_ns() override;
  void wait(std::atomic<std::uint32_t>& word, std::uint32_t seen,
            std::uint64_t deadline_ns) override;
  void wake(std::atomic<std::uint32_t>& word, int sleepers) override;
  [[nodiscard]] int cpu() override;
};

// Tells the core that this is a spin loop.
inline void spin_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace opsplit::ipc
