// A deployment in containers: the file that docker-compose takes, written from the plan. The anchor,
// the broker, opsplitd, one service per operator, and the deployment's client, if it has one.
// docs/containers.md explains it to whoever runs it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "daemon/backend.hpp"
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
// `attach` gets no service, only a comment: somebody else's container joins as it. One on a GPU sees that GPU and no
// other, opsplitd those of the deployment, by the names in the deployment file. The target's path is a
// relative one: an absolute `model` can be told from one relative to the file then. Error: the
// `model` climbs too far above the deployment file, an operator on a GPU has a backend without an image for that, or
// check_kernels().
Result<std::string> compose_file(const Planned& planned, const Target& target,
                                 const ComposeOptions& options);

// Whether there is an image for it: on a GPU only for the native kernels, since no framework's image has CUDA.
constexpr bool has_image(Backend backend, bool on_gpu) {
  return backend != Backend::attach && (!on_gpu || backend == Backend::native);
}
// What an operator's containers are made from where it has this backend. Only for what has an image.
std::string compose_image(Backend backend, bool on_gpu);

// What a service is made from after a swap, instead of what its compose file said before.
struct ServiceImage {
  std::string image;
  std::uint64_t memory = 0;  // bytes at most; 0: no limit
};

// The memory limit of a container of `image` in place of one of `before`, which has `memory`: never less, and
// more where the framework in there takes more. One that we do not know may be the largest.
std::uint64_t compose_memory(std::uint64_t memory, const std::string& before,
                             const std::string& image);

// The members of the operator's service that change.
std::string compose_members(const ServiceImage& now);
// What compose_file() has written, changed by them. Error not_found: there is no such service.
Result<std::string> changed_compose_file(const std::string& text, std::string_view op,
                                         const ServiceImage& now);
// A compose file of just them, to be read after the others.
std::string compose_override(std::string_view op, const ServiceImage& now);

}  // namespace opsplit::daemon
