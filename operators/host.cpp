#include "operators/host.hpp"

#include <sys/prctl.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "ipc/iceoryx_runtime.hpp"
#include "ipc/message_socket.hpp"
#include "ipc/session.hpp"
#include "ipc/weight_store.hpp"
#include "operators/cores_follower.hpp"
#include "operators/warm_up.hpp"

namespace opsplit::operators {
namespace {

using namespace std::chrono_literals;

constexpr auto attach_timeout = 10s;
constexpr auto look_again = 100ms;
constexpr auto arena_timeout = 60s;  // the broker fills its pools with zeros: a second per GiB
constexpr auto arena_look = 200ms;   // at most so long nobody looks whether we are to stop
constexpr auto arena_pause = 2ms;

// The weight store as kernels see it.
class SharedWeights final : public PackedWeights {
 public:
  explicit SharedWeights(ipc::WeightStore& store) : store_(store) {}
  Result<std::span<const std::byte>> get(std::string_view key, std::uint64_t bytes,
                                         const std::function<Result<>(std::byte*)>& fill) override {
    return store_.packed(key, bytes, fill);
  }

 private:
  ipc::WeightStore& store_;
};

// Runs one claimed task: views from the headers, the operator, the headers of what it wrote. Memory
// for the views is kept from task to task.
class TaskRunner {
 public:
  explicit TaskRunner(ipc::Session& session) : session_(session) {
    const Plan& plan = session.plan();
    const auto& tasks = plan.operators[static_cast<std::size_t>(session.attachment().op)].tasks;
    position_.resize(plan.tasks.size());
    for (std::size_t i = 0; i < tasks.size(); ++i)
      position_[static_cast<std::size_t>(tasks[i])] = i;
  }

  Result<> run(Operator& op, const ipc::Claim& claim, RunContext& context) {
    const Plan& plan = session_.plan();
    const ipc::Places& places = session_.places();
    const PlannedTask& task = plan.tasks[claim.task];
    inputs_.clear();
    outputs_.clear();
    for (const std::int32_t tensor : task.inputs) {
      auto placed = places.read(claim.slot, claim.generation, tensor);
      if (!placed) return within(writer_of(tensor), placed.error());
      inputs_.push_back({placed->type, placed->layout, placed->data});
    }
    for (const std::int32_t tensor : task.outputs) {
      const ipc::PlacedTensor placed = places.write(claim.slot, tensor);
      outputs_.push_back({placed.type, placed.layout, placed.data});
    }
    context.workspace = places.workspace(claim.slot, claim.task);
    context.slot = claim.slot;
    OPSPLIT_CHECK(op.run(position_[claim.task], inputs_, outputs_, context));
    for (std::size_t i = 0; i < task.outputs.size(); ++i) {
      const std::int32_t tensor = task.outputs[i];
      if (!plan.tensors[static_cast<std::size_t>(tensor)].varies) {
        places.write_header(claim.slot, claim.generation, tensor);
        continue;
      }
      OPSPLIT_TRY(const Shape shape, varying_shape(plan, task, i, context));
      OPSPLIT_CHECK(places.write_header(claim.slot, claim.generation, tensor, shape));
    }
    return {};
  }

 private:
  // Whom a bad header is to be blamed on.
  [[nodiscard]] std::string writer_of(std::int32_t tensor) const {
    const Plan& plan = session_.plan();
    const std::int32_t producer =
        plan.tensors[static_cast<std::size_t>(plan.root(tensor))].producer;
    if (producer == PlannedTensor::none) return "written by the client";
    const std::int32_t op = plan.tasks[static_cast<std::size_t>(producer)].op;
    return "written by operator '" + plan.operators[static_cast<std::size_t>(op)].name + "'";
  }

