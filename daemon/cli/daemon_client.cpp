#include "daemon/cli/daemon_client.hpp"

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "daemon/daemon.hpp"
#include "daemon/paths.hpp"
#include "daemon/saved_deployment.hpp"

namespace opsplit::daemon::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr auto short_timeout = 10s;
constexpr auto look_again = 50ms;
constexpr auto glance_timeout = 2s;  // of whoever looks each second, and must be able to stop
constexpr auto up_timeout = 600s;    // a large model takes its time to be planned and packed
constexpr auto down_timeout = 60s;
constexpr auto start_timeout = 20s;

// Starts opsplitd in a session of its own; it outlives us.
Result<pid_t> spawn_opsplitd(const std::filesystem::path& folder, const std::filesystem::path& log,
                             const DaemonClient::StartOptions& options) {
  std::vector<std::string> arguments = {(program_folder() / "opsplitd").string(), "--folder",
                                        folder.string(), "--exit-when-empty"};
  if (!options.reserve.empty()) arguments.emplace_back("--reserve");
  for (const std::uint64_t bytes : options.reserve) arguments.push_back(std::to_string(bytes));
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  // The child inherits our affinity: there is no other way to set one with posix_spawn.
  cpu_set_t ours, wanted;
  sched_getaffinity(0, sizeof ours, &ours);
  CPU_ZERO(&wanted);
  for (const int cpu : options.cpus) CPU_SET(static_cast<std::size_t>(cpu), &wanted);
  if (!options.cpus.empty()) sched_setaffinity(0, sizeof wanted, &wanted);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, argv[0], &files, &attributes, argv.data(), environ);
  sched_setaffinity(0, sizeof ours, &ours);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) return fail_errno(error, "could not start {}", arguments[0]);
  return pid;
}

}  // namespace

DaemonClient::DaemonClient(std::filesystem::path folder, ipc::MessageSocket socket)
    : folder_(std::move(folder)), socket_(std::move(socket)) {}

std::filesystem::path DaemonClient::socket_path() const { return Daemon::socket_path(folder_); }

Result<DaemonClient> DaemonClient::reach(const std::filesystem::path& folder) {
  auto socket =
      ipc::MessageSocket::connect(Daemon::socket_path(folder), Clock::now() + short_timeout);
  if (!socket && socket.error().code == ErrorCode::unavailable)
    return fail(ErrorCode::unavailable,
                "opsplitd does not run (no answer at {}): `opsplit up` starts it",
                Daemon::socket_path(folder).string());
  if (!socket) return tl::unexpected(socket.error());
  const pid_t pid = socket->peer().pid;
  DaemonClient client(folder, std::move(*socket));
  const auto answer = client.call({{"op", "ping"}}, answer_timeout);
  const ErrorCode code = answer ? ErrorCode::refused : answer.error().code;
  if (code == ErrorCode::timed_out || code == ErrorCode::unavailable)
    return fail(code, "opsplitd (pid {}) does not answer", pid);
  return client;  // other errors are the command's to report
}

Result<DaemonClient> DaemonClient::connect(const std::filesystem::path& folder) {
  auto running = reach(folder);
  if (running) return running;
  // What an opsplitd was there for that has died runs on: another one is to go on with it. One that
  // hangs is killed by its successor.
  const ErrorCode code = running.error().code;
  const bool left = code == ErrorCode::unavailable && !saved_folders().empty();
  if (!left && code != ErrorCode::timed_out) return running;
  OPSPLIT_TRY(auto successor, start(folder, {}));
  fmt::print(stderr, "opsplitd had ended: started again, it goes on with what runs\n");
  return successor;
}

Result<DaemonClient> DaemonClient::connect_or_start(const std::filesystem::path& folder,
                                                    const StartOptions& options) {
  auto running = reach(folder);
  if (running || (running.error().code != ErrorCode::unavailable &&
                  running.error().code != ErrorCode::timed_out))
    return running;
  return start(folder, options);
}

