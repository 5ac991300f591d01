// The CPUs of a machine: which share a physical core, which are near which memory. Read from hwloc
// once, plain data afterwards.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/cpu_set.hpp"
#include "base/error.hpp"

namespace opsplit::daemon {

using opsplit::to_string;  // of a CpuSet

// One hardware thread. The other numbers only say "the same" or "not the same".
struct Cpu {
  int id = 0;
  int core = 0;  // physical core: hyperthreads share one
  int numa = 0;
  int package = 0;
};

class Topology {
 public:
  // All CPUs that are online, those that a cpuset forbids us included.
  static Result<Topology> of_this_machine();
  // hwloc's synthetic notation, e.g. "pack:2 core:16 pu:2". For tests, and to plan for a machine
  // that is somewhere else.
  static Result<Topology> synthetic(std::string_view description);

  // Neighbours in this order are near each other in the machine.
  [[nodiscard]] const std::vector<Cpu>& cpus() const { return cpus_; }
  // Those that this process may use: its affinity, and with that its cpuset. Synthetic: all.
  [[nodiscard]] const CpuSet& allowed() const { return allowed_; }
  // "2 packages, 2 NUMA nodes, 32 cores, 64 hardware threads"
  [[nodiscard]] std::string summary() const;

 private:
  std::vector<Cpu> cpus_;
  CpuSet allowed_;
};

}  // namespace opsplit::daemon
