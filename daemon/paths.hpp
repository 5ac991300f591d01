// Where opsplitd's files are, unless the command line says otherwise.
#pragma once

#include <pwd.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

#include "base/default_folder.hpp"
#include "base/system.hpp"

namespace opsplit::daemon {

using opsplit::default_folder;

// Of weights and graphs, to be made if missing (make_cache_folder()): what systemd made for this user
// (CacheDirectory=opsplit), or in the user's home as the system knows it. Private, for what lies there
// is mapped and computed with.
inline std::filesystem::path cache_folder() {
  const std::filesystem::path of_service = "/var/cache/opsplit";
  if (check_private_folder(of_service)) return of_service;
  const passwd* user = getpwuid(geteuid());
  return std::filesystem::path(user == nullptr ? "/nonexistent" : user->pw_dir) / ".cache/opsplit";
}
// Without a home, say, or on a read-only file system, it fails.
inline Result<> make_cache_folder(const std::filesystem::path& folder) {
  std::error_code ignored;
  std::filesystem::create_directory(folder.parent_path(), ignored);
  return make_private_folder(folder);
}
inline constexpr std::uint64_t cache_limit_bytes = std::uint64_t{4} << 30;

// In opsplitd's folder: the sockets of device brokers.
inline constexpr const char* device_folder_name = "devices";

// An opsplitd that takes longer to answer a `ping` hangs.
inline constexpr std::chrono::seconds answer_timeout{5};

// Held by the opsplitd that everything of opsplit's in /dev/shm belongs to.
inline constexpr const char* daemon_lock_path = "/dev/shm/opsplitd.lock";

// Of opsplit's programs: where this one is.
inline std::filesystem::path program_folder() {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
}

inline constexpr const char* onnx_rules_program = "opsplit-onnx-rules";

}  // namespace opsplit::daemon
