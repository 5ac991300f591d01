// What an earlier opsplitd left in /dev/shm when it could not clean up.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace opsplit::daemon {

// Boards and weight folders that no broker stands behind.
std::vector<std::filesystem::path> stale_files();

// Removes them. Whoever does so is the only opsplitd here (daemon/paths.hpp).
Result<> remove_stale_files();

// Removes what a killed broker left. Error refused: a broker is alive (its pid is named), or a foreign
// RouDi.
Result<> remove_stale_broker();

}  // namespace opsplit::daemon
