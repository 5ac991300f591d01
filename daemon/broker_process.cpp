#include "daemon/broker_process.hpp"

#include <signal.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "ipc/iceoryx_runtime.hpp"
#include "ipc/roudi_files.hpp"

namespace opsplit::daemon {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr auto start_timeout = 60s;  // it zero-fills its pools: about a second per GiB
constexpr auto call_timeout = 2s;
constexpr auto stop_grace = 2s;

}  // namespace

BrokerProcess::BrokerProcess(boost::asio::io_context& io, Launcher& launcher, Paths paths,
                             std::function<void(std::string)> on_death)
    : io_(io),
      launcher_(launcher),
      paths_(std::move(paths)),
      on_death_(std::move(on_death)),
      timer_(io),
      pings_(io, paths_.socket) {}

BrokerProcess::~BrokerProcess() {
  if (!running_ || !ours()) return;
  launcher_.signal(process_, SIGTERM);
  if (!has_ended(process_.pidfd, Clock::now() + stop_grace)) launcher_.signal(process_, SIGKILL);
  launcher_.reap(process_);
}

void BrokerProcess::start(const std::vector<std::uint64_t>& pool_bytes,
                          std::function<void(Result<>)> started) {
  published_.clear();
  if (!ours()) {
    started_ = std::move(started);
    await_answer();
    return;
  }
  Command command;
  command.arguments = {paths_.program.string(), "--socket", paths_.socket.string()};
  for (const std::uint64_t bytes : pool_bytes) {
    command.arguments.emplace_back("--pool");
    command.arguments.push_back(std::to_string(bytes));
  }
  command.log = paths_.log;
  std::error_code ignored;
  std::filesystem::remove(paths_.log, ignored);
  auto process = launcher_.launch(command);
  if (!process) {
    started(tl::unexpected(process.error()));
    return;
  }
  supervise(std::move(*process));
  started_ = std::move(started);
  await_answer();
}

void BrokerProcess::supervise(Process process) {
  process_ = std::move(process);
  running_ = true;
  death_ = Watch(io_, process_.pidfd.get(), Watch::readable, [this] { died(); });
}

void BrokerProcess::await_answer() {
  const auto answered = [this](const ipc::PeerCredentials& peer, const json& answer) -> Result<> {
    if (!running_) OPSPLIT_CHECK(accept(peer, answer));
    watch_for_hangs();
    if (const auto started = std::exchange(started_, nullptr)) started({});
    return {};
  };
  pings_.until_answered(Clock::now() + start_timeout, answered, [this] { start_took_too_long(); });
}

void BrokerProcess::watch_for_hangs() {
  const auto any_answer = [](const ipc::PeerCredentials&, const json&) { return Result<>(); };
  pings_.keep_asking(pid(), any_answer, [this] {
    spdlog::error("the broker (pid {}) gives no sign of life: killed", pid());
    launcher_.signal(process_, SIGKILL);
  });
}

void BrokerProcess::start_took_too_long() {
  if (running_) {
    launcher_.signal(process_, SIGKILL);  // died() reports it
    return;
  }
  if (const auto started = std::exchange(started_, nullptr))
    started(fail(ErrorCode::unavailable, "no broker answers within {} s", start_timeout.count()));
}

Result<> BrokerProcess::take_over(const std::set<ipc::ArenaId>& published) {
  published_ = published;
  const Deadline deadline = Clock::now() + call_timeout;
  const auto accepted = [&]() -> Result<> {
    OPSPLIT_TRY(auto socket, ipc::MessageSocket::connect(paths_.socket, deadline));
    OPSPLIT_TRY(const json answer, socket.call({{"op", "ping"}}, deadline));
    return accept(socket.peer(), answer);
  }();
  if (accepted) {
    watch_for_hangs();
    return {};
  }
  published_.clear();
  // Whoever it is, it is the only one that there can be.
  if (const auto holder = lock_holder(ipc::broker_lock_path); holder && *holder)
    if (auto pidfd = open_pidfd((*holder)->process)) {
      const Process broker{(*holder)->process, std::move(*pidfd)};
      launcher_.signal(broker, SIGKILL);
      has_ended(broker.pidfd, deadline + call_timeout);
    }
  return accepted;
}

