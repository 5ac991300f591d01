#include "daemon/broker_process.hpp"

#include <signal.h>
#include <spdlog/spdlog.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "ipc/iceoryx_runtime.hpp"
#include "ipc/message_socket.hpp"

namespace opsplit::daemon {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr auto start_timeout = 60s;  // it zero-fills its pools: about a second per GiB
constexpr auto poll_period = 20ms;
constexpr auto ping_timeout = 10ms;  // while it fills its pools it listens, but does not answer
constexpr auto call_timeout = 2s;
constexpr auto stop_grace = 2s;

}  // namespace

struct BrokerProcess::Answer {
  pid_t pid;  // of who answers
  json reply;
};

BrokerProcess::BrokerProcess(boost::asio::io_context& io, Launcher& launcher, Paths paths,
                             std::function<void(std::string)> on_death)
    : io_(io),
      launcher_(launcher),
      paths_(std::move(paths)),
      on_death_(std::move(on_death)),
      timer_(io) {}

BrokerProcess::~BrokerProcess() {
  if (!running_ || !ours()) return;
  launcher_.signal(process_, SIGTERM);
  if (!has_ended(process_.pidfd, Clock::now() + stop_grace)) launcher_.signal(process_, SIGKILL);
  launcher_.reap(process_);
}

void BrokerProcess::start(const std::vector<std::uint64_t>& pool_bytes,
                          std::function<void(Result<>)> started) {
  start_deadline_ = Clock::now() + start_timeout;
  if (!ours()) {
    started_ = std::move(started);
    poll_until_ready();
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
  poll_until_ready();
}

void BrokerProcess::supervise(Process process) {
  process_ = std::move(process);
  running_ = true;
  death_ = Watch(io_, process_.pidfd.get(), Watch::readable, [this] { died(); });
}

void BrokerProcess::poll_until_ready() {
  const auto answer = ask({{"op", "ping"}}, ping_timeout);
  const auto ready = !answer    ? Result<>(tl::unexpected(answer.error()))
                     : running_ ? Result<>()
                                : take_over(*answer);
  if (ready) {
    if (const auto started = std::exchange(started_, nullptr)) started({});
    return;
  }
  if (Clock::now() > start_deadline_) {
    if (running_) {
      launcher_.signal(process_, SIGKILL);  // died() reports it
      return;
    }
    if (const auto started = std::exchange(started_, nullptr))
      started(fail(ErrorCode::unavailable, "no broker within {} s: {}", start_timeout.count(),
                   ready.error().message));
    return;
  }
  timer_.at(Clock::now() + poll_period, [this] { poll_until_ready(); });
}

Result<> BrokerProcess::take_over(const Answer& answer) try {
  const auto identity = identify(answer.pid);
  if (!identity)
    return fail(ErrorCode::refused,
                "the broker's process cannot be seen from here: opsplitd and the broker must share "
                "a PID namespace");
  OPSPLIT_TRY(FileDescriptor pidfd, open_pidfd(*identity));
  Process process{*identity, std::move(pidfd)};
  const auto iceoryx = answer.reply.at("iceoryx").get<std::string>();
  const auto version = answer.reply.at("version").get<std::string>();
  if (iceoryx != ipc::iceoryx_version() || version != OPSPLIT_VERSION)
    return fail(ErrorCode::refused,
                "opsplitd is version {} with iceoryx {}, the broker {} with {}: use one",
                OPSPLIT_VERSION, ipc::iceoryx_version(), version, iceoryx);
  if (answer.reply.at("arenas").get<std::size_t>() != 0) {
    spdlog::warn("the broker (pid {}) served an earlier opsplitd: killed, to be started again",
                 answer.pid);
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
  timer_.cancel();
  const std::string how = launcher_.reap(process_);
  running_ = false;
  if (!ours()) return on_death_("the broker has ended");
  if (const auto stopped = std::exchange(stopped_, nullptr)) {
    stopped();
    return;
  }
  // The last line of its log says why.
  std::string line, last;
  for (std::ifstream log(paths_.log); std::getline(log, line);)
    if (!line.empty()) last = line;
  // Without the time and name that each line begins with.
  if (const auto text = last.find(" error: "); text != std::string::npos) last.erase(0, text + 8);
  const std::string reason =
      fmt::format("the broker ended with {}{}{}", how, last.empty() ? "" : ": ", last);
  if (const auto started = std::exchange(started_, nullptr))
    started(fail(ErrorCode::unavailable, "{}", reason));
  else
    on_death_(reason);
}

Result<BrokerProcess::Answer> BrokerProcess::ask(const json& request,
                                                 std::chrono::milliseconds timeout) {
  const Deadline deadline = Clock::now() + timeout;
  OPSPLIT_TRY(ipc::MessageSocket socket, ipc::MessageSocket::connect(paths_.socket, deadline));
  OPSPLIT_TRY(json reply, socket.call(request, deadline));
  return Answer{socket.peer().pid, std::move(reply)};
}

// What a broker that hangs may still do later, nobody would know.
Result<> BrokerProcess::demand(const json& request) {
  const auto answer = ask(request, call_timeout);
  if (answer) return {};
  if (answer.error().code == ErrorCode::timed_out) {
    spdlog::error("the broker (pid {}) does not answer: killed", pid());
    launcher_.signal(process_, SIGKILL);
  }
  return tl::unexpected(answer.error());
}

Result<> BrokerProcess::publish(const ipc::ArenaId& arena, std::uint64_t bytes) {
  return demand({{"op", "publish"},
                 {"deployment", arena.deployment},
                 {"epoch", arena.epoch},
                 {"bytes", bytes}});
}

Result<> BrokerProcess::withdraw(const ipc::ArenaId& arena) {
  return demand({{"op", "withdraw"}, {"deployment", arena.deployment}, {"epoch", arena.epoch}});
}

void BrokerProcess::stop(std::function<void()> stopped) {
  if (!ours()) {
    running_ = false;
    death_.reset();
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
  timer_.at(Clock::now() + stop_grace, [this] { launcher_.signal(process_, SIGKILL); });
  launcher_.signal(process_, SIGTERM);
}

}  // namespace opsplit::daemon
