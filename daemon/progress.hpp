// Who makes progress, and who hangs: how long each instance has been at the task that it holds, or has
// left tasks of its operator alone that it could claim.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>

#include "base/system.hpp"
#include "daemon/deployment.hpp"
#include "ipc/handover.hpp"
#include "ipc/histogram.hpp"

namespace opsplit::daemon {

class Progress {
 public:
  // An instance that claims.
  struct Worker {
    ipc::LaunchNumber launch;
    std::uint32_t op;
  };
  // For each that has not moved from one look to the next, although it has work: the nanoseconds since
  // that was seen first. Those do not count in which a thread of its process was ready to run and the
  // machine busy with others, nor a long time between two looks: we were stopped then, as everybody may
  // have been.
  std::map<ipc::LaunchNumber, std::uint64_t> look(
      const ipc::Handover& handover, std::span<const Worker> workers, std::uint64_t now_ns,
      const std::function<CpuTime(ipc::LaunchNumber)>& cpu_time);

 private:
  struct At {
    std::optional<ipc::Claim> claim;  // none: it leaves work alone
    std::uint64_t tasks_done = 0;
    std::uint64_t spent_ns = 0;
    std::optional<CpuTime> cpu_time;  // at the last look, from the second one on
  };
  std::map<ipc::LaunchNumber, At> at_;
  std::uint64_t looked_ns_ = 0;
};

// How long an operator may take for a task, by its settings and by what its tasks have taken so far.
std::uint64_t patience_ns(const OperatorSettings& settings, const ipc::Histogram& tasks);

}  // namespace opsplit::daemon
