// Which GPUs a deployment's operators run on, and how they share them. What the plan calls GPU 0, 1, ... is made here
// of what the deployment file says.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/plan.hpp"
#include "daemon/deployment.hpp"
#include "ipc/device_driver.hpp"
#include "ipc/device_memory.hpp"

namespace opsplit::daemon {

// For PlanOptions::gpus. Operators that name their GPU alike share its memory: one that is named by its number here
// and by its UUID there counts as two, between which the host copies.
std::map<std::string, std::int32_t, std::less<>> number_gpus(const Deployment& deployment);

// A GPU of the plan.
struct UsedGpu {
  std::string device;  // number or UUID
  std::string where;   // for messages: "digits.yaml:7: operators.conv.gpu: 0"
  ipc::DeviceArenaShape shape;
};
// By the plan's number. `deployment` is the one that was planned.
std::vector<UsedGpu> used_gpus(const Deployment& deployment, const Plan& plan);

// The file's; else `high` for an operator that costs less than the mean of those on GPUs, and `normal` for the others:
// short work that has to wait behind long work loses most. It orders streams of one process: processes take turns on a
// GPU whatever their priorities are (docs/deployment.md).
ipc::StreamPriority stream_priority(const Deployment& deployment, const Plan& plan,
                                    const PlannedOperator& op);

}  // namespace opsplit::daemon
