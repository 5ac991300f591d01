// opsplitd: wires the daemon together and runs it until SIGTERM, SIGINT or the last `down`.
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/asio/signal_set.hpp>
#include <nlohmann/json.hpp>

#include "daemon/daemon.hpp"
#include "daemon/metrics.hpp"
#include "daemon/metrics_server.hpp"
#include "daemon/paths.hpp"
#include "daemon/target_options.hpp"

namespace {

using namespace opsplit;
using namespace std::chrono_literals;

// The lock of the opsplitd that everything in /dev/shm belongs to. Two never act: one that holds it, but
// does not answer, is killed before its successor takes the lock.
Result<FileDescriptor> become_the_only_one(const std::filesystem::path& folder) {
  auto lock = lock_exclusive(daemon::daemon_lock_path, folder.native());
  if (lock || lock.error().code != ErrorCode::refused) return lock;
  const auto holder = lock_holder(daemon::daemon_lock_path);
  if (!holder || !*holder) return lock;
  const Deadline deadline = Clock::now() + daemon::answer_timeout;
  auto socket = ipc::MessageSocket::connect(daemon::Daemon::socket_path((*holder)->note), deadline);
  const auto answer = socket
                          ? socket->call({{"op", "ping"}, {"version", OPSPLIT_VERSION}}, deadline)
                          : tl::unexpected(socket.error());
  if (answer || answer.error().code != ErrorCode::timed_out) return lock;
  spdlog::error("opsplitd (pid {}) does not answer: killed", (*holder)->process.pid);
  OPSPLIT_TRY(const FileDescriptor pidfd, open_pidfd((*holder)->process));
  ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
  has_ended(pidfd, Clock::now() + 10s);
  return lock_exclusive(daemon::daemon_lock_path, folder.native());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Plans, starts and supervises split deployments. `opsplit up` starts it by itself.");
  app.set_version_flag("--version", OPSPLIT_VERSION);
  std::filesystem::path folder = daemon::default_folder();
  std::vector<std::uint64_t> reserve = {64 << 20, 64 << 20};
  bool exit_when_empty = false;
  bool exit_when_alone = false;
  app.add_option("--folder", folder, "Folder of the socket and the logs")->capture_default_str();
  app.add_option("--reserve", reserve,
                 "Memory that the broker sets aside for deployments that join later, one size per "
                 "deployment")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  app.add_flag("--exit-when-empty", exit_when_empty, "End after the last deployment was stopped");
  app.add_flag("--exit-when-alone", exit_when_alone,
               "End once nobody is connected and nothing runs: with a program that started it");
  daemon::Target target;
  auto* up = app.add_option("--up", target.path, "A deployment file or a model to start at once");
  daemon::add_split_option(app, target);
  daemon::add_name_and_shapes(app, target);
  app.add_flag("--attach", target.attach,
               "Whoever starts opsplitd starts the operators of --up, too: containers");
  for (const char* option : {"--split", "--name", "--shape", "--attach"})
    app.get_option(option)->needs(up);
  std::filesystem::path broker;
  app.add_option("--broker", broker,
                 "Socket of a broker that somebody else starts (default: opsplitd starts one)")
      ->excludes("--reserve");
  std::string metrics_address;
  app.add_option("--metrics", metrics_address,
                 "Serve http://HOST:PORT/metrics for Prometheus; port 0: a free one, which "
                 "`opsplit ps --json` names")
      ->type_name("HOST:PORT");
  app.footer("Example: opsplitd --reserve 256MB --reserve 64MB");
  CLI11_PARSE(app, argc, argv);

  spdlog::set_default_logger(spdlog::stderr_logger_st("opsplitd"));
  spdlog::set_pattern("%Y-%m-%d %H:%M:%S.%e %n %l: %v");
  ::signal(SIGPIPE, SIG_IGN);

  // Each operator and each client takes a few.
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  // What lies in /dev/shm is one opsplitd's, whatever its folder is.
  auto lock = become_the_only_one(folder);
  if (!lock) {
    fmt::print(stderr, "opsplitd: another opsplitd is running here: {}\n", lock.error().message);
    return 1;
  }
  auto listener = ipc::MessageListener::bind(daemon::Daemon::socket_path(folder));
  if (!listener) {
    fmt::print(stderr, "opsplitd: {}\n", listener.error().message);
    return 1;
  }
  // Without one everything works, but starts more slowly.
  std::filesystem::path cache = daemon::cache_folder();
  if (const auto made = daemon::make_cache_folder(cache); !made) {
    spdlog::info("no cache: {}", made.error().message);
    cache.clear();
  }
  boost::asio::io_context io;
  std::optional<daemon::MetricsServer> metrics;
  if (!metrics_address.empty()) {
    auto listening = daemon::MetricsServer::listen(io, metrics_address);
    if (!listening) {
      fmt::print(stderr, "opsplitd: {}\n", listening.error().message);
      ::unlink(daemon::daemon_lock_path);
      return 1;
    }
    metrics.emplace(std::move(*listening));
  }
  daemon::ProcessLauncher launcher;
  ipc::SystemFutex futex;
  daemon::Daemon opsplitd(io, launcher, futex, std::move(*listener),
                          {folder, cache, daemon::program_folder(), reserve, exit_when_empty,
                           target.path.empty() ? std::nullopt : std::optional(target), broker,
                           metrics ? metrics->address() : "", exit_when_alone});
  if (const auto taken = opsplitd.take_over(); !taken) {
    fmt::print(stderr, "opsplitd: {}\n", taken.error().message);
    ::unlink(daemon::daemon_lock_path);
    return 1;
  }
  if (metrics) {
    metrics->serve([&] {
      const auto reply = opsplitd.ps(daemon::RunningDeployment::Detail::histograms);
      return daemon::metrics_text(daemon::snapshot_of(reply).value());
    });
    spdlog::info("metrics: http://{}/metrics", metrics->address());
  }
  boost::asio::signal_set signals(io, SIGTERM, SIGINT, SIGHUP);
  signals.add(SIGQUIT);
  signals.async_wait([&](const boost::system::error_code& error, int) {
    if (!error) opsplitd.shut_down();
  });
  while (true) {
    try {
      io.run();
      break;
    } catch (const std::exception& error) {  // out of memory or descriptors: the next may go well
      spdlog::critical("an event was lost: {}", error.what());
    }
  }
  ::unlink(daemon::daemon_lock_path);
  lock->reset();  // before whoever waits for our end sees the socket close
  return opsplitd.failed() ? 1 : 0;
}
