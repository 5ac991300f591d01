#include "daemon/running_deployment.hpp"

#include <fmt/ranges.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <nlohmann/json.hpp>

#include "ipc/weight_store.hpp"

namespace opsplit::daemon {
namespace {

using namespace std::chrono_literals;
using ipc::LaunchNumber;
using nlohmann::json;

constexpr auto start_timeout = 120s;  // for an instance to load its part
constexpr auto stop_grace = 3s;       // between SIGTERM and SIGKILL
constexpr auto tick_period = 50ms;
constexpr std::uintmax_t log_limit_bytes = 4 << 20;  // per instance; then it begins anew
constexpr std::uint64_t requests_to_measure = 100;   // before the operators' costs are believed
// Of all that a deployment has, over all its epochs.
constexpr RestartPolicy device_broker_policy{
    .max_deaths = 10, .window = 120s, .first_pause = 100ms};

Result<ipc::BoardLayout> board_layout(const Planned& planned) {
  return ipc::BoardLayout::of(planned.plan, static_cast<std::uint32_t>(planned.deployment.depth),
                              ipc::default_participants);
}

}  // namespace

RunningDeployment::RunningDeployment(Context& context, Planned planned, std::string folder,
                                     bool temporary)
    : context_(context),
      planned_(std::move(planned)),
      folder_(std::move(folder)),
      temporary_(temporary),
      device_broker_life_(device_broker_policy),
      tick_(context.io) {
  planned_.graph = {};
}

RunningDeployment::RunningDeployment(std::shared_ptr<RunningDeployment> earlier)
    : context_(earlier->context_),
      planned_(earlier->planned_),
      folder_(std::exchange(earlier->folder_, "")),
      temporary_(earlier->temporary_),
      phase_(Phase::stopped),
      was_ready_(true),
      costs_measured_(earlier->costs_measured_),
      earlier_(std::move(earlier)),
      epoch_(earlier_->epoch_),
      device_broker_life_(earlier_->device_broker_life_),
      tick_(context_.io) {
  keep_for_successor();  // first: else it would find an epoch that takes no requests
  earlier_->retire([this] {
    // Not from within its own end.
    boost::asio::post(context_.io, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->earlier_has_ended();
    });
  });
}

RunningDeployment::~RunningDeployment() {
  kill_instances();
  end_epoch();
  if (folder_.empty()) return;  // the next epoch has it, and the logs
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
  std::filesystem::remove_all(context_.log_folder / name(), ignored);
}

void RunningDeployment::kill_instances() {
  for (RunningInstance& instance : instances_) {
    if (!instance.running) continue;
    context_.launcher.signal(instance.process, SIGKILL);
    context_.launcher.reap(instance.process);
  }
}

void RunningDeployment::start(std::uint64_t epoch, std::function<void(Result<>)> started) {
  started_ = [before = std::exchange(started_, nullptr),
              started = std::move(started)](const Result<>& result) {
    if (before) before(result);
    started(result);
  };
  phase_ = Phase::starting;
  if (const auto begun = begin_epoch(epoch); !begun)
    fail_start(begun.error());
  else
    tick();
}

Result<> RunningDeployment::begin_epoch(std::uint64_t epoch) {
  const std::string folder = ipc::folder_path(name(), epoch);
  std::error_code moved;
  if (folder != folder_) std::filesystem::rename(folder_, folder, moved);
  if (moved) return fail_errno(moved.value(), "{}", folder);
  folder_ = folder;
  OPSPLIT_TRY(const ipc::BoardLayout layout, board_layout(planned_));
  OPSPLIT_TRY(ipc::Board board, ipc::Board::create(ipc::board_name(name(), epoch), layout, epoch));
  OPSPLIT_CHECK(supervise_board(std::move(board), epoch));
  OPSPLIT_CHECK(make_instances());
  keep_for_successor();
  OPSPLIT_CHECK(start_device_brokers());
  for (RunningInstance& instance : instances_)
    if (!attaches(instance) && !is_on_gpu(instance)) OPSPLIT_CHECK(launch(instance));
  return {};
}

// We are its supervisor from now on.
Result<> RunningDeployment::supervise_board(ipc::Board board, std::uint64_t epoch) {
  board_ = std::make_unique<ipc::Board>(std::move(board));
  handover_ = std::make_unique<ipc::Handover>(*board_, planned_.plan, context_.futex);
  epoch_ = epoch;
  OPSPLIT_TRY(own_launch_, new_launch_number());
  register_participant(own_launch_, own_identity(), ipc::no_operator_supervisor, 0,
                       ipc::Mode::active);
  return {};
}

