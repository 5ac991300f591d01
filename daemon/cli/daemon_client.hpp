// opsplitd as the commands see it: asked over its socket, and started if none runs.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "daemon/cli/commands.hpp"
#include "ipc/message_socket.hpp"

namespace opsplit::daemon::cli {

class DaemonClient {
 public:
  struct StartOptions {
    std::vector<std::uint64_t> reserve;  // of the broker; empty: opsplitd's default
    std::vector<int> cpus;               // that it and all operators may use; empty: all of ours
  };

  // Error unavailable: none runs.
  static Result<DaemonClient> reach(const std::filesystem::path& folder);
  // The same; but where one that has died left something to a successor, that is started.
  static Result<DaemonClient> connect(const std::filesystem::path& folder);
  // Starts one that ends with its last deployment if none runs. Its last words are in the error.
  static Result<DaemonClient> connect_or_start(const std::filesystem::path& folder,
                                               const StartOptions& options);

  // The status of the deployment once it is ready. A temporary one ends with this object, however
  // that ends.
  enum class Lifetime { until_down, temporary };
  Result<nlohmann::json> up(const Target& target, const std::function<void(std::string)>& progress,
                            Lifetime lifetime = Lifetime::until_down);
  // Empty name: everything. Returns once nothing of it is left, opsplitd itself included if it ends.
  Result<std::size_t> down(const std::string& name);
  Result<nlohmann::json> ps();
  // The status of the deployment once every process of it has its affinity.
  Result<nlohmann::json> set_cores(const std::string& deployment, const std::string& op,
                                   const std::string& cores);
  // The status of the deployment once another program serves in the operator's place, and the earlier one
  // has ended. Meanwhile `meanwhile` is called again and again, first when that program may attach; its
  // error ends the swap.
  Result<nlohmann::json> swap(const std::string& deployment, const std::string& op,
                              const std::string& backend,
                              const std::function<Result<>()>& meanwhile);
  Result<nlohmann::json> ps_with_histograms();

  [[nodiscard]] std::filesystem::path socket_path() const;

 private:
  static Result<DaemonClient> start(const std::filesystem::path& folder,
                                    const StartOptions& options);
  DaemonClient(std::filesystem::path folder, ipc::MessageSocket socket);
  Result<nlohmann::json> call(nlohmann::json request, std::chrono::seconds timeout);
  void wait_for_exit();

  std::filesystem::path folder_;
  ipc::MessageSocket socket_;
  bool started_ = false;  // by us
};

}  // namespace opsplit::daemon::cli
