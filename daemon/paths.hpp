// Where opsplitd's files are, unless the command line says otherwise.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>

namespace opsplit::daemon {

// Of the socket and the logs. In /tmp like RouDi's own files: whoever has another /tmp has another
// opsplitd, too.
inline std::filesystem::path default_folder() { return "/tmp/opsplit-" + std::to_string(getuid()); }

// Held by the opsplitd that everything of opsplit's in /dev/shm belongs to.
inline constexpr const char* daemon_lock_path = "/dev/shm/opsplitd.lock";

// Of opsplit's programs: where this one is.
inline std::filesystem::path program_folder() {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
}

}  // namespace opsplit::daemon
