// The process around an operator: attaches to opsplitd, then claims, runs and commits tasks until it
// is told to end.
#pragma once

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "operators/operator.hpp"

namespace opsplit::operators {

struct HostOptions {
  std::filesystem::path socket;  // opsplitd's
  std::string deployment;
  std::string op;                // whose instance to be
  std::chrono::seconds wait{0};  // at most, for opsplitd, the deployment and the instance's place
};

// Which operators a program takes: those on CPUs, those that have a GPU, or both.
struct RunsOn {
  bool cpus = true;
  bool gpu = false;
};

struct OperatorKind {
  std::function<Result<std::unique_ptr<Operator>>(const OperatorSpec&)> make;
  std::vector<std::string> can_run;  // ONNX ops, or "*" for any; views are nobody's work
  // Made for a number of threads, and made again, on another thread, when that changes; not on a GPU.
  bool for_threads = true;
  RunsOn runs_on = {};
};

// Returns once `stop` is set (a signal handler may do that) or the epoch is over. Errors: opsplitd
// refused us, or the operator could not be made.
Result<> run_host(const HostOptions& options, const OperatorKind& kind,
                  const std::atomic<bool>& stop);

}  // namespace opsplit::operators
