#include "daemon/device_broker_process.hpp"

#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

namespace opsplit::daemon {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr auto start_timeout = 60s;  // a context on the GPU, and what must be freed there first
constexpr auto call_timeout = 2s;
constexpr auto stop_grace = 5s;  // it frees its memory, and the driver its context
// Of one that was killed. It may take the driver longer; the memory that somebody else needs is waited for elsewhere.
constexpr auto end_timeout = 1s;

std::array<std::filesystem::path, 3> files_of(const std::filesystem::path& socket) {
  return {socket, socket.native() + ".lock", ipc::owner_lock_path(socket)};
}

// Who is at the other end. One that has ended meanwhile may have left its pid to somebody else.
Result<Process> process_of(const ipc::MessageSocket& connection) {
  OPSPLIT_TRY(const ProcessIdentity identity, identify(connection.peer().pid));
  OPSPLIT_TRY(FileDescriptor pidfd, open_pidfd(identity));
  pollfd look{connection.fd(), POLLIN, 0};
  if (::poll(&look, 1, 0) > 0 && (look.revents & POLLHUP) != 0)
    return fail(ErrorCode::unavailable, "process {} has hung up", identity.pid);
  return Process{identity, std::move(pidfd)};
}

// Whoever listens there is known without its answer.
Result<Process> kill_listener(const std::filesystem::path& socket) {
  OPSPLIT_TRY(const auto connection,
              ipc::MessageSocket::connect(socket, Clock::now() + call_timeout));
  OPSPLIT_TRY(Process process, process_of(connection));
  ProcessLauncher().signal(process, SIGKILL);
  return process;
}

}  // namespace

DeviceBrokerProcess::DeviceBrokerProcess(boost::asio::io_context& io, Launcher& launcher, Spec spec,
                                         Events events)
    : io_(io),
      launcher_(launcher),
      spec_(std::move(spec)),
      events_(std::move(events)),
      timer_(io),
      pings_(io, spec_.socket) {}

DeviceBrokerProcess::~DeviceBrokerProcess() {
  if (!running_) return;
  kill();
  launcher_.reap(process_);
  remove_files();
}

void DeviceBrokerProcess::remove_files() const {
  std::error_code ignored;
  for (const auto& file : files_of(spec_.socket)) std::filesystem::remove(file, ignored);
}

Result<> DeviceBrokerProcess::launch() {
  Command command;
  command.arguments = {spec_.program.string(),
                       "--socket",
                       spec_.socket.string(),
                       "--device",
                       spec_.device,
                       "--deployment",
                       spec_.arena.deployment,
                       "--epoch",
                       std::to_string(spec_.arena.epoch),
                       "--slot-bytes",
                       std::to_string(spec_.shape.slot_bytes),
                       "--depth",
                       std::to_string(spec_.shape.depth)};
  command.log = spec_.log;
  std::error_code ignored;
  std::filesystem::remove(spec_.log, ignored);
  OPSPLIT_TRY(Process process, launcher_.launch(command));
  supervise(std::move(process));
  const auto answered = [this](const ipc::PeerCredentials& peer, const json& answer) -> Result<> {
    OPSPLIT_CHECK(accept(peer, answer));
    watch_for_hangs();
    events_.serves();
    return {};
  };
  pings_.until_answered(Clock::now() + start_timeout, answered, [this] {
    spdlog::error("the device broker (pid {}) does not answer within {} s: killed", pid(),
                  start_timeout.count());
    kill();
  });
  return {};
}

void DeviceBrokerProcess::launch_at(Deadline time) {
  timer_.at(time, [this] {
    const auto ended = events_.ended;
    if (const auto launched = launch(); !launched) ended(launched.error().message);
  });
}

void DeviceBrokerProcess::supervise(Process process) {
  process_ = std::move(process);
  running_ = true;
  death_ = Watch(io_, process_.pidfd.get(), Watch::readable, [this] { died(); });
}

