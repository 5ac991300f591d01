#include "bench/board_hop.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/system.hpp"

namespace opsplit::bench {
namespace {

constexpr std::uint64_t client_bytes = 64;  // of the graph's input and output
constexpr const char* board_file = "/dev/shm/opsplit.hop.1.board";
constexpr const char* plan_folder = "/dev/shm/opsplit.hop.1";
constexpr const char* plan_file = "/dev/shm/opsplit.hop.1/plan.json";
// Longer than any hop, so that an operator never falls asleep between two.
constexpr std::uint64_t spin_ns = 100'000'000;

std::uint64_t place_bytes(std::uint64_t payload) { return (payload + 63) / 64 * 64; }

// Task i belongs to operator i % operators. Its output lies in one of two places, by turns; the
// client's tensors, which nothing else may overlap, are small.
Plan chain_plan(const Setting& setting) {
  const std::int32_t tasks = setting.warm_hops + setting.timed_hops + 1;
  Plan plan;
  plan.model = "chain";
  plan.split = "by hand";
  plan.slot_bytes = board_arena_bytes(setting);
  const std::uint64_t place = place_bytes(setting.payload);
  for (std::int32_t i = 0; i <= tasks; ++i) {
    const bool of_client = i == 0 || i == tasks;
    const std::uint64_t bytes = of_client ? client_bytes : setting.payload;
    PlannedTensor tensor;
    tensor.name = fmt::format("tensor{}", i);
    tensor.type = {float32, {static_cast<std::int64_t>(bytes / sizeof(float))}};
    tensor.bytes = bytes;
    if (of_client)
      tensor.offset = 2 * place + (i == 0 ? 0 : client_bytes);
    else
      tensor.offset = i % 2 == 0 ? 0 : place;
    tensor.producer = i - 1;  // of tensor 0: -1, the client
    if (i < tasks) tensor.readers = {i};
    plan.tensors.push_back(tensor);
  }
  for (std::int32_t i = 0; i < setting.processes; ++i) {
    const std::string name = fmt::format("op{}", i);
    plan.operators.push_back({name, name + ".onnx", {}, 0});
  }
  for (std::int32_t i = 0; i < tasks; ++i) {
    PlannedTask task;
    task.name = fmt::format("task{}", i);
    task.op = i % setting.processes;
    task.nodes = {task.name};
    task.inputs = {i};
    task.outputs = {i + 1};
    if (i > 0) task.producers = {i - 1};
    if (i + 1 < tasks) task.consumers = {i + 1};
    task.reads_client = i == 0;
    task.feeds_client = i + 1 == tasks;
    plan.operators[static_cast<std::size_t>(task.op)].tasks.push_back(i);
    plan.tasks.push_back(task);
  }
  plan.inputs = {0};
  plan.outputs = {tasks};
  return plan;
}

// One operator; TaskRunner of operators/host.cpp, with reading and writing for a kernel.
class Operator {
 public:
  Operator(ipc::Session& session, const Setting& setting, Control& control)
      : session_(session), setting_(setting), control_(control) {}

  // As kernel().
  Result<std::uint64_t> run(const ipc::Claim& claim) {
    const ipc::Places& places = session_.places();
    const PlannedTask& task = session_.plan().tasks[claim.task];
    inputs_.clear();
    outputs_.clear();
    for (const std::int32_t tensor : task.inputs) {
      OPSPLIT_TRY(const auto placed, places.read(claim.slot, claim.generation, tensor));
      inputs_.push_back(placed);
    }
    for (const std::int32_t tensor : task.outputs)
      outputs_.push_back(places.write(claim.slot, tensor));
    const std::uint64_t copied = kernel(static_cast<int>(claim.task));
    for (const std::int32_t tensor : task.outputs)
      places.write_header(claim.slot, claim.generation, tensor);
    return copied;
  }

 private:
  // Returns how many bytes it copied.
  std::uint64_t kernel(int task) {
    if (task == setting_.warm_hops) control_.begin_ns.store(system_futex.now_ns());
    if (task == setting_.warm_hops + setting_.timed_hops)
      control_.end_ns.store(system_futex.now_ns());
    if (setting_.copied) {
      const std::uint64_t bytes = std::min(inputs_[0].bytes, outputs_[0].bytes);
      std::memcpy(outputs_[0].data, inputs_[0].data, bytes);
      return bytes;
    }
    if (!setting_.touched) return 0;
    for (const auto& input : inputs_) read_all({input.data, input.bytes});
    for (const auto& output : outputs_) write_all({output.data, output.bytes});
    return 0;
  }