  ipc::Session& session_;
  std::vector<std::size_t> position_;  // in the operator, by task
  std::vector<TensorView> inputs_;
  std::vector<MutableTensorView> outputs_;
};

struct Attached {
  ipc::MessageSocket socket;
  ipc::Attachment attachment;
};

nlohmann::json request_of(const char* op, const HostOptions& options) {
  return {{"op", op},
          {"version", OPSPLIT_VERSION},
          {"iceoryx", ipc::iceoryx_version()},
          {"deployment", options.deployment},
          {"operator", options.op}};
}

Result<Attached> attach(const HostOptions& options, const OperatorKind& kind) {
  const Deadline deadline = Clock::now() + attach_timeout;
  OPSPLIT_TRY(auto socket, ipc::MessageSocket::connect(options.socket, deadline));
  nlohmann::json request = request_of("attach_operator", options);
  request["can_run"] = kind.can_run;
  request["on_cpus"] = kind.runs_on.cpus;
  request["on_gpu"] = kind.runs_on.gpu;
  OPSPLIT_TRY(const nlohmann::json reply, socket.call(request, deadline));
  OPSPLIT_TRY(ipc::Attachment attachment, ipc::attachment_from_json(reply));
  if (attachment.op < 0) return fail(ErrorCode::refused, "opsplitd took us for a client");
  return Attached{std::move(socket), std::move(attachment)};
}

// Where somebody else starts us, opsplitd and the deployment may come later.
Result<Attached> attach_in_time(const HostOptions& options, const OperatorKind& kind,
                                const std::atomic<bool>& stop) {
  const Deadline give_up = Clock::now() + options.wait;
  while (true) {
    auto attached = attach(options, kind);
    if (attached || stop || Clock::now() >= give_up) return attached;
    const ErrorCode code = attached.error().code;
    if (code != ErrorCode::unavailable && code != ErrorCode::not_found &&
        code != ErrorCode::already_exists)
      return attached;
    std::this_thread::sleep_for(look_again);
  }
}

// The broker may start at the same time as we do, and an earlier one may still be ending.
Result<std::unique_ptr<ipc::Session>> open_session(const ipc::Attachment& attachment,
                                                   const Plan& plan,
                                                   const std::atomic<bool>& stop) {
  const Deadline give_up = Clock::now() + arena_timeout;
  while (true) {
    auto session = ipc::Session::open(attachment, plan, std::make_shared<ipc::SystemFutex>(),
                                      Clock::now() + arena_look);
    if (session || stop || Clock::now() >= give_up) return session;
    const ErrorCode code = session.error().code;
    if (code != ErrorCode::unavailable && code != ErrorCode::timed_out) return session;
    std::this_thread::sleep_for(arena_pause);
  }
}

// Without exit(), which would wait for a GPU that may never answer. Our claim is given back once we are dead.
[[noreturn]] void end_at_once(const Error& error) {
  fmt::print(stderr, "this process can't go on: {}\n", error.message);
  std::fflush(stderr);
  ::_exit(1);
}

}  // namespace

Result<> run_host(const HostOptions& options, const OperatorKind& kind,
                  const std::atomic<bool>& stop) {
  OPSPLIT_TRY(Attached attached, attach_in_time(options, kind, stop));
  const ipc::Attachment& attachment = attached.attachment;
  OPSPLIT_TRY(const Plan plan, ipc::read_plan(attachment));
  OPSPLIT_TRY(ipc::WeightStore store, ipc::WeightStore::open(attachment.folder, attachment.cache));
  SharedWeights packed_weights(store);
  const auto index = static_cast<std::uint32_t>(attachment.op);
  const PlannedOperator& planned = plan.operators[index];
  Affinity affinity;
  ThreadPlacement placement(affinity);
  std::unique_ptr<ipc::Session> session;  // outlives the operator, which may have pinned its arena
  const auto compile = [&](int threads) {
    return kind.make({plan, planned, std::filesystem::path(attachment.folder) / planned.part,
                      attachment.weights, threads, packed_weights, placement, &attachment});
  };
  OPSPLIT_TRY(std::unique_ptr<Operator> op, compile(attachment.cores.threads));
  if (attachment.warm_up) {
    RunContext context;
    const auto warm = warm_up(*op, plan, planned, context);
    if (context.lost) end_at_once(warm.error());
    OPSPLIT_CHECK(warm);
  }
  // Last: it is the broker that takes longest to start.
  OPSPLIT_TRY(session, open_session(attachment, plan, stop));
  if (stop.load()) return {};  // told to end while it loaded: it must not take a place first
  OPSPLIT_CHECK(op->use_arena(session->arena()));
  OPSPLIT_CHECK(attached.socket.call(request_of("ready", options), Clock::now() + attach_timeout));
  // Until now we ended with the opsplitd that launched us.
  if (attachment.outlives) ::prctl(PR_SET_PDEATHSIG, 0);

  auto control = std::make_unique<ipc::MessageSocket>(std::move(attached.socket));
  ipc::MessageSocket& opsplitd = *control;
  session->keep(std::move(control));
  ipc::Handover& handover = session->handover();
  ipc::Worker worker(handover, index, attachment.launch, attachment.seat, attachment.cores.worker);
  TaskRunner runner(*session);
  CoresFollower cores(
      session->board().participant(attachment.launch),
      {opsplitd, options.socket, request_of("cores", options)}, attachment.cores, placement,
      kind.for_threads && !attachment.gpu ? CoresFollower::Compile(compile) : nullptr);
  std::uint64_t spin_ns = attachment.cores.worker.spin_ns;
  while (!stop.load(std::memory_order_relaxed) && !session->over()) {
    if (const auto waiting = cores.follow(op)) {
      worker.set_options(*waiting);
      spin_ns = waiting->spin_ns;
    }
    const auto claim = worker.next();
    if (!claim) {
      if (session->abandoned())
        return fail(ErrorCode::unavailable, "opsplitd has ended");  // and is not our parent
      // A successor of the opsplitd that would have ended us begins with the next epoch.
      if (session->is_followed() && !session->supervisor_lives()) return {};
      continue;
    }
    RunContext context;
    context.spin_ns = spin_ns;
    context.last_step_begins = [&] { worker.ring_ahead(*claim); };
    Result<> ran;
    if (!claim->input_failed) {
      ran = runner.run(*op, *claim, context);
      if (context.lost) end_at_once(ran.error());
      if (!ran) handover.write_failure(*claim, ran.error().message);
    }
    const bool failed = claim->input_failed || !ran;
    worker.commit(*claim, failed ? ipc::TaskState::failed : ipc::TaskState::done,
                  context.bytes_copied);
  }
  return {};
}

}  // namespace opsplit::operators