// All that there are to be, none of them with a process.
Result<> RunningDeployment::make_instances() {
  std::error_code error;
  std::filesystem::create_directories(context_.log_folder / name(), error);
  if (error) return fail_errno(error.value(), "{}", (context_.log_folder / name()).string());
  for (const RunningInstance& instance : instances_)
    past_[{instance.op, instance.seat}].restarts += instance.life.restarts();
  instances_.clear();
  for (std::uint32_t op = 0; op < planned_.plan.operators.size(); ++op) {
    const std::string& op_name = planned_.plan.operators[op].name;
    const OperatorSettings settings = settings_of(planned_.deployment, op_name);
    const auto seats = static_cast<std::uint32_t>(settings.instances + settings.standby);
    for (std::uint32_t seat = 0; seat < seats; ++seat) add_instance(op, seat, settings.backend);
  }
  return {};
}

RunningDeployment::RunningInstance& RunningDeployment::add_instance(std::uint32_t op,
                                                                    std::uint32_t seat,
                                                                    Backend backend) {
  RunningInstance& instance = instances_.emplace_back(context_.io, op, backend);
  take_seat(instance, seat);
  if (attaches(instance)) instance.life.awaited();
  return instance;
}

void RunningDeployment::take_seat(RunningInstance& instance, std::uint32_t seat) const {
  instance.seat = seat;
  instance.log = context_.log_folder / name() /
                 fmt::format("{}.{}.log", planned_.plan.operators[instance.op].name, seat);
}

// Those that a predecessor was about to leave. Healthy operators end by themselves, when they see that
// nobody supervises them; one that hangs never does.
void RunningDeployment::kill_operators_of_earlier_epochs(std::uint64_t epoch) const {
  const auto layout = board_layout(planned_);
  for (std::uint64_t earlier = 1; layout && earlier < epoch; ++earlier) {
    const auto board = ipc::Board::open(ipc::board_name(name(), earlier), *layout, earlier);
    if (!board) continue;
    for (LaunchNumber launch = 0; launch < layout->participants; ++launch) {
      const ipc::Participant& record = board->participant(launch);
      if (record.launch.load() == 0 || record.op.load() >= layout->operators) continue;
      const ProcessIdentity identity{static_cast<pid_t>(record.pid.load()),
                                     record.start_time.load(), record.boot_id.load()};
      auto pidfd = open_pidfd(identity);
      if (pidfd) context_.launcher.signal({identity, std::move(*pidfd)}, SIGKILL);
    }
  }
}

Result<> RunningDeployment::take_over(const Standing& standing) {
  kill_operators_of_earlier_epochs(standing.epoch);
  const auto taken = take_over_epoch(standing);
  if (taken || !standing.restarting) return taken;
  // It has left this epoch, and its opsplitd died before it was ready in the next one.
  kill_instances();
  instances_.clear();
  if (handover_) handover_->enter(ipc::EpochState::left);
  end_epoch();
  epoch_ = standing.epoch;
  phase_ = Phase::stopped;
  was_ready_ = true;
  return {};
}

Result<> RunningDeployment::take_over_epoch(const Standing& standing) {
  const std::uint64_t epoch = standing.epoch;
  OPSPLIT_TRY(const ipc::BoardLayout layout, board_layout(planned_));
  OPSPLIT_TRY(ipc::Board board, ipc::Board::open(ipc::board_name(name(), epoch), layout, epoch));
  OPSPLIT_CHECK(supervise_board(std::move(board), epoch));
  OPSPLIT_CHECK(make_instances());
  // Those that claim first: a swap may have been under way, and they have the places.
  using enum ipc::Mode;
  for (const ipc::Mode mode : {active, standby, draining, loading})
    for (LaunchNumber record = 0; record < layout.participants; ++record) {
      const ipc::Participant& participant = board_->participant(record);
      const auto launch = participant.launch.load();
      const auto its = std::min(participant.mode.load(), static_cast<std::uint32_t>(draining));
      if (launch != own_launch_ && static_cast<ipc::Mode>(its) == mode)
        take_over_participant(static_cast<LaunchNumber>(launch));
    }
  if (handover_->epoch_state() != ipc::EpochState::running)
    return fail(ErrorCode::not_found, "it was about to end");
  if (!standing.ready) return fail(ErrorCode::not_found, "it was still starting");
  const bool has_memory = take_over_device_brokers();  // else operators end of themselves
  if (has_memory && std::none_of(instances_.begin(), instances_.end(),
                                 [](const RunningInstance& instance) { return instance.running; }))
    return fail(ErrorCode::not_found, "none of its operators is alive");
  phase_ = Phase::ready;
  was_ready_ = true;
  for (RunningInstance& instance : instances_) {
    if (!instance.running && !attaches(instance)) restart_at_or_give_up(instance, Clock::now());
    if (instance.life.state() == Instance::State::standby) claims_or_stands_by(instance);
  }
  tick();
  return {};
}

