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

Result<> remove_stale_files() {
  OPSPLIT_TRY(const auto holder, lock_holder(ipc::broker_lock_path));
  if (holder)
    return fail(ErrorCode::refused,
                "another opsplit broker runs on this host (pid {}): there can be one per /tmp and "
                "/dev/shm",
                holder->process.pid);
  for (const auto& path : stale_files()) {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    if (error) return fail_errno(error.value(), "left over and not to be removed: {}", path.string());
  }
  return {};
}

void remove_files_of_dead_broker() {
  std::error_code ignored;
  if (!std::filesystem::exists(ipc::broker_lock_path, ignored)) return;  // it ended well
  const auto last = last_lock_holder(ipc::broker_lock_path);
  const auto lock = lock_exclusive(ipc::broker_lock_path);
  if (!last || !lock) return;
  // Its note says which management segment was its own.
  const std::uint64_t inode = ipc::management_segment_inode();
  const auto group = ipc::group_name();
  if (inode != 0 && group && last->note.ends_with(fmt::format("mgmt {}", inode))) {
    ipc::remove_files(ipc::segment_files(*group));
    ipc::remove_files(ipc::socket_and_lock_files());
  }
  ipc::remove_files({ipc::broker_lock_path});
}

}  // namespace opsplit::daemon
