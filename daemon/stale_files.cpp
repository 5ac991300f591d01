#include "daemon/stale_files.hpp"

#include "base/system.hpp"
#include "ipc/iceoryx_runtime.hpp"
#include "ipc/roudi_files.hpp"

namespace opsplit::daemon {

std::vector<std::filesystem::path> stale_files() {
  std::vector<std::filesystem::path> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm", ignored))
    if (entry.path().filename().string().starts_with("opsplit.") &&
        entry.path() != ipc::broker_lock_path)
      found.push_back(entry.path());
  return found;
}

std::vector<pid_t> users_of(const std::vector<std::filesystem::path>& files) {
  std::vector<std::filesystem::path> all = files;
  std::error_code ignored;
  for (const auto& file : files)
    for (const auto& entry : std::filesystem::recursive_directory_iterator(file, ignored))
      all.push_back(entry.path());
  return processes_that_map(all);
}

Result<> remove_stale(const std::filesystem::path& file) {
  std::error_code error;
  std::filesystem::remove_all(file, error);
  if (error) return fail_errno(error.value(), "left over and not to be removed: {}", file.string());
  return {};
}

Result<> remove_stale_files() {
  for (const auto& file : stale_files()) OPSPLIT_CHECK(remove_stale(file));
  return {};
}

Result<> remove_stale_broker() {
  OPSPLIT_TRY(const FileDescriptor lock, ipc::take_over_from_dead_broker());
  std::error_code ignored;
  std::filesystem::remove(ipc::broker_lock_path, ignored);
  return {};
}

}  // namespace opsplit::daemon
