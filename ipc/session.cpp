#include "ipc/session.hpp"

#include <poll.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "ipc/message_socket.hpp"

namespace opsplit::ipc {

using nlohmann::json;

std::string board_name(std::string_view deployment, std::uint64_t epoch) {
  return fmt::format("opsplit.{}.{}.board", deployment, epoch);
}

std::string folder_path(std::string_view deployment, std::uint64_t epoch) {
  return fmt::format("/dev/shm/opsplit.{}.{}", deployment, epoch);
}

json to_json(const AssignedCores& cores) {
  return {{"cpus", opsplit::to_string(cores.cpus)},
          {"threads", cores.threads},
          {"spin_ns", cores.worker.spin_ns},
          {"measure", cores.worker.measure}};
}

Result<AssignedCores> assigned_cores_from_json(const json& j) try {
  AssignedCores cores;
  OPSPLIT_TRY(cores.cpus, parse_cpus(j.at("cpus").get<std::string>()));
  j.at("threads").get_to(cores.threads);
  j.at("spin_ns").get_to(cores.worker.spin_ns);
  j.at("measure").get_to(cores.worker.measure);
  if (cores.threads < 1 || cores.threads > max_cpus)
    return fail(ErrorCode::refused, "opsplitd's answer is out of range: {} threads", cores.threads);
  return cores;
} catch (const json::exception& error) {
  return fail(ErrorCode::refused, "opsplitd's answer is not understood (another version?): {}",
              error.what());
}

namespace {

json to_json(const AssignedGpu& gpu) {
  return {
      {"uuid", to_string(gpu.uuid)}, {"priority", to_string(gpu.priority)}, {"broker", gpu.broker}};
}

Result<AssignedGpu> assigned_gpu_from_json(const json& j) {
  AssignedGpu gpu;
  OPSPLIT_TRY(gpu.uuid, parse_device_uuid(j.at("uuid").get<std::string>()));
  const auto priority = stream_priority_from_string(j.at("priority").get<std::string>());
  if (!priority) return fail(ErrorCode::refused, "opsplitd's answer has an unknown priority");
  gpu.priority = *priority;
  j.at("broker").get_to(gpu.broker);
  return gpu;
}

}  // namespace

json to_json(const Attachment& a) {
  json result = {{"deployment", a.deployment},
                 {"epoch", a.epoch},
                 {"folder", a.folder},
                 {"cache", a.cache},
                 {"weights", a.weights},
                 {"depth", a.depth},
                 {"participants", a.participants},
                 {"arena_bytes", a.arena_bytes},
                 {"launch", a.launch},
                 {"runtime_name", a.runtime_name},
                 {"outlives", a.outlives},
                 {"op", a.op},
                 {"seat", a.seat},
                 {"slots_per_client", a.slots_per_client}};
  if (a.op >= 0) {
    result["cores"] = to_json(a.cores);
    result["warm_up"] = a.warm_up;
    if (a.gpu) result["gpu"] = to_json(*a.gpu);
  }
  return result;
}

Result<Attachment> attachment_from_json(const json& j) try {
  Attachment a;
  j.at("deployment").get_to(a.deployment);
  j.at("epoch").get_to(a.epoch);
  j.at("folder").get_to(a.folder);
  j.at("cache").get_to(a.cache);
  j.at("weights").get_to(a.weights);
  j.at("depth").get_to(a.depth);
  j.at("participants").get_to(a.participants);
  j.at("arena_bytes").get_to(a.arena_bytes);
  j.at("launch").get_to(a.launch);
  j.at("runtime_name").get_to(a.runtime_name);
  j.at("outlives").get_to(a.outlives);
  j.at("op").get_to(a.op);
  j.at("seat").get_to(a.seat);
  if (a.op >= 0) {
    OPSPLIT_TRY(a.cores, assigned_cores_from_json(j.at("cores")));
    j.at("warm_up").get_to(a.warm_up);
    if (j.contains("gpu")) {
      OPSPLIT_TRY(a.gpu, assigned_gpu_from_json(j.at("gpu")));
    }
  }
  j.at("slots_per_client").get_to(a.slots_per_client);
  if (a.launch == 0 || a.launch > max_launch_number || a.seat >= seats_per_operator)
    return fail(ErrorCode::refused, "opsplitd's answer is out of range");
  return a;
} catch (const json::exception& error) {
  return fail(ErrorCode::refused, "opsplitd's answer is not understood (another version?): {}",
              error.what());
}

Session::Session(Attachment attachment, Plan plan, Board board, Arena arena,
                 std::shared_ptr<Futex> futex)
    : attachment_(std::move(attachment)),
      futex_(std::move(futex)),
      plan_(std::move(plan)),
      board_(std::move(board)),
      arena_(std::move(arena)),
      handover_(board_, plan_, *futex_),
      places_(board_, plan_, arena_.bytes()) {}

// The segment of an epoch's broker lives on as long as anybody has mapped it, idle clients too.
Session::~Session() {
  if (handover_.epoch_state() == EpochState::drained) arena_.discard();
}

void Session::keep(std::unique_ptr<MessageSocket> control) {
  const std::lock_guard lock(mutex_);
  control_ = std::move(control);
}

bool Session::supervised() const {
  const std::lock_guard lock(mutex_);
  if (!control_) return true;
  pollfd end{control_->fd(), POLLRDHUP, 0};
  return ::poll(&end, 1, 0) == 0;
}

bool Session::supervisor_lives() const {
  for (LaunchNumber launch = 0; launch < board_.layout().participants; ++launch) {
    const Participant& record = board_.participant(launch);
    if (record.launch.load() == 0 || record.op.load() != no_operator_supervisor) continue;
    const auto pidfd = open_pidfd(
        {static_cast<pid_t>(record.pid.load()), record.start_time.load(), record.boot_id.load()});
    if (pidfd && !has_ended(*pidfd)) return true;
  }
  return false;
}

Result<Plan> read_plan(const Attachment& attachment) {
  const std::string plan_file = attachment.folder + "/plan.json";
  std::ifstream stream(plan_file);
  if (!stream) return fail_errno(errno, "{}", plan_file);
  auto plan = plan_from_json(json::parse(stream, nullptr, /*allow_exceptions=*/false));
  if (!plan) return within(plan_file, plan.error());
  OPSPLIT_TRY(const std::uint64_t needed, arena_bytes(*plan, attachment.depth));
  if (needed > attachment.arena_bytes ||
      attachment.op >= static_cast<std::int32_t>(plan->operators.size()))
    return fail(ErrorCode::refused, "{}: does not go with opsplitd's answer", plan_file);
  return plan;
}

Result<std::unique_ptr<Session>> Session::open(const Attachment& attachment,
                                               std::shared_ptr<Futex> futex, Deadline deadline) {
  OPSPLIT_TRY(Plan plan, read_plan(attachment));
  return open(attachment, std::move(plan), std::move(futex), deadline);
}

Result<std::unique_ptr<Session>> Session::open(const Attachment& attachment, Plan plan,
                                               std::shared_ptr<Futex> futex, Deadline deadline) {
  OPSPLIT_TRY(const BoardLayout layout,
              BoardLayout::of(plan, attachment.depth, attachment.participants));
  OPSPLIT_TRY(Board board, Board::open(board_name(attachment.deployment, attachment.epoch), layout,
                                       attachment.epoch));
  OPSPLIT_TRY(Arena arena,
              Arena::attach(attachment.runtime_name, {attachment.deployment, attachment.epoch},
                            attachment.arena_bytes, deadline));
  return std::unique_ptr<Session>(new Session(attachment, std::move(plan), std::move(board),
                                              std::move(arena), std::move(futex)));
}

}  // namespace opsplit::ipc