// Of an opsplitd that has died. Its record may be free, or not make sense: anybody could write there.
void RunningDeployment::take_over_participant(LaunchNumber launch) {
  const ipc::Participant& record = board_->participant(launch);
  if (launch == 0 || launch > ipc::max_launch_number || record.launch.load() != launch) return;
  const ProcessIdentity identity{static_cast<pid_t>(record.pid.load()), record.start_time.load(),
                                 record.boot_id.load()};
  const std::uint32_t op = record.op.load();
  auto pidfd = open_pidfd(identity);
  const bool alive = pidfd && !has_ended(*pidfd);
  if (alive && op == ipc::no_operator_client) {
    watch_client(launch, identity, std::move(*pidfd));
    return;
  }
  const std::uint32_t seat = record.seat.load();
  const auto mode = static_cast<ipc::Mode>(record.mode.load());
  const auto find_place = [&](auto&& fits) {
    return std::find_if(instances_.begin(), instances_.end(), [&](const auto& instance) {
      return instance.op == op && !instance.running && fits(instance);
    });
  };
  auto place = find_place([&](const auto& instance) { return instance.seat == seat; });
  // A swap gave it another seat.
  if (place == instances_.end() && (mode == ipc::Mode::active || mode == ipc::Mode::standby))
    place = find_place([](const auto&) { return true; });
  const bool has_place = place != instances_.end() && mode != ipc::Mode::draining;
  if (alive && op < planned_.plan.operators.size()) {
    RunningInstance& instance = has_place ? *place : add_instance(op, seat, Backend::native);
    take_seat(instance, std::min(seat, ipc::seats_per_operator - 1));
    instance.process = {identity, std::move(*pidfd)};
    instance.launch = launch;
    watch(instance);
    if (!has_place) {  // it was in the middle of a swap, coming or leaving
      instance.life.told_to_stop();
      context_.launcher.signal(instance.process, SIGKILL);
      return;
    }
    // One that still loads waits for an answer that died with its opsplitd.
    if (mode == ipc::Mode::loading)
      context_.launcher.signal(instance.process, SIGKILL);
    else if (mode == ipc::Mode::standby)
      instance.life.stands_by();
    else
      instance.life.became_ready();
    return;
  }
  const auto counters = ipc::Counters::copy_of(*board_, launch);
  if (op == ipc::no_operator_client)
    past_clients_.add(counters);
  else if (place != instances_.end())
    past_[{op, place->seat}].counters.add(counters);
  handover_->give_back(launch, "its process ended while no opsplitd was there to say how");
  release_participant(launch);
}

// Without it a successor stops the deployment, and says so.
void RunningDeployment::keep_for_successor() const {
  if (temporary_ || ending_) return;
  const auto saved = save(folder_, planned_,
                          {epoch_, phase_ == Phase::ready, was_ready_ && phase_ != Phase::ready,
                           context_.socket.parent_path()});
  if (!saved) spdlog::warn("{}: not kept for another opsplitd: {}", name(), saved.error().message);
}

Result<LaunchNumber> RunningDeployment::new_launch_number() {
  const std::uint32_t records = board_->layout().participants;
  auto& last = board_->header().last_launch;
  for (std::uint32_t i = 0; i < records && last.load() < ipc::max_launch_number; ++i)
    if (const LaunchNumber next = ++last; board_->participant(next).launch.load() == 0) return next;
  return fail(ErrorCode::limit_exceeded,
              "deployment '{}': all {} records of processes are taken, or their numbers used up "
              "(`opsplit down`, then `up`)",
              name(), records);
}

void RunningDeployment::register_participant(LaunchNumber launch, const ProcessIdentity& identity,
                                             std::uint32_t op, std::uint32_t seat, ipc::Mode mode) {
  ipc::Participant& record = board_->participant(launch);
  record.pid.store(static_cast<std::uint64_t>(identity.pid));
  record.start_time.store(identity.start_time);
  record.boot_id.store(identity.boot_id);
  record.op.store(op);
  record.seat.store(seat);
  record.mode.store(static_cast<std::uint32_t>(mode));
  record.tasks_done.store(0);
  record.busy_ns.store(0);
  record.bytes_copied.store(0);
  record.bell_waiters.store(0);
  record.cores_version.store(0);
  record.cores_followed.store(0);
  record.threads.store(0);
  record.wait_ns.store(0);
  ipc::Durations& durations = board_->durations(launch);
  for (auto* histogram : {&durations.run, &durations.wait})
    for (auto& count : histogram->counts) count.store(0, std::memory_order_relaxed);
  record.launch.store(launch);
}

void RunningDeployment::release_participant(LaunchNumber launch) {
  board_->participant(launch).launch.store(0);
}

