// Who attaches, and what takes an operator's place while requests flow.
#include <fmt/ranges.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "daemon/running_deployment.hpp"

namespace opsplit::daemon {

std::vector<std::string> RunningDeployment::awaited() const {
  std::vector<std::string> names;
  for (const RunningInstance& instance : instances_)
    if (instance.life.state() == Instance::State::awaited)
      names.push_back(planned_.plan.operators[instance.op].name);
  return names;
}

Result<ipc::Attachment> RunningDeployment::attach_operator(pid_t pid, std::string_view op,
                                                           const std::set<std::string>& can_run,
                                                           RunsOn runs_on) {
  if (phase_ != Phase::starting && phase_ != Phase::ready)
    return fail(ErrorCode::unavailable, "deployment '{}' does not run just now", name());
  if (find(pid) == nullptr) OPSPLIT_CHECK(take_in(pid, op, can_run, runs_on));
  const RunningInstance* instance = find(pid);
  if (instance == nullptr || instance->life.state() != Instance::State::starting)
    return fail(ErrorCode::refused, "deployment '{}' waits for no operator with pid {}", name(),
                pid);
  ipc::Attachment attachment = attachment_of(instance->launch);
  attachment.op = static_cast<std::int32_t>(instance->op);
  attachment.seat = instance->seat;
  attachment.cache = planned_.cache;
  attachment.weights =
      planned_.weights_file.empty() ? folder_ : planned_.weights_file.parent_path().string();
  attachment.cores = cores_of(*instance);
  if (is_on_gpu(*instance)) {
    OPSPLIT_TRY(attachment.gpu, assigned_gpu(*instance));
  }
  // A user's own program may do more than compute: it is only tried where another one serves meanwhile.
  const Backend backend =
      backend_in_file(planned_.deployment, planned_.plan.operators[instance->op].name);
  attachment.warm_up =
      instance->replaces || (backend != Backend::native && backend != Backend::attach);
  return attachment;
}

Result<> RunningDeployment::take_in(pid_t pid, std::string_view op,
                                    const std::set<std::string>& can_run, RunsOn runs_on) {
  RunningInstance* place = nullptr;
  const RunningInstance* taken = nullptr;
  for (RunningInstance& instance : instances_) {
    if (planned_.plan.operators[instance.op].name != op) continue;
    const bool is_awaited = instance.life.state() == Instance::State::awaited;
    if (is_awaited && (place == nullptr || instance.replaces)) place = &instance;
    taken = &instance;
  }
  if (taken == nullptr)
    return fail(ErrorCode::not_found, "deployment '{}' has no operator '{}': see `opsplit ps`",
                name(), op);
  if (place == nullptr && !attaches(*taken))
    return fail(
        ErrorCode::refused,
        "opsplitd itself starts operator '{}' of '{}' (`opsplit attach {}/{} -- PROGRAM` puts "
        "another program in its place)",
        op, name(), name(), op);
  if (place == nullptr)
    return fail(ErrorCode::already_exists, "operator '{}' of '{}' is there already: {}", op, name(),
                describe(*taken));
  std::vector<std::string> lacks;
  if (!planned_.op_types.empty() && !can_run.contains("*"))
    std::ranges::set_difference(planned_.op_types[place->op], can_run, std::back_inserter(lacks));
  if (!lacks.empty())
    return fail(ErrorCode::refused,
                "operator '{}' of '{}' has nodes of {}, which the program that attaches cannot run",
                op, name(), fmt::join(lacks, ", "));
  const bool on_gpu = is_on_gpu(*place);
  if (!(on_gpu ? runs_on.gpu : runs_on.cpus))
    return fail(ErrorCode::refused,
                "operator '{}' of '{}' runs on {}, which the program that attaches does not", op,
                name(), on_gpu ? "a GPU" : "CPUs");
  if (on_gpu) OPSPLIT_CHECK(assigned_gpu(*place));
  const auto identity = identify(pid);
  if (!identity)
    return fail(ErrorCode::refused,
                "operator '{}': its process cannot be seen from here: opsplitd "
                "and operators must share a PID namespace",
                op);
  OPSPLIT_TRY(FileDescriptor pidfd, open_pidfd(*identity));
  Process process{*identity, std::move(pidfd)};
  place->process = std::move(process);
  OPSPLIT_CHECK(confine(*place, planned_.cores[place->op].cpus));
  OPSPLIT_TRY(place->launch, new_launch_number());
  supervise(*place);
  return {};
}

Result<> RunningDeployment::can_swap(std::string_view op, Backend backend) const {
  const auto& operators = planned_.plan.operators;
  if (std::ranges::find(operators, op, &PlannedOperator::name) == operators.end())
    return fail(ErrorCode::not_found, "deployment '{}' has no operator '{}': see `opsplit ps`",
                name(), op);
  if (phase_ != Phase::ready)
    return fail(ErrorCode::unavailable, "deployment '{}' is not ready just now", name());
  if (swap_)
    return fail(ErrorCode::unavailable, "operator '{}' of '{}' is being swapped just now",
                operators[swap_->op].name, name());
  const bool others_start_all = planned_.deployment.attach;
  if (others_start_all && backend != Backend::attach)
    return fail(
        ErrorCode::refused,
        "deployment '{}' runs in containers, or others start its operators otherwise: opsplitd "
        "starts none (on the host: `opsplit swap {}/{} --backend {}`)",
        name(), name(), op, to_string(backend));
  const OperatorSettings settings = settings_of(planned_.deployment, op);
  if (settings.gpu && !runs_on_gpu(backend))
    return fail(ErrorCode::refused,
                "operator '{}' of '{}' runs on a GPU, and backend {} on CPUs only so far: "
                "native, pytorch and attach can take its place",
                op, name(), to_string(backend));
  if (backend != Backend::attach)
    OPSPLIT_CHECK(find_program(backend, settings.gpu.has_value(), context_.programs));
  if (const int wanted = settings.instances + settings.standby;
      wanted > 1 && backend == Backend::attach && !others_start_all)
    return fail(ErrorCode::refused,
                "operator '{}' of '{}' has {} instances, and one program cannot take their place: "
                "declare it `backend: attach` in the deployment file, and attach as many",
                op, name(), wanted);
  return {};
}

void RunningDeployment::swap(std::string_view op, Backend backend,
                             std::function<void(Result<>)> swapped) {
  if (const auto possible = can_swap(op, backend); !possible) return swapped(possible);
  const auto& operators = planned_.plan.operators;
  const auto found = std::ranges::find(operators, op, &PlannedOperator::name);
  swap_ = Swap{static_cast<std::uint32_t>(found - operators.begin()), backend, std::move(swapped)};
  if (const auto begun = start_replacements(swap_->op, backend); !begun)
    abandon_swap(begun.error());
}

Result<> RunningDeployment::start_replacements(std::uint32_t op, Backend backend) {
  const std::string& op_name = planned_.plan.operators[op].name;
  const OperatorSettings settings = settings_of(planned_.deployment, op_name);
  std::set<std::uint32_t> taken;
  for (const RunningInstance& instance : instances_)
    if (instance.op == op) taken.insert(instance.seat);
  std::uint32_t seat = 0;
  for (int left = settings.instances + settings.standby; left > 0; --left) {
    while (taken.contains(seat)) ++seat;
    if (seat >= ipc::seats_per_operator)
      return fail(ErrorCode::limit_exceeded,
                  "operator '{}' has {} instances: there is no room for as many beside them",
                  op_name, settings.instances + settings.standby);
    RunningInstance& instance = add_instance(op, seat++, backend);
    instance.replaces = true;
    if (!attaches(instance)) OPSPLIT_CHECK(launch(instance));
  }
  return {};
}

void RunningDeployment::abandon_swap(const Error& reason) {
  if (!swap_) return;
  const Swap abandoned = *std::exchange(swap_, std::nullopt);
  if (abandoned.switched) return abandoned.swapped({});
  for (RunningInstance& instance : instances_) {
    if (!std::exchange(instance.replaces, false)) continue;
    instance.timer.cancel();
    instance.life.told_to_stop();
    if (instance.running)
      context_.launcher.signal(instance.process, SIGKILL);
    else
      (void)instance.life.died(Clock::now());
  }
  spdlog::warn("{}/{}: not swapped: {}", name(), planned_.plan.operators[abandoned.op].name,
               reason.message);
  abandoned.swapped(tl::unexpected(reason));
}

// If all of them are ready.
void RunningDeployment::switch_to_replacements() {
  for (const RunningInstance& instance : instances_)
    if (instance.replaces && instance.life.state() != Instance::State::standby) return;
  for (RunningInstance& instance : instances_) {
    if (instance.op != swap_->op || instance.replaces) continue;
    if (instance.running)
      board_->participant(instance.launch)
          .mode.store(static_cast<std::uint32_t>(ipc::Mode::draining));
    if (instance.life.state() != Instance::State::stopping) end_when_done(instance);
  }
  for (RunningInstance& instance : instances_)
    if (std::exchange(instance.replaces, false)) claims_or_stands_by(instance);
  const std::string& op = planned_.plan.operators[swap_->op].name;
  // Where others start all, the file's says who is waited for.
  if (!planned_.deployment.attach) planned_.deployment.operators[op].backend = swap_->backend;
  swap_->switched = true;
  keep_for_successor();
  spdlog::info("{}/{}: swapped, backend {}", name(), op, to_string(swap_->backend));
}

// What they have counted is their successors'.
void RunningDeployment::forget_those_gone() {
  if (phase_ != Phase::ready) return;
  for (auto instance = instances_.begin(); instance != instances_.end();) {
    if (instance->life.state() != Instance::State::gone || instance->running) {
      ++instance;
      continue;
    }
    Past past = past_[{instance->op, instance->seat}];
    past_.erase({instance->op, instance->seat});
    past.restarts += instance->life.restarts();
    const auto op = instance->op;
    instance = instances_.erase(instance);
    const auto heir = std::ranges::find(instances_, op, &RunningInstance::op);
    if (heir != instances_.end()) past_[{op, heir->seat}].add(past);
  }
  if (!swap_ || !swap_->switched) return;
  for (const RunningInstance& instance : instances_)
    if (instance.op == swap_->op && instance.life.state() == Instance::State::stopping) return;
  std::exchange(swap_, std::nullopt)->swapped({});
}

}  // namespace opsplit::daemon
