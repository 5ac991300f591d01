// What opsplitd keeps for its successor, should it die: in each deployment's folder a file that says
// what the plan and the board do not. Everything else is found out by looking: who is alive, which
// cores they have, what is under way.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "daemon/preparation.hpp"

namespace opsplit::daemon {

// How far it has come.
struct Standing {
  std::uint64_t epoch = 0;
  bool ready = false;              // else it is starting,
  bool restarting = false;         // though not for the first time
  std::filesystem::path opsplitd;  // folder of the opsplitd that its processes know
};

struct SavedDeployment {
  Planned planned;  // without the graph
  Standing standing;
};

// Into the deployment's folder; the file there is replaced whole or not at all.
Result<> save(const std::string& folder, const Planned& planned, const Standing& standing);
// No opsplitd is to go on with it any more.
void forget(const std::string& folder);
// With the plan that lies there. Errors: nothing was saved, or by another version.
Result<SavedDeployment> read_saved(const std::string& folder);
// The deployments' folders in /dev/shm in which something was saved.
std::vector<std::string> saved_folders();

}  // namespace opsplit::daemon