Result<> RunningDeployment::launch(RunningInstance& instance) {
  const PlannedOperator& op = planned_.plan.operators[instance.op];
  const CoreAssignment& cores = planned_.cores[instance.op];
  Command command;
  OPSPLIT_TRY(const auto program,
              find_program(instance.backend, is_on_gpu(instance), context_.programs));
  command.arguments = {program.string(), "--socket", context_.socket.string(),
                       "--deployment",   name(),     "--operator",
                       op.name};
  // libgomp has no other way to be told. Its workers must not spin for long on cores that the next
  // operator needs now; but a little longer than a core takes to wake, so that the thread that has
  // its share done first need not sleep for the other.
  command.environment = {cores.exclusive ? "GOMP_SPINCOUNT=100000" : "GOMP_SPINCOUNT=5000"};
  command.cpus = cores.cpus;
  command.log = instance.log;
  if (!planned_.weights_file.empty() && planned_.weights_held)
    OPSPLIT_CHECK(ipc::restore_packed(*planned_.weights_held, planned_.weights_file));
  OPSPLIT_TRY(instance.launch, new_launch_number());
  OPSPLIT_TRY(instance.process, context_.launcher.launch(command));
  const auto given = context_.launcher.cpus(instance.process);
  instance.withheld = given ? without(cores.cpus, *given) : CpuSet{};
  supervise(instance);
  return {};
}

// Of a process that has just been launched or taken in.
void RunningDeployment::supervise(RunningInstance& instance) {
  // On the board before its first claim.
  register_participant(instance.launch, instance.process.identity, instance.op, instance.seat,
                       ipc::Mode::loading);
  watch(instance);
  instance.timer.at(Clock::now() + start_timeout, [this, &instance] {
    spdlog::error("{}: not ready within {} s: killed", describe(instance), start_timeout.count());
    context_.launcher.signal(instance.process, SIGKILL);
  });
}

void RunningDeployment::watch(RunningInstance& instance) {
  instance.running = true;
  instance.cpu_ns = 0;
  instance.life.launched();
  instance.death = Watch(context_.io, instance.process.pidfd.get(), Watch::readable,
                         [this, &instance] { on_death(instance); });
}

std::string RunningDeployment::describe(const RunningInstance& instance) const {
  return fmt::format("{}/{}.{} (pid {})", name(), planned_.plan.operators[instance.op].name,
                     number_of(instance), instance.process.identity.pid);
}

// Among those of its operator, for people.
std::size_t RunningDeployment::number_of(const RunningInstance& instance) const {
  std::size_t number = 0;
  for (const RunningInstance& other : instances_) {
    if (&other == &instance) break;
    number += other.op == instance.op ? 1 : 0;
  }
  return number;
}

RunningDeployment::RunningInstance* RunningDeployment::find(pid_t pid) {
  for (RunningInstance& instance : instances_)
    if (instance.running && instance.process.identity.pid == pid) return &instance;
  return nullptr;
}

ipc::Attachment RunningDeployment::attachment_of(LaunchNumber launch) const {
  ipc::Attachment attachment;
  attachment.deployment = name();
  attachment.epoch = epoch_;
  attachment.folder = folder_;
  attachment.depth = board_->layout().depth;
  attachment.participants = board_->layout().participants;
  attachment.arena_bytes = planned_.arena_bytes;
  attachment.launch = launch;
  attachment.runtime_name = fmt::format("{}.{}", name(), launch);
  attachment.outlives = !temporary_;
  return attachment;
}

ipc::AssignedCores RunningDeployment::cores_of(const RunningInstance& instance) const {
  const CoreAssignment& assigned = planned_.cores[instance.op];
  return {assigned.cpus, assigned.threads, {.spin_ns = ipc::awake_ns}};
}

Result<ipc::AssignedCores> RunningDeployment::assigned_cores(pid_t pid) {
  const RunningInstance* instance = find(pid);
  if (instance == nullptr)
    return fail(ErrorCode::refused, "deployment '{}' has no operator with pid {}", name(), pid);
  return cores_of(*instance);
}

Result<> RunningDeployment::confine(RunningInstance& instance, const CpuSet& cpus) {
  instance.withheld.clear();
  const auto set = context_.launcher.set_cpus(instance.process, cpus);
  if (!set && has_ended(instance.process.pidfd)) return {};  // its successor will have them
  OPSPLIT_CHECK(set);
  if (const auto given = context_.launcher.cpus(instance.process))
    instance.withheld = without(cpus, *given);
  return {};
}

Result<> RunningDeployment::set_cores(std::string_view op, const CoreRequest& request) {
  const auto& operators = planned_.plan.operators;
  if (std::none_of(operators.begin(), operators.end(),
                   [op](const PlannedOperator& known) { return known.name == op; }))
    return fail(ErrorCode::not_found, "deployment '{}' has no operator '{}': see `opsplit ps`",
                name(), op);
  Deployment changed = planned_.deployment;
  changed.operators[std::string(op)].cores = request;
  OPSPLIT_TRY(std::vector<CoreAssignment> cores, assign_cores(planned_, changed));
  OPSPLIT_CHECK(move_instances(cores));
  planned_.deployment = std::move(changed);
  planned_.cores = std::move(cores);
  keep_for_successor();
  spdlog::info("{}/{}: cores {}", name(), op, to_string(request));
  return {};
}

