// Operators on GPUs, and the device brokers that own the memory there.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <nlohmann/json.hpp>

#include "daemon/gpus.hpp"
#include "daemon/running_deployment.hpp"

namespace opsplit::daemon {

using nlohmann::json;

namespace {

constexpr auto pause_for_room = std::chrono::milliseconds(200);

}  // namespace

bool RunningDeployment::is_on_gpu(const RunningInstance& instance) const {
  return planned_.plan.operators[instance.op].gpu != PlannedTensor::none;
}

void RunningDeployment::add_device_brokers() {
  device_brokers_.clear();
  const std::vector<UsedGpu> gpus = used_gpus(planned_.deployment, planned_.plan);
  for (std::int32_t gpu = 0; gpu < static_cast<std::int32_t>(gpus.size()); ++gpu) {
    const UsedGpu& used = gpus[static_cast<std::size_t>(gpu)];
    device_brokers_.push_back(std::make_unique<DeviceBrokerProcess>(
        context_.io, context_.launcher,
        DeviceBrokerProcess::Spec{
            .program = context_.programs / "opsplit-device-broker",
            .socket = context_.device_folder / fmt::format("{}.{}.{}.sock", name(), epoch_, gpu),
            .log = context_.log_folder / name() / fmt::format("gpu.{}.{}.broker.log", gpu, epoch_),
            .device = used.device,
            .arena = {name(), epoch_},
            .shape = used.shape},
        DeviceBrokerProcess::Events{
            .serves = [this, gpu] { launch_operators_on(gpu); },
            .ended = [this,
                      gpu](const std::string& reason) { device_broker_ended(gpu, reason); }}));
  }
}

Result<> RunningDeployment::start_device_brokers() {
  add_device_brokers();
  for (const auto& broker : device_brokers_) OPSPLIT_CHECK(broker->launch());
  return {};
}

// Where one is gone (false), the epoch is lost: but not before whoever takes this deployment over knows it.
bool RunningDeployment::take_over_device_brokers() {
  bool all = true;
  add_device_brokers();
  for (std::int32_t gpu = 0; gpu < static_cast<std::int32_t>(device_brokers_.size()); ++gpu) {
    const auto taken = device_brokers_[static_cast<std::size_t>(gpu)]->take_over();
    if (taken) continue;
    all = false;
    boost::asio::post(context_.io, [weak = weak_from_this(), gpu, error = taken.error()] {
      if (const auto self = weak.lock()) self->device_broker_ended(gpu, error.message);
    });
  }
  return all;
}

void RunningDeployment::launch_operators_on(std::int32_t gpu) {
  if (phase_ != Phase::starting) return;
  for (RunningInstance& instance : instances_) {
    if (attaches(instance) || planned_.plan.operators[instance.op].gpu != gpu) continue;
    if (instance.running) continue;
    const auto launched = launch(instance);
    if (!launched) return fail_start(launched.error());
  }
  // Those on CPUs may have waited for this. Where all come later, the first is waited for.
  const bool has_one = std::ranges::any_of(instances_, [](const RunningInstance& instance) {
    const Instance::State state = instance.life.state();
    return state == Instance::State::ready || state == Instance::State::standby;
  });
  if (has_one) become_ready_if_complete();
}

// With the line of the file that asks for it.
std::string RunningDeployment::of_gpu(std::int32_t gpu, const std::string& reason) const {
  const auto gpus = used_gpus(planned_.deployment, planned_.plan);
  return fmt::format("{}: {}", gpus[static_cast<std::size_t>(gpu)].where, reason);
}

void RunningDeployment::device_broker_ended(std::int32_t gpu, const std::string& reason) {
  if (phase_ == Phase::stopping) return finish_stop_if_done();
  if (phase_ == Phase::retiring) return lose_retiring_epoch();
  if (phase_ != Phase::starting && phase_ != Phase::ready) return;
  const std::string what = of_gpu(gpu, reason);
  if (!was_ready_) return fail_start({ErrorCode::unavailable, what + " (see `opsplit doctor`)"});
  const bool has_operators = std::ranges::any_of(instances_, [&](const RunningInstance& instance) {
    return instance.launch != 0 && planned_.plan.operators[instance.op].gpu == gpu;
  });
  if (phase_ == Phase::ready || has_operators) return lose_epoch(gpu, reason);
  // Nobody has its memory yet.
  DeviceBrokerProcess& broker = *device_brokers_[static_cast<std::size_t>(gpu)];
  if (earlier_) {  // which may leave no room for it, but ends in a bounded time
    make_room();
    return broker.launch_at(Clock::now() + pause_for_room);
  }
  const auto again = device_broker_life_.died(Clock::now());
  if (!again) return fail_start({ErrorCode::unavailable, what});
  spdlog::warn("{}: {}", name(), what);
  broker.launch_at(*again);
}

// What waits for the GPU there cannot be answered any more, whoever would try.
void RunningDeployment::lose_retiring_epoch() {
  epoch_lost_ = true;  // found by the next tick()
  handover_->enter(ipc::EpochState::left);
}

void RunningDeployment::lose_epoch(std::int32_t gpu, const std::string& reason) {
  if (std::exchange(epoch_lost_, true)) return;
  device_brokers_[static_cast<std::size_t>(gpu)]->kill();
  context_.epoch_lost(name(), of_gpu(gpu, reason),
                      device_broker_life_.died(Clock::now()).has_value());
}

// An operator that has found its memory gone ends, maybe before its broker's death is known. What it held must not
// count as failed at a second operator that finds the same.
void RunningDeployment::look_for_lost_memory(const RunningInstance& instance) {
  const std::int32_t gpu = planned_.plan.operators[instance.op].gpu;
  if (gpu == PlannedTensor::none || (phase_ != Phase::ready && phase_ != Phase::retiring)) return;
  const DeviceBrokerProcess& broker = *device_brokers_[static_cast<std::size_t>(gpu)];
  if (!broker.serves() || broker.has_its_memory()) return;
  if (phase_ == Phase::retiring) return lose_retiring_epoch();
  lose_epoch(gpu, "the device broker has ended");
}

// Told to, where they have not.
bool RunningDeployment::device_brokers_have_ended() {
  for (const auto& broker : device_brokers_) broker->stop();
  return std::ranges::none_of(device_brokers_,
                              [](const auto& broker) { return broker->running(); });
}

Result<ipc::AssignedGpu> RunningDeployment::assigned_gpu(const RunningInstance& instance) const {
  const PlannedOperator& op = planned_.plan.operators[instance.op];
  const DeviceBrokerProcess& broker = *device_brokers_.at(static_cast<std::size_t>(op.gpu));
  if (!broker.serves())
    return fail(ErrorCode::unavailable, "operator '{}' of '{}': its GPU's memory is not there yet",
                op.name, name());
  return ipc::AssignedGpu{broker.uuid(), stream_priority(planned_.deployment, planned_.plan, op),
                          broker.spec().socket.string()};
}

std::set<std::filesystem::path> RunningDeployment::device_sockets() const {
  std::set<std::filesystem::path> sockets;
  for (const auto& broker : device_brokers_)
    if (broker->running()) sockets.insert(broker->spec().socket);
  return sockets;
}

json RunningDeployment::gpu_status() const {
  json gpus = json::array();
  for (const auto& broker : device_brokers_)
    gpus.push_back({{"device", broker->spec().device},
                    {"uuid", broker->serves() ? to_string(broker->uuid()) : "not there yet"},
                    {"broker", broker->pid()},
                    {"slot_bytes", broker->spec().shape.slot_bytes},
                    {"depth", broker->spec().shape.depth}});
  return gpus;
}

}  // namespace opsplit::daemon
