// What `hop` and `transports` share: arguments, the broker, cases that take turns, the summary.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/cases.hpp"
#include "bench/scratch_folders.hpp"

namespace opsplit::bench {

class Runner {
 public:
  // The arguments: those of Google Benchmark, and --summary FILE. From now on /tmp and /dev/shm are
  // private, where the system allows that.
  explicit Runner(std::vector<std::string> arguments);
  [[nodiscard]] const ScratchFolders& scratch() const { return scratch_; }
  // Measures what was asked for, with a broker that has these pools, then calls `summarize`, whose
  // result goes into FILE. Returns the program's exit code.
  int run(std::vector<Case>& cases, const Pools& pools,
          const std::function<nlohmann::json()>& summarize);

 private:
  std::optional<std::string> summary_file_;
  ScratchFolders scratch_;  // after the private folders are there
};

}  // namespace opsplit::bench
