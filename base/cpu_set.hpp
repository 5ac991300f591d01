// Sets of CPUs: as text, and as the affinity of threads and processes. May be called from any thread.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace opsplit {

// CPUs by the numbers that Linux gives them, ascending, each once.
using CpuSet = std::vector<int>;

inline constexpr int max_cpus = 8192;  // the most that a Linux kernel can be built for

// The kernel's list format: "0,2-3". An error says what is wrong with the text.
Result<CpuSet> parse_cpus(std::string_view text);
std::string to_string(const CpuSet& cpus);
CpuSet without(const CpuSet& cpus, const CpuSet& others);

// A set as the kernel takes it.
class AffinityMask {
 public:
  explicit AffinityMask(const CpuSet& cpus);  // what is no CPU's number is left out

  // Of one thread; 0: the calling one. The kernel silently leaves out what the thread's cpuset
  // forbids. Returns errno, EINVAL if nothing is left; one system call, allowed after fork().
  [[nodiscard]] int apply_to(pid_t thread) const;

 private:
  alignas(unsigned long) std::array<std::byte, max_cpus / 8> bits_{};
};

// Of one thread; 0: the calling one.
Result<CpuSet> thread_affinity(pid_t thread);
// Of all threads of a process, those included that it starts meanwhile. Error refused: its cpuset
// forbids all of these CPUs; system: it is gone, or somebody else's.
Result<> set_process_affinity(pid_t process, const CpuSet& cpus);
// What any of its threads may use.
Result<CpuSet> process_affinity(pid_t process);

}  // namespace opsplit
