// What an earlier opsplitd left in /dev/shm when it could not clean up.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace opsplit::daemon {

// Boards and weight folders: stale, where nobody uses them.
std::vector<std::filesystem::path> stale_files();
// The processes that have one of them mapped, of those that we may look at. Whatever their own /dev/shm
// is called: by device and inode.
std::vector<pid_t> users_of(const std::vector<std::filesystem::path>& files);

// Removes one of them, or all. Whoever does so is the only opsplitd here (daemon/paths.hpp).
Result<> remove_stale(const std::filesystem::path& file);
Result<> remove_stale_files();

// Removes what a killed broker left. Error refused: a broker is alive (its pid is named), or a foreign
// RouDi.
Result<> remove_stale_broker();

}  // namespace opsplit::daemon
