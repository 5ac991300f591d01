// `top`: what runs, live.
#include "daemon/top.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <thread>

#include "daemon/cli/commands.hpp"
#include "daemon/cli/containers.hpp"
#include "daemon/cli/daemon_client.hpp"
#include "daemon/cli/screen.hpp"

namespace opsplit::daemon::cli {
namespace {

struct TopOptions {
  std::string deployment;
  double delay_seconds = 1;
  std::uint64_t count = 0;  // 0: until somebody has seen enough
};

Result<Snapshot> take_snapshot(DaemonClient& opsplitd, const std::string& deployment) {
  OPSPLIT_TRY(const nlohmann::json reply, opsplitd.ps_with_histograms());
  OPSPLIT_TRY(Snapshot snapshot, snapshot_of(reply));
  if (deployment.empty()) return snapshot;
  std::erase_if(snapshot.deployments, [&](const auto& one) { return one.name != deployment; });
  if (snapshot.deployments.empty())
    return fail(ErrorCode::not_found, "no deployment '{}': see `opsplit ps`", deployment);
  return snapshot;
}

// On a terminal over the whole of it; else, for scripts, one table after the other.
class View {
 public:
  static Result<View> open() {
    View view;
    if (::isatty(STDOUT_FILENO) == 0) return view;
    OPSPLIT_TRY(Screen screen, Screen::open());
    view.screen_.emplace(std::move(screen));
    return view;
  }

  // The first has nothing to compare with: scripts wait for the next.
  Result<> show(const Snapshot* earlier, const Snapshot& now) {
    if (screen_) {
      const auto [columns, lines] = screen_->size();
      std::string text = top_text(earlier, now, columns);
      if (text.empty()) text = "no deployments: `opsplit up` starts one\n";
      return screen_->show(fit(text + "\nq: quit\n", columns, lines));
    }
    if (earlier == nullptr) return {};
    fmt::print("{}{}", std::exchange(separator_, "\n"), top_text(earlier, now));
    // Whoever reads a pipe wants each table when it is there.
    if (std::fflush(stdout) != 0) return fail_errno(errno, "standard output");
    return {};
  }

  Screen::Event wait(Deadline deadline) {
    if (screen_) return screen_->wait(deadline);
    std::this_thread::sleep_until(deadline);
    return Screen::Event::timeout;
  }

 private:
  std::optional<Screen> screen_;
  const char* separator_ = "";
};

Result<> top(const Invocation& invocation, const TopOptions& options) {
  if (std::isnan(options.delay_seconds))  // it passes for a number in any range
    return fail(ErrorCode::invalid_input, "--delay: must be a number of seconds");
  OPSPLIT_TRY(auto opsplitd, DaemonClient::connect(invocation.folder));
  std::optional<Snapshot> earlier;
  OPSPLIT_TRY(Snapshot now, take_snapshot(opsplitd, options.deployment));
  OPSPLIT_TRY(View view, View::open());
  const auto delay = std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(options.delay_seconds));
  Deadline next = Clock::now() + delay;
  for (std::uint64_t shown = 0;;) {
    OPSPLIT_CHECK(view.show(earlier ? &*earlier : nullptr, now));
    if (options.count != 0 && shown == options.count) return {};
    const auto event = view.wait(next);
    if (event == Screen::Event::quit) return {};
    if (event == Screen::Event::resized) continue;
    next = std::max(next + delay, Clock::now());
    auto snapshot = take_snapshot(opsplitd, options.deployment);
    if (!snapshot && snapshot.error().code == ErrorCode::unavailable)
      return fail(ErrorCode::unavailable, "opsplitd has ended");
    if (!snapshot) return tl::unexpected(snapshot.error());
    earlier = std::exchange(now, std::move(*snapshot));
    ++shown;
  }
}

}  // namespace

void add_top(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("top", "Watch deployments: load, latency, memory, restarts");
  auto options = std::make_shared<TopOptions>();
  command->add_option("deployment", options->deployment, "Name of the deployment (default: all)");
  command->add_option("-d,--delay", options->delay_seconds, "Seconds between two looks")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  command->add_option("-n,--count", options->count, "End after so many (default: with q)")
      ->check(CLI::PositiveNumber);
  command->footer(
      "Rates and durations are those of the time since the last look. docs/monitoring.md explains "
      "the "
      "columns.\nExample: opsplit top digits -d 0.5");
  command->callback([&, options] {
    invocation.run = [&invocation, options]() -> Result<> {
      const auto in_containers = ContainerDeployment::find(invocation.folder, options->deployment);
      if (!in_containers) return top(invocation, *options);
      std::vector<std::string> arguments = {"top", options->deployment, "--delay",
                                            fmt::format("{}", options->delay_seconds)};
      if (options->count != 0)
        arguments.insert(arguments.end(), {"--count", std::to_string(options->count)});
      return in_containers->opsplit(arguments);
    };
  });
}

}  // namespace opsplit::daemon::cli
