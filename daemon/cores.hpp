// Which CPU cores each operator runs on. Pure: it looks at a topology and answers; setting the
// affinities is somebody else's work.
//
// The unit is the physical core. An operator gets one hardware thread of each of its cores, and the
// others stay idle, because two threads of one core slow each other down; it gets both only where it
// has to share that core with another operator anyway, or where its list names both.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "daemon/topology.hpp"

namespace opsplit::daemon {

enum class Objective {
  latency,     // operators take turns on a request: each may use all cores that nobody asked for
  throughput,  // all work at the same time: the cores are divided in proportion to cost
};

std::string_view to_string(Objective objective);
std::optional<Objective> objective_from_string(std::string_view name);

// A number of cores, or which CPUs.
using CoreRequest = std::variant<int, CpuSet>;

// As typed on a command line: "2" is a number of cores, "0-1", "0,2-3" and "2-2" are CPUs.
Result<CoreRequest> parse_core_request(std::string_view text);
std::string to_string(const CoreRequest& request);

struct CoreDemand {
  std::string name;  // of the operator, for messages
  double cost = 0;   // only the ratios matter
  int instances = 1;
  std::optional<CoreRequest> request;
};

struct CoreAssignment {
  CpuSet cpus;      // of all instances together
  int threads = 1;  // for the thread pool of each instance
  bool exclusive =
      false;  // nobody shares a physical core with it, nor its instances with each other

  friend bool operator==(const CoreAssignment&, const CoreAssignment&) = default;
};

// An assignment for each operator, in their order. Requests come first: a list gets just its CPUs;
// a number gets as many cores to itself where there are enough, else the least used ones. Operators
// without a request share out, by the objective, what is left, or everything if nothing is.
Result<std::vector<CoreAssignment>> assign_cores(const Topology& topology, const CpuSet& allowed,
                                                 std::span<const CoreDemand> operators,
                                                 Objective objective);

}  // namespace opsplit::daemon