// Whether it is ours to use, and has published no more than we know of.
Result<> BrokerProcess::accept(const ipc::PeerCredentials& peer, const json& answer) try {
  const pid_t pid = peer.pid;
  const auto identity = identify(pid);
  if (!identity)
    return fail(ErrorCode::refused,
                "the broker's process cannot be seen from here: opsplitd and the broker must share "
                "a PID namespace");
  OPSPLIT_TRY(FileDescriptor pidfd, open_pidfd(*identity));
  Process process{*identity, std::move(pidfd)};
  const auto iceoryx = answer.at("iceoryx").get<std::string>();
  const auto version = answer.at("version").get<std::string>();
  if (iceoryx != ipc::iceoryx_version() || version != OPSPLIT_VERSION)
    return fail(ErrorCode::refused,
                "opsplitd is version {} with iceoryx {}, the broker {} with {}: use one",
                OPSPLIT_VERSION, ipc::iceoryx_version(), version, iceoryx);
  for (const json& arena : answer.at("arenas")) {
    if (published_.contains(
            {arena.at("deployment").get<std::string>(), arena.at("epoch").get<std::uint64_t>()}))
      continue;
    spdlog::warn("the broker (pid {}) served an earlier opsplitd: killed, to be started again",
                 pid);
    launcher_.signal(process, SIGKILL);
    return fail(ErrorCode::unavailable, "the broker was killed, and nobody has started another");
  }
  supervise(std::move(process));
  return {};
} catch (const json::exception&) {
  return fail(ErrorCode::refused, "{}: who answers is no broker of this version",
              paths_.socket.string());
}

void BrokerProcess::died() {
  death_.reset();
  pings_.stop();
  timer_.cancel();
  const std::string how = launcher_.reap(process_);
  running_ = false;
  published_.clear();
  if (!ours()) return on_death_("the broker has ended");
  if (const auto stopped = std::exchange(stopped_, nullptr)) {
    stopped();
    return;
  }
  const std::string last = last_error(paths_.log);
  const std::string reason =
      fmt::format("the broker ended with {}{}{}", how, last.empty() ? "" : ": ", last);
  if (const auto started = std::exchange(started_, nullptr))
    started(fail(ErrorCode::unavailable, "{}", reason));
  else
    on_death_(reason);
}

// What a broker that hangs may still do later, nobody would know.
Result<> BrokerProcess::demand(const json& request) {
  const Deadline deadline = Clock::now() + call_timeout;
  OPSPLIT_TRY(ipc::MessageSocket socket, ipc::MessageSocket::connect(paths_.socket, deadline));
  OPSPLIT_CHECK(socket.send(request, deadline));
  // Beside a hundred operators that start it may wait for a CPU for longer.
  TimeToAnswer time(pid(), call_timeout);
  do {
    const auto answer = socket.receive_reply(time.end());
    if (answer) return {};
    if (answer.error().code != ErrorCode::timed_out) return tl::unexpected(answer.error());
  } while (!time.is_over());
  spdlog::error("the broker (pid {}) does not answer: killed", pid());
  launcher_.signal(process_, SIGKILL);
  return fail(ErrorCode::timed_out, "the broker (pid {}) does not answer within {} s", pid(),
              call_timeout.count());
}

Result<> BrokerProcess::publish(const ipc::ArenaId& arena, std::uint64_t bytes) {
  OPSPLIT_CHECK(demand({{"op", "publish"},
                        {"deployment", arena.deployment},
                        {"epoch", arena.epoch},
                        {"bytes", bytes}}));
  published_.insert(arena);
  return {};
}

Result<> BrokerProcess::withdraw(const ipc::ArenaId& arena) {
  if (published_.erase(arena) == 0) return {};
  return demand({{"op", "withdraw"}, {"deployment", arena.deployment}, {"epoch", arena.epoch}});
}

void BrokerProcess::stop(std::function<void()> stopped) {
  if (!ours()) {
    running_ = false;
    death_.reset();
    pings_.stop();
    timer_.cancel();
    if (const auto started = std::exchange(started_, nullptr))
      started(fail(ErrorCode::unavailable, "the broker is not waited for any longer"));
  }
  if (!running_) {
    stopped();
    return;
  }
  if (stopped_) {
    stopped_ = [before = std::exchange(stopped_, nullptr), stopped = std::move(stopped)] {
      before();
      stopped();
    };
    return;
  }
  stopped_ = std::move(stopped);
  pings_.stop();
  timer_.at(Clock::now() + stop_grace, [this] { launcher_.signal(process_, SIGKILL); });
  launcher_.signal(process_, SIGTERM);
}

}  // namespace opsplit::daemon
