// What an earlier opsplitd left in /dev/shm when it could not clean up.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace opsplit::daemon {

// Boards and weight folders that no broker stands behind.
std::vector<std::filesystem::path> stale_files();

// Removes them. Error refused: a broker is alive (its pid is named), and so may be what lies there.
Result<> remove_stale_files();

// What a broker that was killed left: its segments, sockets and lock. Nothing that a living one, or a
// foreign RouDi, has.
void remove_files_of_dead_broker();

}  // namespace opsplit::daemon