// To the cores that are about to be theirs. They ask for the rest when they see the version change,
// and find it when this thread has returned to its event loop.
Result<> RunningDeployment::move_instances(const std::vector<CoreAssignment>& cores) {
  std::vector<RunningInstance*> moved;
  Result<> result;
  for (RunningInstance& instance : instances_) {
    if (!instance.running || cores[instance.op] == planned_.cores[instance.op]) continue;
    moved.push_back(&instance);
    result = confine(instance, cores[instance.op].cpus);
    if (!result) break;
  }
  for (RunningInstance* instance : moved) {
    if (!result) (void)confine(*instance, planned_.cores[instance->op].cpus);
    // Moved back, too: no thread keeps to a CPU of its own any more.
    board_->participant(instance->launch).cores_version.fetch_add(1);
  }
  if (!moved.empty()) handover_->hint_everything();  // wakes those that sleep
  if (!result) return within(describe(*moved.back()), result.error());
  return {};
}

Result<> RunningDeployment::operator_ready(pid_t pid) {
  RunningInstance* instance = find(pid);
  if (instance == nullptr || instance->life.state() != Instance::State::starting)
    return fail(ErrorCode::refused, "deployment '{}' waits for no operator with pid {}", name(),
                pid);
  instance->timer.cancel();
  claims_or_stands_by(*instance);
  if (instance->replaces)
    switch_to_replacements();
  else
    become_ready_if_complete();
  return {};
}

void RunningDeployment::become_ready_if_complete() {
  if (phase_ != Phase::starting) return;
  for (const RunningInstance& instance : instances_) {
    const Instance::State state = instance.life.state();
    const std::string& op = planned_.plan.operators[instance.op].name;
    // With --attach all are attached, but those of the file need not come at once.
    const bool may_come_later = state == Instance::State::awaited &&
                                backend_in_file(planned_.deployment, op) == Backend::attach;
    if (state != Instance::State::ready && state != Instance::State::standby && !may_come_later)
      return;
  }
  // Nor is it ready if only operators that come later would miss their GPU.
  if (!std::ranges::all_of(device_brokers_, [](const auto& broker) { return broker->serves(); }))
    return;
  phase_ = Phase::ready;
  was_ready_ = true;
  if (!temporary_)
    for (const auto& broker : device_brokers_) broker->outlive();
  keep_for_successor();
  if (earlier_) earlier_->take_no_more_requests();
  if (const auto started = std::exchange(started_, nullptr)) started({});
}

void RunningDeployment::claims_or_stands_by(RunningInstance& instance) {
  const auto claiming =
      std::count_if(instances_.begin(), instances_.end(), [&](const RunningInstance& other) {
        return other.op == instance.op && other.life.state() == Instance::State::ready;
      });
  const std::string& op = planned_.plan.operators[instance.op].name;
  const bool claims =
      !instance.replaces && claiming < settings_of(planned_.deployment, op).instances;
  ipc::Participant& record = board_->participant(instance.launch);
  record.mode.store(static_cast<std::uint32_t>(claims ? ipc::Mode::active : ipc::Mode::standby));
  if (!claims) {
    instance.life.stands_by();
    return;
  }
  instance.life.became_ready();
  record.bell.fetch_add(1);
  context_.futex.wake(record.bell, 1);
  handover_->hint_everything();
}

void RunningDeployment::replace_with_standby(std::uint32_t op) {
  for (RunningInstance& instance : instances_)
    if (instance.op == op && instance.life.state() == Instance::State::standby &&
        !instance.replaces)
      return claims_or_stands_by(instance);
}

void RunningDeployment::kill_those_that_hang() {
  const auto cpu_time = [this](LaunchNumber launch) -> CpuTime {
    for (const RunningInstance& instance : instances_)
      if (instance.running && instance.launch == launch)
        return cpu_time_of(instance.process.identity.pid).value_or(CpuTime{});
    return {};
  };
  std::vector<Progress::Worker> workers;
  for (const RunningInstance& instance : instances_)
    if (instance.life.state() == Instance::State::ready)
      workers.push_back({instance.launch, instance.op});
  const auto spent_ns = progress_.look(*handover_, workers, context_.futex.now_ns(), cpu_time);
  for (RunningInstance& instance : instances_) {
    const auto found = spent_ns.find(instance.launch);
    if (found == spent_ns.end()) continue;
    const std::string& op = planned_.plan.operators[instance.op].name;
    if (found->second <
        patience_ns(settings_of(planned_.deployment, op), used_so_far(instance).counters.run))
      continue;
    spdlog::error("{}: no progress for {:.1f} s: killed", describe(instance),
                  static_cast<double>(found->second) / 1e9);
    instance.life.hangs();
    context_.launcher.signal(instance.process, SIGKILL);
  }
}

