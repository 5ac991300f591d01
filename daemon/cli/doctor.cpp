// doctor: whether this machine can run deployments, and what stands in the way.
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "base/cpu.hpp"
#include "base/system.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/daemon_client.hpp"
#include "daemon/gpu_report.hpp"
#include "daemon/launcher.hpp"
#include "daemon/paths.hpp"
#include "daemon/stale_files.hpp"
#include "daemon/table.hpp"
#include "daemon/topology.hpp"
#include "ipc/broker.hpp"
#include "ipc/cuda_driver.hpp"
#include "ipc/device_memory.hpp"
#include "ipc/weight_store.hpp"

namespace opsplit::daemon::cli {
namespace {

constexpr std::uint64_t mebibyte = 1 << 20;

struct Finding {
  std::string what;
  std::string state;
  std::string advice;  // empty: all is well
};

Finding shared_memory() {
  struct statvfs info {};
  if (statvfs("/dev/shm", &info) != 0) return {"/dev/shm", "missing", "mount a tmpfs there"};
  const std::uint64_t size = std::uint64_t{info.f_blocks} * info.f_frsize;
  const std::uint64_t free = std::uint64_t{info.f_bavail} * info.f_frsize;
  // The smallest broker: iceoryx's management segment and a pool of a page.
  const std::uint64_t page = 4096;
  const std::uint64_t needed = ipc::broker_bytes({&page, 1}).value_or(0);
  return {"/dev/shm", fmt::format("{} MiB, {} free", size / mebibyte, free / mebibyte),
          free < needed ? fmt::format("the broker alone needs {} MiB (in a container: --shm-size)",
                                      needed / mebibyte + 1)
                        : ""};
}

Finding open_files() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return {"open files", std::to_string(limit.rlim_cur),
          limit.rlim_cur < 1024 ? "raise it to 1024: ulimit -n 1024" : ""};
}

Finding stale(bool daemon_runs) {
  const auto files = stale_files();
  if (daemon_runs || files.empty()) return {"left over", "nothing", ""};
  std::string names;
  for (const auto& file : files) names += " " + file.string();
  if (!users_of(files).empty())
    return {"left over", "what runs on without opsplitd", "the next command starts its successor"};
  return {"left over", fmt::format("{} in /dev/shm", files.size()),
          "removed by `opsplit clean`, or the next `opsplit up`:" + names};
}

Finding cache() {
  const auto folder = cache_folder();
  std::error_code ignored;
  const auto usable =
      std::filesystem::exists(folder, ignored) ? check_private_folder(folder) : Result<>();
  return {"cache",
          fmt::format("{}: {} of {} MiB", folder.string(), ipc::packed_bytes(folder) / mebibyte,
                      cache_limit_bytes / mebibyte),
          usable ? "" : "not used: " + usable.error().message};
}

Finding broker() {
  const auto holder = lock_holder(ipc::broker_lock_path);
  if (!holder) return {"broker", "unknown", holder.error().message};
  return {"broker", *holder ? fmt::format("runs, pid {}", (*holder)->process.pid) : "does not run",
          ""};
}

// What a deployment does: a device broker of its own owns memory, and this process opens it.
Result<> try_handles(const ipc::DeviceUuid& uuid, const std::filesystem::path& folder) {
  OPSPLIT_TRY(const auto driver, ipc::open_cuda_device(to_string(uuid)));
  const auto socket = folder / "device", log = folder / "log";
  const ipc::ArenaId id{"doctor", 1};
  const ipc::DeviceArenaShape shape{mebibyte, 2};
  ProcessLauncher launcher;
  Command command;
  command.arguments = {program_folder() / "opsplit-device-broker",
                       "--socket",
                       socket,
                       "--device",
                       to_string(uuid),
                       "--deployment",
                       id.deployment,
                       "--epoch",
                       std::to_string(id.epoch),
                       "--slot-bytes",
                       std::to_string(shape.slot_bytes),
                       "--depth",
                       std::to_string(shape.depth)};
  command.log = log;
  OPSPLIT_TRY(const Process broker, launcher.launch(command));
  const Deadline deadline = Clock::now() + std::chrono::seconds(20);
  auto tried = ipc::try_device_arena(*driver, socket, id, shape, deadline);
  // It does not listen yet.
  while (!tried && tried.error().code == ErrorCode::unavailable && Clock::now() < deadline &&
         !has_ended(broker.pidfd, Clock::now() + std::chrono::milliseconds(20)))
    tried = ipc::try_device_arena(*driver, socket, id, shape, deadline);
  if (!tried && has_ended(broker.pidfd)) tried = fail(ErrorCode::system, "{}", last_words(log));
  launcher.signal(broker, SIGTERM);
  if (!has_ended(broker.pidfd, deadline)) launcher.signal(broker, SIGKILL);
  launcher.reap(broker);
  return tried;
}

std::vector<std::vector<std::string>> gpus() {
  const auto machine = ipc::cuda_machine();
  std::vector<Result<>> handles;
  for (std::size_t i = 0; machine && i < machine->devices.size(); ++i) {
    std::string folder = "/tmp/opsplit.doctor." + std::string(6, 'X');
    if (mkdtemp(folder.data()) == nullptr) {
      handles.push_back(fail_errno(errno, "{}", folder));
      continue;
    }
    handles.push_back(try_handles(machine->devices[i].uuid, folder));
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
  return gpu_report(machine, handles);
}

}  // namespace

void add_doctor(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("doctor", "Check /dev/shm, limits, versions, cores and GPUs");
  command->callback([&] {
    invocation.run = [&invocation]() -> Result<> {
      const bool daemon_runs = DaemonClient::reach(invocation.folder).has_value();
      std::vector<Finding> findings = {{"opsplit", OPSPLIT_VERSION, ""},
                                       {"iceoryx", std::string(ipc::iceoryx_version()), ""},
                                       {"opsplitd", daemon_runs ? "runs" : "does not run", ""},
                                       broker(),
                                       shared_memory(),
                                       open_files(),
                                       cache(),
                                       stale(daemon_runs)};
      if (const auto topology = Topology::of_this_machine())
        findings.push_back(
            {"cores", topology->summary() + ", allowed " + to_string(topology->allowed()), ""});
      else
        findings.push_back({"cores", "unknown", topology.error().message});
      findings.push_back(
          {"blocked layout", std::string(to_string(preferred_blocked_layout())), ""});
      std::vector<std::vector<std::string>> rows;
      for (const Finding& finding : findings)
        rows.push_back({finding.what, finding.state, finding.advice});
      for (auto& row : gpus()) rows.push_back(std::move(row));
      fmt::print("{}", render_table(rows));
      return {};
    };
  });
}

}  // namespace opsplit::daemon::cli
