#include "operators/cores_follower.hpp"

#include <chrono>

namespace opsplit::operators {
namespace {

constexpr auto pause_without_opsplitd = std::chrono::milliseconds(100);

// Into the operator's log.
void warn(const Error& error, const std::string& what) {
  fmt::print(stderr, "opsplit-operator: {}: {}\n", what, error.message);
}

}  // namespace

CoresFollower::CoresFollower(ipc::Participant& self, Opsplitd opsplitd,
                             const ipc::AssignedCores& cores, ThreadPlacement& placement,
                             Compile compile)
    : self_(self),
      opsplitd_(std::move(opsplitd)),
      placement_(placement),
      compile_(std::move(compile)),
      threads_(cores.threads),
      wanted_(cores.threads) {
  placement_.separate(threads_);
  report();
}

std::optional<ipc::WorkerOptions> CoresFollower::follow(std::unique_ptr<Operator>& op) {
  const std::uint32_t version = self_.cores_version.load(std::memory_order_acquire);
  if (version == version_ && !asked_ && !compiled_.valid()) return std::nullopt;
  std::optional<ipc::WorkerOptions> options;
  if (asked_)
    options = take_answer();
  else if (version != version_)
    ask(version);
  if (compiled_.valid() && compiled_.wait_for(std::chrono::seconds(0)) == std::future_status::ready)
    take_compiled(op);
  if (!asked_ && !compiled_.valid()) report();
  return options;
}

void CoresFollower::ask(std::uint32_t version) {
  if (Clock::now() < ask_again_) return;
  ask_again_ = Clock::now() + pause_without_opsplitd;
  auto& connection = opsplitd_.connection;
  asked_ = connection.queue(opsplitd_.question) && connection.flush();
  if (!asked_) {
    auto next = ipc::MessageSocket::connect(opsplitd_.socket, Clock::now());
    if (!next) return;
    connection = std::move(*next);
    asked_ = connection.queue(opsplitd_.question) && connection.flush();
  }
  if (asked_) version_ = version;
}

std::optional<ipc::WorkerOptions> CoresFollower::take_answer() {
  auto& connection = opsplitd_.connection;
  if (connection.has_queued()) (void)connection.flush();
  const auto reply = connection.try_receive();
  if (reply && !*reply) return std::nullopt;
  asked_ = false;
  ask_again_ = {};
  if (!reply && reply.error().code == ErrorCode::unavailable) {  // died before it could answer
    version_ = answered_;
    return std::nullopt;
  }
  const auto cores = reply ? ipc::assigned_cores_from_json(**reply) : tl::unexpected(reply.error());
  if (!cores) {
    warn(cores.error(), "stays on its cores");
    return std::nullopt;
  }
  if (const auto moved = placement_.move_to(cores->cpus); !moved)
    warn(moved.error(), "stays on its cores");
  placement_.separate(cores->threads);
  answered_ = version_;
  wanted_ = cores->threads;
  if (!compile_)
    threads_ = wanted_;
  else if (wanted_ != threads_ && !compiled_.valid())
    compile();
  return cores->worker;
}

void CoresFollower::compile() {
  compiling_threads_ = wanted_;
  try {
    compiled_ = std::async(std::launch::async,
                           [compile = compile_, threads = wanted_,
                            cpus = placement_.cpus()]() -> Result<std::unique_ptr<Operator>> {
                             // It has inherited the main thread's, which keeps to one of them.
                             (void)AffinityMask(cpus).apply_to(0);
                             try {
                               return compile(threads);
                             } catch (const std::exception& error) {  // no memory, above all
                               return fail(ErrorCode::system, "{}", error.what());
                             }
                           });
  } catch (const std::system_error& error) {
    warn({ErrorCode::system, error.what()}, fmt::format("goes on with {} threads", threads_));
  }
}

void CoresFollower::take_compiled(std::unique_ptr<Operator>& op) {
  auto compiled = compiled_.get();
  if (compiled) {
    op = std::move(*compiled);
    threads_ = compiling_threads_;
    placement_.separate(threads_);  // the old programs may have let workers end
  } else {
    warn(compiled.error(), fmt::format("goes on with {} threads", threads_));
  }
  // Changed again meanwhile; what could not be compiled is not tried a second time.
  if (wanted_ != compiling_threads_ && wanted_ != threads_) compile();
}

void CoresFollower::report() {
  self_.threads.store(static_cast<std::uint32_t>(threads_), std::memory_order_relaxed);
  self_.cores_followed.store(answered_, std::memory_order_release);
}

}  // namespace opsplit::operators