void RunningDeployment::on_death(RunningInstance& instance) {
  look_for_lost_memory(instance);
  instance.death.reset();
  instance.timer.cancel();
  remember(instance);
  instance.last_end = context_.launcher.reap(instance.process);
  if (instance.life.state() == Instance::State::hung)
    instance.last_end += ", since it made no progress";
  instance.running = false;
  const std::string words = attaches(instance) ? "" : last_words(instance.log);
  const std::string reason = fmt::format("{} ended with {}{}{}", describe(instance),
                                         instance.last_end, words.empty() ? "" : ": ", words);
  const auto given_back = handover_->give_back(instance.launch, reason);
  release_participant(instance.launch);
  std::optional<Deadline> restart_at;
  if (attaches(instance))
    instance.life.left();
  else
    restart_at = instance.life.died(Clock::now());
  if (phase_ == Phase::stopping) {
    finish_stop_if_done();
    return;
  }
  const bool swapped_out = instance.life.state() == Instance::State::gone;
  if (!swapped_out)
    spdlog::warn("{} ({} claims given back, {} requests failed by it)", reason, given_back.tasks,
                 given_back.poisoned);
  if (!epoch_lost_) replace_with_standby(instance.op);
  if (phase_ == Phase::retiring) return go_on_retiring();
  if (swapped_out) return;
  if (instance.replaces) return abandon_swap({ErrorCode::operator_failed, reason});
  if (attaches(instance)) return;  // whoever started it does so again
  if (phase_ == Phase::starting && !was_ready_) {
    fail_start({ErrorCode::operator_failed, reason});
    return;
  }
  restart_at_or_give_up(instance, restart_at);
}

void RunningDeployment::restart_at_or_give_up(RunningInstance& instance,
                                              std::optional<Deadline> restart_at) {
  if (!restart_at) {
    spdlog::error("{}: died too often, given up", describe(instance));
    if (phase_ == Phase::starting)
      fail_start({ErrorCode::operator_failed, fmt::format("{} died too often, last with {}",
                                                          describe(instance), instance.last_end)});
    return;
  }
  instance.timer.at(*restart_at, [this, &instance] {
    const auto launched = launch(instance);
    if (launched) return;
    spdlog::error("{}: {}", describe(instance), launched.error().message);
    restart_at_or_give_up(instance, instance.life.died(Clock::now()));
  });
}

void RunningDeployment::fail_start(Error error) {
  const auto started = std::exchange(started_, nullptr);
  stop([started, error] {
    if (started) started(tl::unexpected(error));
  });
}

void RunningDeployment::stop(std::function<void()> stopped) {
  const auto started = std::exchange(started_, nullptr);
  ending_ = true;
  // First: nobody would tell its operators so if we died when it is forgotten.
  if (handover_) handover_->enter(ipc::EpochState::over);
  if (!folder_.empty()) forget(folder_);  // else the next epoch has it
  if (phase_ == Phase::planned) phase_ = Phase::stopped;
  if (earlier_) earlier_->stop(nullptr);  // the one that waits for its end is there
  interrupt(std::move(stopped));
  if (started)
    started(fail(ErrorCode::unavailable, "deployment '{}' was stopped while it started", name()));
}

void RunningDeployment::interrupt(std::function<void()> stopped) {
  // A second caller waits together with the first.
  stopped_ = [before = std::exchange(stopped_, nullptr), stopped = std::move(stopped)] {
    if (before) before();
    if (stopped) stopped();
  };
  if (phase_ == Phase::starting || phase_ == Phase::ready || phase_ == Phase::retiring) {
    phase_ = Phase::stopping;
    if (handover_) handover_->enter(ipc::EpochState::over);
    end_instances();
  }
  finish_stop_if_done();
}

void RunningDeployment::end_instances() {
  abandon_swap({ErrorCode::unavailable, fmt::format("deployment '{}' was stopped", name())});
  for (RunningInstance& instance : instances_) end_instance(instance, stop_grace);
}

void RunningDeployment::end_instance(RunningInstance& instance, std::chrono::nanoseconds grace) {
  instance.timer.cancel();
  instance.life.told_to_stop();
  if (!instance.running) {
    (void)instance.life.died(Clock::now());
    return;
  }
  context_.launcher.signal(instance.process, SIGTERM);
  instance.timer.at(Clock::now() + grace, [this, &instance, grace] {
    spdlog::warn("{}: did not end within {} s: killed", describe(instance),
                 std::chrono::duration_cast<std::chrono::seconds>(grace).count());
    context_.launcher.signal(instance.process, SIGKILL);
  });
}

// With what it is at, as long as that may take.
void RunningDeployment::end_when_done(RunningInstance& instance) {
  const std::string& op = planned_.plan.operators[instance.op].name;
  const auto task =
      patience_ns(settings_of(planned_.deployment, op), used_so_far(instance).counters.run);
  end_instance(instance, stop_grace + std::chrono::nanoseconds(task));
}

