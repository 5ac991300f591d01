// What an earlier opsplitd left in /dev/shm when it could not clean up.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace opsplit::daemon {

// Boards and weight folders that no broker stands behind.
std::vector<std::filesystem::path> stale_files();

// Removes them, and what a killed broker left. Error refused: a broker is alive (its pid is named),
// and so may be what lies there; or a foreign RouDi.
Result<> remove_stale_files();

}  // namespace opsplit::daemon