// Whether it is the one that was launched, or taken over, with what it is to have.
Result<> DeviceBrokerProcess::accept(const ipc::PeerCredentials& peer, const json& answer) try {
  if (peer.pid != pid())
    return fail(ErrorCode::refused, "process {} answers instead of {}", peer.pid, pid());
  const ipc::ArenaId arena{answer.at("deployment").get<std::string>(),
                           answer.at("epoch").get<std::uint64_t>()};
  const ipc::DeviceArenaShape shape{answer.at("slot_bytes").get<std::uint64_t>(),
                                    answer.at("depth").get<std::uint32_t>()};
  if (answer.at("version") != OPSPLIT_VERSION || arena != spec_.arena || !(shape == spec_.shape) ||
      answer.at("draining").get<bool>())
    return fail(ErrorCode::refused, "the device broker (pid {}) serves something else", pid());
  OPSPLIT_TRY(uuid_, ipc::parse_device_uuid(answer.at("device").get<std::string>()));
  OPSPLIT_TRY(owner_, ipc::DeviceOwner::watch(ipc::owner_lock_path(spec_.socket), pid()));
  return {};
} catch (const json::exception&) {
  return fail(ErrorCode::refused, "{}: who answers is no device broker of this version",
              spec_.socket.string());
}

Result<> DeviceBrokerProcess::take_over() {
  const Deadline deadline = Clock::now() + call_timeout;
  const auto accepted = [&]() -> Result<> {
    OPSPLIT_TRY(auto socket, ipc::MessageSocket::connect(spec_.socket, deadline));
    OPSPLIT_TRY(Process process, process_of(socket));
    supervise(std::move(process));
    OPSPLIT_TRY(const json answer, socket.call({{"op", "ping"}}, deadline));
    return accept(socket.peer(), answer);
  }();
  if (accepted) {
    watch_for_hangs();
    return {};
  }
  death_.reset();
  if (std::exchange(running_, false)) {
    launcher_.signal(process_, SIGKILL);
    has_ended(process_.pidfd, Clock::now() + end_timeout);
  }
  remove_files();
  return accepted;
}

void DeviceBrokerProcess::watch_for_hangs() {
  // One that somebody else told to end has no memory for operators that start.
  const auto serves = [](const ipc::PeerCredentials&, const json& answer) -> Result<> {
    if (answer.contains("draining") && answer["draining"] == true)
      return fail(ErrorCode::unavailable, "about to end");
    return {};
  };
  pings_.keep_asking(pid(), serves, [this] {
    spdlog::error("the device broker (pid {}) gives no sign of life, or is about to end: killed",
                  pid());
    kill();
  });
}

void DeviceBrokerProcess::outlive() {
  const Deadline deadline = Clock::now() + call_timeout;
  auto socket = ipc::MessageSocket::connect(spec_.socket, deadline);
  const auto told =
      socket ? socket->call({{"op", "outlive"}}, deadline) : tl::unexpected(socket.error());
  if (!told)
    spdlog::warn("the device broker (pid {}) would end with us: {}", pid(), told.error().message);
}

void DeviceBrokerProcess::stop() {
  if (!running_) return timer_.cancel();  // it may be about to start
  if (std::exchange(ending_, true)) return;
  pings_.stop();
  timer_.at(Clock::now() + stop_grace, [this] {
    spdlog::warn("the device broker (pid {}) did not end within {} s: killed", pid(),
                 stop_grace.count());
    kill();
  });
  launcher_.signal(process_, SIGTERM);
}

void DeviceBrokerProcess::kill() {
  if (running_) launcher_.signal(process_, SIGKILL);
}

void DeviceBrokerProcess::died() {
  death_.reset();
  timer_.cancel();
  pings_.stop();
  owner_.reset();
  running_ = ending_ = false;
  const std::string how = launcher_.reap(process_);
  remove_files();
  const std::string last = last_error(spec_.log);
  const auto ended = events_.ended;  // may destroy this object
  // Its own words say more than that it exited.
  if (how.starts_with("exit code") && !last.empty()) return ended(last);
  ended(fmt::format("the device broker ended with {}{}{}", how, last.empty() ? "" : ": ", last));
}

void end_stale_device_brokers(const std::filesystem::path& folder,
                              const std::set<std::filesystem::path>& in_use) {
  std::set<std::filesystem::path> kept;
  for (const auto& socket : in_use)
    for (const auto& file : files_of(socket)) kept.insert(file);
  std::error_code ignored;
  std::vector<std::filesystem::path> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored))
    if (!kept.contains(entry.path()) &&
        entry.path().filename().native().find(".sock") != std::string::npos)
      left.push_back(entry.path());
  std::vector<Process> killed;
  for (const auto& file : left)
    if (std::filesystem::is_socket(file, ignored))
      if (auto process = kill_listener(file)) killed.push_back(std::move(*process));
  const Deadline deadline = Clock::now() + end_timeout;
  for (const Process& process : killed) has_ended(process.pidfd, deadline);
  for (const auto& file : left) std::filesystem::remove(file, ignored);
}

}  // namespace opsplit::daemon
