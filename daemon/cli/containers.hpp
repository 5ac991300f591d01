// Deployments in containers: `up --runtime docker`. Each has a folder, containers/NAME beside opsplitd's
// socket, that holds its compose file from `up` to `down`. What the other commands do on the host for
// processes, they have done in its opsplitd's container: all parties share a PID namespace there.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "daemon/deployment.hpp"

namespace opsplit::daemon::cli {

// What runs an operator's image beside processes of this user: arguments of the operator may follow. It sees
// /tmp and opsplitd's folder (sockets), the cache, the host's PIDs and IPC namespace, and this GPU (its UUID; empty:
// none), nothing else.
std::vector<std::string> beside_processes(const std::string& image,
                                          const std::filesystem::path& folder,
                                          const std::string& gpu);

// Error: no engine, or one of them is missing, and how to build it.
Result<> check_images(const std::set<std::string>& images);
// Error unavailable: the engine has no such runtime to show GPUs to containers, and how it gets one.
Result<> check_gpu_runtime();

// What `swap --backend attach` says when whoever attaches is not refused any more.
inline constexpr std::string_view waiting_for_whoever_attaches = "waiting for whoever attaches";

class ContainerDeployment {
 public:
  // `folder` is opsplitd's, as everywhere.
  static std::vector<ContainerDeployment> all(const std::filesystem::path& folder);
  static std::optional<ContainerDeployment> find(const std::filesystem::path& folder,
                                                 const std::string& name);
  // One of a compose project that the user keeps (`opsplit export compose`), and that runs: the
  // engine is asked. Only status() and swap() are for such.
  static std::optional<ContainerDeployment> find_project(const std::string& name);
  // Error already_exists: one of that name runs in containers.
  static Result<> check_name_is_free(const std::filesystem::path& folder, const std::string& name);
  // Its status once it is ready. On any error nothing is left of it. Errors: no engine, no images
  // (how to build them), what compose or opsplitd said.
  static Result<nlohmann::json> up(const std::filesystem::path& folder, Target target,
                                   const std::function<void(std::string)>& progress);

  [[nodiscard]] const std::string& name() const { return name_; }
  // As `opsplit ps --json` shows a deployment, with "runtime". Error unavailable: its opsplitd does
  // not answer just now.
  [[nodiscard]] Result<nlohmann::json> status() const;
  // To our output, from the engine.
  [[nodiscard]] Result<> logs(const std::string& op, bool follow) const;
  // `opsplit ARGUMENTS` in there; what it prints is our output. `set` and `top` are such.
  [[nodiscard]] Result<> opsplit(const std::vector<std::string>& arguments) const;
  // `inputs` as `opsplit infer --input` takes them: TENSOR=FILE.
  [[nodiscard]] Result<> infer(const std::vector<std::string>& inputs,
                               const std::filesystem::path& output_folder) const;
  // Another image in an operator's place, while requests flow: as many containers of it as serve now are
  // started beside them, and made as the compose file says otherwise; opsplitd lets them take over
  // (daemon/running_deployment.hpp), and those before are removed. The compose file says the same then; where
  // it is the user's, `note` says what to write there. Until they take over, on any error, SIGINT and
  // SIGTERM, too, those that served serve on, and nothing is left of the others.
  struct Swapped {
    nlohmann::json deployment;
    std::string note;
  };
  [[nodiscard]] Result<Swapped> swap(const std::string& op, const std::string& image,
                                     const std::function<void(std::string)>& progress) const;
  // Containers and volumes are gone afterwards, and so is what lay in /dev/shm.
  Result<> down();

 private:
  ContainerDeployment(const std::filesystem::path& folder, std::string name);
  ContainerDeployment() = default;
  [[nodiscard]] Result<std::vector<std::string>> compose(
      const std::vector<std::filesystem::path>& files, std::vector<std::string> arguments) const;
  // All of them, or a service's, also those that do not run.
  [[nodiscard]] Result<std::vector<std::string>> containers(const std::string& service = "") const;
  [[nodiscard]] Result<std::string> container(const std::string& service) const;
  [[nodiscard]] Result<> wait_until_ready() const;
  [[nodiscard]] Result<nlohmann::json> wait_until_settled(const std::string& op,
                                                          std::size_t wanted) const;

  std::filesystem::path folder_;  // its own, with the only one of files_; empty: the user's project
  std::string name_;
  std::string project_;
  std::filesystem::path working_directory_;
  std::vector<std::filesystem::path> files_;
};

// Why a container has ended, or does not go on: from its log.
Result<std::string> last_words_of_container(const std::string& id);

}  // namespace opsplit::daemon::cli
