#include "daemon/gpus.hpp"

#include "daemon/preparation.hpp"

namespace opsplit::daemon {

std::map<std::string, std::int32_t, std::less<>> number_gpus(const Deployment& deployment) {
  std::map<std::string, std::int32_t> numbers;  // by device
  std::map<std::string, std::int32_t, std::less<>> gpus;
  for (const auto& [op, settings] : deployment.operators) {
    if (!settings.gpu) continue;
    const auto next = static_cast<std::int32_t>(numbers.size());
    gpus[op] = numbers.try_emplace(settings.gpu->device, next).first->second;
  }
  return gpus;
}

std::vector<UsedGpu> used_gpus(const Deployment& deployment, const Plan& plan) {
  std::vector<UsedGpu> used(plan.gpu_slot_bytes.size());
  for (const PlannedOperator& op : plan.operators) {
    if (op.gpu == PlannedTensor::none) continue;
    const auto number = static_cast<std::size_t>(op.gpu);
    const auto request = settings_of(deployment, op.name).gpu;
    if (!request || !used[number].device.empty()) continue;
    used[number] = {
        request->device,
        fmt::format("{}operators.{}.gpu: {}",
                    request->line == 0
                        ? ""
                        : fmt::format("{}:{}: ", deployment.file.native(), request->line),
                    op.name, request->device),
        ipc::shape_of(plan, number, static_cast<std::uint32_t>(deployment.depth))};
  }
  return used;
}

ipc::StreamPriority stream_priority(const Deployment& deployment, const Plan& plan,
                                    const PlannedOperator& op) {
  const auto request = settings_of(deployment, op.name).gpu;
  if (request && request->priority) return *request->priority;
  double sum = 0;
  std::size_t count = 0;
  for (const PlannedOperator& other : plan.operators) {
    if (other.gpu == PlannedTensor::none) continue;
    sum += other.cost;
    ++count;
  }
  return op.cost * static_cast<double>(count) < sum ? ipc::StreamPriority::high
                                                    : ipc::StreamPriority::normal;
}

}  // namespace opsplit::daemon
