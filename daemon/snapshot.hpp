// What runs at one moment, as `ps` with histograms replies it (daemon.hpp): what `opsplit top` and the
// metrics endpoint are made from, so that both show the same figures.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "ipc/histogram.hpp"

namespace opsplit::daemon {

// docs/monitoring.md says what each figure is.
struct InstanceSnapshot {
  std::string op;
  std::uint64_t instance = 0;
  std::string state;
  std::string cores;
  std::uint64_t restarts = 0;
  std::uint64_t in_flight = 0;
  std::uint64_t tasks_done = 0;
  std::uint64_t bytes_copied = 0;
  std::uint64_t cpu_ns = 0;
  std::uint64_t memory_bytes = 0;
  std::uint64_t busy_ns = 0, wait_ns = 0;
  ipc::Histogram run, wait;
};

struct DeploymentSnapshot {
  std::string name;
  std::string phase;
  std::uint64_t depth = 0, in_use = 0;  // slots
  std::uint64_t clients = 0;
  std::uint64_t requests_done = 0;
  std::uint64_t request_ns = 0;
  ipc::Histogram requests;  // answered
  std::vector<InstanceSnapshot> instances;
};

struct Snapshot {
  std::uint64_t time_ns = 0;  // CLOCK_MONOTONIC
  bool broker = false;        // runs
  std::vector<DeploymentSnapshot> deployments;
};

// Error invalid_input: a member has another type; those that are missing are empty.
Result<Snapshot> snapshot_of(const nlohmann::json& reply);

}  // namespace opsplit::daemon