  ipc::Session& session_;
  const Setting& setting_;
  Control& control_;
  std::vector<ipc::PlacedTensor> inputs_, outputs_;
};

Result<> run_operator(const ipc::Attachment& attachment, const Setting& setting, Control& control) {
  const Deadline deadline = Clock::now() + std::chrono::seconds(10);
  OPSPLIT_TRY(const auto session,
              ipc::Session::open(attachment, std::make_shared<ipc::SystemFutex>(), deadline));
  ipc::Worker worker(session->handover(), static_cast<std::uint32_t>(attachment.op),
                     attachment.launch, attachment.seat, attachment.cores.worker);
  Operator op(*session, setting, control);
  Crew::join(control);
  while (control.quit.load(std::memory_order_relaxed) == 0 && !session->over()) {
    const auto claim = worker.next();
    if (!claim) continue;
    Result<std::uint64_t> ran = 0;
    if (!claim->input_failed) {
      ran = op.run(*claim);
      if (!ran) session->handover().write_failure(*claim, ran.error().message);
    }
    const bool failed = claim->input_failed || !ran;
    worker.commit(*claim, failed ? ipc::TaskState::failed : ipc::TaskState::done, ran.value_or(0));
  }
  return {};
}

}  // namespace

std::uint64_t board_arena_bytes(const Setting& setting) {
  return 2 * place_bytes(setting.payload) + 2 * client_bytes;
}

void BoardHop::remove_files() {
  ::unlink(board_file);
  ::unlink(plan_file);
  ::rmdir(plan_folder);
}

BoardHop::BoardHop(const Setting& setting, Plan plan, ipc::Board board)
    : setting_(setting),
      plan_(std::move(plan)),
      board_(std::move(board)),
      handover_(board_, plan_, system_futex),
      places_(board_, plan_, {}),  // we write headers only
      client_(static_cast<ipc::LaunchNumber>(setting.processes) + 1) {}

Result<std::unique_ptr<Contender>> BoardHop::start(const Setting& setting, Waiting waiting,
                                                   bool measure) {
  remove_files();
  Plan plan = chain_plan(setting);
  OPSPLIT_CHECK(validate(plan));
  OPSPLIT_TRY(const auto layout, ipc::BoardLayout::of(plan, 1, ipc::default_participants));
  OPSPLIT_TRY(auto board, ipc::Board::create(ipc::board_name(board_deployment, board_epoch), layout,
                                             board_epoch));
  ::mkdir(plan_folder, 0700);
  std::ofstream(plan_file) << to_json(plan);
  std::unique_ptr<BoardHop> hop(new BoardHop(setting, std::move(plan), std::move(board)));
  OPSPLIT_CHECK(hop->start_operators(waiting, measure));
  return hop;
}

Result<> BoardHop::start_operators(Waiting waiting, bool measure) {
  ipc::Attachment attachment;
  attachment.deployment = board_deployment;
  attachment.epoch = board_epoch;
  attachment.folder = plan_folder;
  attachment.depth = 1;
  attachment.participants = ipc::default_participants;
  attachment.arena_bytes = plan_.slot_bytes;
  attachment.runtime_name = "hop";
  attachment.cores.worker.measure = measure;
  if (waiting == Waiting::spinning) attachment.cores.worker.spin_ns = spin_ns;
  // Before they start: a worker claims as soon as it is there, in whatever order.
  for (ipc::LaunchNumber launch = 1; launch <= client_; ++launch)
    register_participant(launch, ::getpid());
  OPSPLIT_TRY(crew_, Crew::start(setting_, [&](int index, Control& control) {
                attachment.op = index;
                attachment.launch = static_cast<ipc::LaunchNumber>(index) + 1;
                return run_operator(attachment, setting_, control);
              }));
  for (ipc::LaunchNumber launch = 1; launch < client_; ++launch)
    register_participant(launch, crew_->pid(launch - 1));
  return {};
}

void BoardHop::register_participant(ipc::LaunchNumber launch, pid_t pid) {
  ipc::Participant& record = board_.participant(launch);
  record.pid.store(static_cast<std::uint64_t>(pid));
  record.mode.store(static_cast<std::uint32_t>(ipc::Mode::active));
  record.launch.store(launch);
}

BoardHop::~BoardHop() {
  if (crew_) {
    crew_->control().quit.store(1);
    handover_.enter(ipc::EpochState::over);
    handover_.hint_everything();  // wakes whoever sleeps
    crew_.reset();
  }
  remove_files();
}

Result<double> BoardHop::run() {
  const auto hold = handover_.take_slot(client_);
  if (!hold) return fail(ErrorCode::unavailable, "the slot of the last request is not free");
  places_.write_header(hold->slot, hold->generation, plan_.inputs.front());
  ipc::Participant& self = board_.participant(client_);
  handover_.submit(*hold, client_);
  self.bell_waiters.fetch_add(1);
  Result<> waited;
  for (std::uint32_t seen = self.bell.load(); waited && !handover_.finished(*hold);
       seen = self.bell.load())
    waited = crew_->wait(self.bell, seen);
  self.bell_waiters.fetch_sub(1);
  const auto failed = handover_.failed_task(*hold);
  const std::string reason = failed ? handover_.failure(hold->slot, *failed) : "";
  handover_.close(*hold, client_);
  OPSPLIT_CHECK(waited);
  if (failed) return fail(ErrorCode::operator_failed, "task {}: {}", *failed, reason);
  const Control& control = crew_->control();
  return static_cast<double>(control.end_ns.load() - control.begin_ns.load()) / setting_.timed_hops;
}

std::uint64_t BoardHop::bytes_copied() const {
  std::uint64_t sum = 0;
  for (ipc::LaunchNumber launch = 1; launch < client_; ++launch)
    sum += board_.participant(launch).bytes_copied.load();
  return sum;
}

}  // namespace opsplit::bench
