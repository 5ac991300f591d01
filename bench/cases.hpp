// What `hop` measures, and what each figure is compared with.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/contender.hpp"

namespace opsplit::bench {

struct Comparison {
  std::string with;  // the other case's name
  double limit = 0;  // the ratio aimed at
};

struct Case {
  std::string name;
  Setting setting;
  int requests = 0;  // per repetition
  std::function<Result<std::unique_ptr<Contender>>(const Setting&)> start;
  std::vector<Comparison> comparisons;

  // Results, of all repetitions.
  std::vector<double> hop_ns;  // one per request
  std::uint64_t bytes_copied = 0;
};

std::vector<Case> make_cases();

// Cases that this machine has too few cores for, and why they are left out.
std::string left_out();

// Pools that the broker needs for them: the arena of all board hops, and raw iceoryx's.
struct Pools {
  std::uint64_t arena = 0;
  std::vector<std::uint64_t> all;
};
Pools pools_for(const std::vector<Case>& cases);

}  // namespace opsplit::bench
