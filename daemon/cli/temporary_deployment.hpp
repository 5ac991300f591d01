// A deployment that lasts as long as a command does.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "base/error.hpp"
#include "base/tensor_type.hpp"
#include "daemon/cli/daemon_client.hpp"

namespace opsplit::daemon::cli {

class TemporaryDeployment {
 public:
  static Result<TemporaryDeployment> start(const std::filesystem::path& folder,
                                           const Target& target,
                                           const DaemonClient::StartOptions& options,
                                           const std::function<void(std::string)>& progress) {
    OPSPLIT_TRY(DaemonClient opsplitd, DaemonClient::connect_or_start(folder, options));
    OPSPLIT_TRY(const nlohmann::json status,
                opsplitd.up(target, progress, DaemonClient::Lifetime::temporary));
    return TemporaryDeployment(std::move(opsplitd), status.value("name", ""));
  }
  TemporaryDeployment(TemporaryDeployment&&) noexcept = default;
  TemporaryDeployment& operator=(TemporaryDeployment&&) = delete;
  ~TemporaryDeployment() { (void)stop(); }  // on an error's way out

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::filesystem::path socket_path() const { return opsplitd_->socket_path(); }

  // Nothing of it is left afterwards; opsplitd is gone, too, if it was started for it.
  Result<> stop() {
    if (!opsplitd_) return {};
    const auto stopped = opsplitd_->down(name_);
    opsplitd_.reset();
    if (!stopped) return tl::unexpected(stopped.error());
    return {};
  }

 private:
  TemporaryDeployment(DaemonClient opsplitd, std::string name)
      : opsplitd_(std::make_unique<DaemonClient>(std::move(opsplitd))), name_(std::move(name)) {}

  std::unique_ptr<DaemonClient> opsplitd_;  // null: stopped, or moved from
  std::string name_;
};

}  // namespace opsplit::daemon::cli
