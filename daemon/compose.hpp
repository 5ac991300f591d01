// A deployment in containers: the file that docker-compose takes, written from the plan. The anchor,
// the broker, opsplitd, one service per operator, and the deployment's client, if it has one.
// docs/containers.md explains it to whoever runs it.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "daemon/preparation.hpp"

namespace opsplit::daemon {

// Whose /dev/shm the containers share: the host's, or one of their own, so that deployments can run
// side by side.
enum class IpcNamespace { host, own };

struct ComposeOptions {
  // Of the compose file: paths below it become relative to it, and if it lies in the repository that
  // is built, all paths in there.
  std::filesystem::path folder = {};
  std::filesystem::path build_context = {};  // our repository; empty: the images are there
  IpcNamespace ipc = IpcNamespace::host;
};

// The service of an operator: its name, unless one of our own services has it.
std::string compose_service(std::string_view op);

// What its containers may be made from.
std::set<std::string> compose_images(const Deployment& deployment);

// Pools and memory limits come from the plan, made for this machine's CPU. An operator with backend
// `attach` gets no service, only a comment: somebody else's container joins as it. The target's path is a
// relative one: an absolute `model` can be told from one relative to the file then. Error: the
// `model` climbs too far above the deployment file, or check_kernels().
Result<std::string> compose_file(const Planned& planned, const Target& target,
                                 const ComposeOptions& options);

}  // namespace opsplit::daemon