void RunningDeployment::retire(std::function<void()> stopped) {
  abandon_swap({ErrorCode::unavailable, "its broker has ended: try again"});
  phase_ = Phase::retiring;
  ending_ = true;
  stopped_ = std::move(stopped);
  handover_->enter(epoch_lost_ ? ipc::EpochState::left : ipc::EpochState::followed);
  for (RunningInstance& instance : instances_) {
    // Whoever starts it will start it for the next epoch, when it has left this one.
    const bool is_leaving = instance.life.state() == Instance::State::stopping ||
                            instance.life.state() == Instance::State::gone;
    if (attaches(instance) && !is_leaving) take_no_more_requests();
    if (instance.life.state() == Instance::State::backing_off) instance.timer.cancel();
    // It could not get the arena any more.
    if (instance.life.state() == Instance::State::starting)
      context_.launcher.signal(instance.process, SIGKILL);
  }
}

void RunningDeployment::take_no_more_requests() {
  if (phase_ != Phase::retiring || handover_->epoch_state() != ipc::EpochState::followed) return;
  end_of_retirement_ = Clock::now() + ipc::longest_retirement;
  handover_->enter(ipc::EpochState::retiring);
}

void RunningDeployment::make_room() {
  if (earlier_) earlier_->take_no_more_requests();
}

void RunningDeployment::go_on_retiring() {
  const std::uint32_t left = handover_->requests_under_way();
  const auto can_go_on = [this](std::uint32_t op) {
    return std::any_of(instances_.begin(), instances_.end(), [op](const RunningInstance& i) {
      using enum Instance::State;
      const auto state =
          i.life.state();  // one that hangs is about to die: then this is asked again
      return i.op == op && i.running && (state == ready || state == standby || state == hung);
    });
  };
  std::uint32_t op = 0;
  while (op < planned_.plan.operators.size() && can_go_on(op)) ++op;
  const bool stuck = epoch_lost_ || op < planned_.plan.operators.size();
  if (!stuck && handover_->epoch_state() == ipc::EpochState::followed) return;
  if (left != 0 && !stuck && Clock::now() < end_of_retirement_) return;
  handover_->enter(ipc::EpochState::retiring);  // no slot is taken from here on
  // An answer may be read for as long as its client likes.
  handover_->enter(handover_->all_retired() ? ipc::EpochState::drained : ipc::EpochState::left);
  if (left != 0)
    spdlog::warn("{}: epoch {} ends with {} requests under way: {}", name(), epoch_, left,
                 epoch_lost_ ? "its memory on a GPU is lost"
                 : stuck ? fmt::format("operator '{}' has died", planned_.plan.operators[op].name)
                         : "they take too long");
  interrupt(nullptr);
}

void RunningDeployment::earlier_has_ended() {
  for (const RunningInstance& instance : earlier_->instances_) {
    // There its seat may be another one, after a swap.
    Past& past = past_[{instance.op, static_cast<std::uint32_t>(earlier_->number_of(instance))}];
    past.add(earlier_->used_so_far(instance));
    past.restarts += instance.life.restarts();
  }
  past_clients_.add(earlier_->clients_so_far());
  past_requests_ += earlier_->requests_done();
  earlier_.reset();
  if (phase_ == Phase::stopping || (ending_ && phase_ == Phase::stopped)) finish_stop_if_done();
}

void RunningDeployment::finish_stop_if_done() {
  if (ending_ && earlier_) return;
  if (std::any_of(instances_.begin(), instances_.end(),
                  [](const RunningInstance& instance) { return instance.running; }))
    return;
  if (!device_brokers_have_ended()) return;
  end_epoch();
  if (phase_ != Phase::planned) phase_ = Phase::stopped;
  // It may destroy this object: last.
  if (const auto stopped = std::exchange(stopped_, nullptr)) stopped();
}

void RunningDeployment::end_epoch() {
  tick_.cancel();
  device_brokers_.clear();
  epoch_lost_ = false;
  if (handover_) handover_->enter(ipc::EpochState::over);
  if (board_) {
    past_requests_ = own_requests_done();
    for (const auto& [launch, client] : clients_)
      past_clients_.add(ipc::Counters::copy_of(*board_, launch));
  }
  clients_.clear();
  if (board_) ipc::Board::remove(ipc::board_name(name(), epoch_));
  handover_.reset();
  board_.reset();
}

Result<ipc::Attachment> RunningDeployment::attach_client(const ProcessIdentity& client) {
  // One record stays free for a restarted operator.
  if (clients_.size() + instances_.size() + 2 >= board_->layout().participants)
    return fail(ErrorCode::limit_exceeded, "deployment '{}': {} clients are attached already",
                name(), clients_.size());
  OPSPLIT_TRY(FileDescriptor pidfd, open_pidfd(client));
  OPSPLIT_TRY(const LaunchNumber launch, new_launch_number());
  register_participant(launch, client, ipc::no_operator_client, 0, ipc::Mode::active);
  watch_client(launch, client, std::move(pidfd));
  ipc::Attachment attachment = attachment_of(launch);
  attachment.slots_per_client = static_cast<std::uint32_t>(planned_.deployment.slots_per_client);
  return attachment;
}