Result<DaemonClient> DaemonClient::start(const std::filesystem::path& folder,
                                         const StartOptions& options) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "{}", folder.string());
  const std::filesystem::path log = folder / "opsplitd.log";
  OPSPLIT_TRY(const pid_t pid, spawn_opsplitd(folder, log, options));
  OPSPLIT_TRY(const ProcessIdentity process, identify(pid));
  OPSPLIT_TRY(const FileDescriptor pidfd, open_pidfd(process));
  Deadline deadline = Clock::now() + start_timeout;
  bool ended = false;
  while (Clock::now() < deadline) {
    auto started = reach(folder);
    if (started) started->started_ = started->socket_.peer().pid == pid;
    const ErrorCode code = started ? ErrorCode::unavailable : started.error().code;
    if (started || (code != ErrorCode::unavailable && code != ErrorCode::timed_out)) return started;
    if (ended) {
      std::this_thread::sleep_for(10ms);
    } else if (has_ended(pidfd, Clock::now() + 1ms)) {
      // Somebody else's may have been a little faster, and will listen soon.
      ended = true;
      deadline = Clock::now() + 500ms;
    }
  }
  if (ended) {
    std::string words = read_file(log).value_or("see " + log.string());
    if (constexpr std::string_view name = "opsplitd: "; words.starts_with(name))
      words.erase(0, name.size());
    return fail(ErrorCode::unavailable, "opsplitd did not start: {}",
                words.substr(0, words.find('\n')));
  }
  return fail(ErrorCode::timed_out, "opsplitd did not answer within {} s: see {}",
              start_timeout.count(), log.string());
}

Result<json> DaemonClient::call(json request, std::chrono::seconds timeout) {
  request["version"] = OPSPLIT_VERSION;
  return socket_.call(request, Clock::now() + timeout);
}

Result<json> DaemonClient::up(const Target& target,
                              const std::function<void(std::string)>& progress, Lifetime lifetime) {
  const Deadline deadline = Clock::now() + up_timeout;
  json request = to_json(target);
  request["op"] = "up";
  request["version"] = OPSPLIT_VERSION;
  request["temporary"] = lifetime == Lifetime::temporary;
  auto reply = socket_.call(request, deadline);
  while (reply && reply->contains("progress")) {
    progress(reply->value("progress", ""));
    reply = socket_.receive_reply(deadline);
  }
  if (!reply) {
    // One that we started, and that has nothing to run, ends: leave nothing behind.
    if (started_ && reply.error().code != ErrorCode::already_exists) wait_for_exit();
    return tl::unexpected(reply.error());
  }
  return reply->value("deployment", json());
}

Result<std::size_t> DaemonClient::down(const std::string& name) {
  json request = {{"op", "down"}};
  if (!name.empty()) request["deployment"] = name;
  OPSPLIT_TRY(const json reply, call(request, down_timeout));
  if (reply.value("exiting", false)) wait_for_exit();
  return reply.value("stopped", std::size_t{0});
}

// Until the process is gone; where it cannot be seen (from another container), until it hangs up.
void DaemonClient::wait_for_exit() {
  const Deadline deadline = Clock::now() + down_timeout;
  const auto process = identify(socket_.peer().pid);
  const auto pidfd = process ? open_pidfd(*process) : tl::unexpected(process.error());
  (void)socket_.receive(deadline);
  if (pidfd) has_ended(*pidfd, deadline);
}

Result<json> DaemonClient::ps() { return call({{"op", "ps"}}, short_timeout); }

Result<json> DaemonClient::set_cores(const std::string& deployment, const std::string& op,
                                     const std::string& cores) {
  OPSPLIT_TRY(const json reply,
              call({{"op", "set"}, {"deployment", deployment}, {"operator", op}, {"cores", cores}},
                   short_timeout));
  return reply.value("deployment", json());
}

Result<json> DaemonClient::swap(const std::string& deployment, const std::string& op,
                                const std::string& backend,
                                const std::function<Result<>()>& meanwhile) {
  auto reply =
      call({{"op", "swap"}, {"deployment", deployment}, {"operator", op}, {"backend", backend}},
           short_timeout);
  while (reply ? reply->contains("progress") : reply.error().code == ErrorCode::timed_out) {
    OPSPLIT_CHECK(meanwhile());
    reply = socket_.receive_reply(Clock::now() + look_again);
  }
  OPSPLIT_CHECK(reply);
  return reply->value("deployment", json());
}

Result<json> DaemonClient::ps_with_histograms() {
  return call({{"op", "ps"}, {"histograms", true}}, glance_timeout);
}

}  // namespace opsplit::daemon::cli
