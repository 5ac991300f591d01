// What `hop` and `transports` share: arguments, the broker, cases that take turns, the summary.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "bench/cases.hpp"

namespace opsplit::bench {

// Measures what the arguments ask for (those of Google Benchmark, and --summary FILE), with a broker
// that has these pools, then calls `summarize`, whose result goes into FILE. Returns the program's
// exit code.
int run_cases(std::vector<std::string> arguments, std::vector<Case>& cases, const Pools& pools,
              const std::function<nlohmann::json()>& summarize);

}  // namespace opsplit::bench