void RunningDeployment::watch_client(LaunchNumber launch, const ProcessIdentity& identity,
                                     FileDescriptor pidfd) {
  AttachedClient& entry = clients_[launch];
  entry.identity = identity;
  entry.pidfd = std::move(pidfd);
  entry.death = Watch(context_.io, entry.pidfd.get(), Watch::readable,
                      [this, launch] { on_client_death(launch); });
}

Result<> RunningDeployment::introduce_client(const ProcessIdentity& client, std::uint64_t epoch,
                                             LaunchNumber launch) {
  const auto entry = clients_.find(launch);
  if (epoch != epoch_ || entry == clients_.end() || entry->second.identity != client)
    return fail(ErrorCode::not_found, "deployment '{}' has no such client", name());
  entry->second.connected = true;
  return {};
}

void RunningDeployment::client_disconnected(LaunchNumber client) {
  const auto entry = clients_.find(client);
  if (entry != clients_.end()) entry->second.connected = false;
}

void RunningDeployment::on_client_death(LaunchNumber launch) {
  const auto given_back = handover_->give_back(launch, "");
  if (given_back.slots != 0)
    spdlog::info("{}: a client (pid {}) died with {} requests in flight", name(),
                 clients_.at(launch).identity.pid, given_back.slots);
  past_clients_.add(ipc::Counters::copy_of(*board_, launch));
  release_participant(launch);
  clients_.erase(launch);
}

// Goes on with closes that had to wait for a claim, forgets clients that have left, keeps logs
// bounded, and answers for operators that failed.
void RunningDeployment::tick() {
  std::vector<LaunchNumber> holders;
  for (std::uint32_t slot = 0; slot < board_->layout().depth; ++slot) {
    handover_->advance_closing(slot);
    holders.push_back(ipc::SlotWord::unpack(board_->slot(slot).word.load()).holder);
  }
  std::erase_if(clients_, [&](const auto& client) {
    const auto& [launch, entry] = client;
    if (entry.connected || std::find(holders.begin(), holders.end(), launch) != holders.end())
      return false;
    past_clients_.add(ipc::Counters::copy_of(*board_, launch));
    release_participant(launch);
    return true;
  });
  for (const RunningInstance& instance : instances_) {
    std::error_code ignored;
    if (std::filesystem::file_size(instance.log, ignored) > log_limit_bytes && !ignored)
      std::filesystem::resize_file(instance.log, 0, ignored);
  }
  kill_those_that_hang();
  refuse_requests_of_failed_operators();
  forget_those_gone();
  if (phase_ == Phase::retiring) go_on_retiring();
  if (phase_ != Phase::starting && phase_ != Phase::ready && phase_ != Phase::retiring) return;
  divide_cores_by_measured_cost();
  tick_.at(Clock::now() + tick_period, [this] { tick(); });
}

// Once, where cores are divided by cost: the plan only knows an estimate of it.
void RunningDeployment::divide_cores_by_measured_cost() {
  if (planned_.deployment.objective != Objective::throughput || costs_measured_ ||
      phase_ != Phase::ready || requests_done() < requests_to_measure)
    return;
  costs_measured_ = true;
  std::vector<double> costs(planned_.costs.size(), 0);
  for (const RunningInstance& instance : instances_)
    costs[instance.op] += static_cast<double>(used_so_far(instance).counters.busy_ns) *
                          planned_.cores[instance.op].threads;
  const std::vector<double> estimated = std::exchange(planned_.costs, std::move(costs));
  auto cores = assign_cores(planned_, planned_.deployment);
  const auto moved = cores ? move_instances(*cores) : tl::unexpected(cores.error());
  if (!moved) {
    spdlog::warn("{}: cores stay divided by estimated cost: {}", name(), moved.error().message);
    planned_.costs = estimated;
    return;
  }
  if (*cores == planned_.cores) return;
  planned_.cores = std::move(*cores);
  keep_for_successor();
  spdlog::info("{}: cores divided anew, by what {} requests took", name(), requests_done());
}

void RunningDeployment::refuse_requests_of_failed_operators() {
  for (std::uint32_t op = 0; op < planned_.plan.operators.size(); ++op) {
    const RunningInstance* failed = nullptr;
    bool all_failed = true;
    for (const RunningInstance& instance : instances_) {
      if (instance.op != op || instance.replaces) continue;
      failed = &instance;
      all_failed = all_failed && instance.life.state() == Instance::State::failed;
    }
    if (!all_failed || failed == nullptr) continue;
    while (const auto claim = handover_->sweep(op, own_launch_)) {
      const std::string words = last_words(failed->log);
      handover_->write_failure(*claim,
                               fmt::format("it died too often, last with {}{}{}", failed->last_end,
                                           words.empty() ? "" : ": ", words));
      handover_->commit(*claim, own_launch_, ipc::TaskState::failed);
    }
  }
}

}  // namespace opsplit::daemon
