// opsplit-operator: runs any operator of any split with our own kernels. opsplitd starts it.
#include <signal.h>

#include <CLI/CLI.hpp>

#include "operators/host.hpp"
#include "operators/kernels/kernels.hpp"

namespace {

std::atomic<bool> stop{false};
static_assert(std::atomic<bool>::is_always_lock_free);  // for the signal handler

}  // namespace

int main(int argc, char** argv) {
  using namespace opsplit;

  CLI::App app(
      "Runs one operator of a split deployment. Started by opsplitd, or by whoever likes to where "
      "the\n"
      "deployment file says `attach: true` for it.");
  app.set_version_flag("--version", OPSPLIT_VERSION);
  operators::HostOptions options;
  app.add_option("--socket", options.socket, "opsplitd's socket, opsplitd.sock in its folder")
      ->required();
  app.add_option("--deployment", options.deployment, "Name of the deployment")->required();
  app.add_option("--operator", options.op, "Name of the operator")->required();
  std::int64_t wait = 0;
  app.add_option("--wait", wait,
                 "Seconds to wait at most for opsplitd and a place in the deployment")
      ->check(CLI::Range(0, 86400))
      ->capture_default_str();
  app.footer(
      "Example: opsplit-operator --socket /tmp/opsplit-$(id -u)/opsplitd.sock --deployment digits "
      "--operator conv");
  CLI11_PARSE(app, argc, argv);
  options.wait = std::chrono::seconds(wait);

  struct sigaction action {};
  action.sa_handler = [](int) { stop = true; };
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);

  const auto result = operators::run_host(
      options, {operators::make_native_operator, operators::kernel_op_types()}, stop);
  if (!result) {
    fmt::print(stderr, "opsplit-operator: {}\n", result.error().message);
    return 1;
  }
  return 0;
}
