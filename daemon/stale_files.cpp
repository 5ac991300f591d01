#include "daemon/stale_files.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <fstream>
#include <set>

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
  std::set<std::string> mapped;  // "00:1a 5", as a line of /proc/PID/maps says it
  const auto add = [&](const std::filesystem::path& file) {
    struct stat info {};
    if (::lstat(file.c_str(), &info) == 0 && S_ISREG(info.st_mode))
      mapped.insert(
          fmt::format("{:02x}:{:02x} {}", major(info.st_dev), minor(info.st_dev), info.st_ino));
  };
  std::error_code ignored;
  for (const auto& file : files) {
    add(file);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(file, ignored))
      add(entry.path());
  }
  std::vector<pid_t> users;
  for (const auto& process : std::filesystem::directory_iterator("/proc", ignored)) {
    std::ifstream maps(process.path() / "maps");
    std::string range, access, offset, device, inode, rest;
    while (maps >> range >> access >> offset >> device >> inode && std::getline(maps, rest))
      if (mapped.contains(device + " " + inode)) {
        users.push_back(std::stoi(process.path().filename()));
        break;
      }
  }
  return users;
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
