// opsplit-operator: runs any operator of any split with our own kernels. opsplitd starts it.
#include <signal.h>

#include <CLI/CLI.hpp>

#include "operators/host.hpp"

namespace {

std::atomic<bool> stop{false};
static_assert(std::atomic<bool>::is_always_lock_free);  // for the signal handler

}  // namespace

int main(int argc, char** argv) {
  using namespace opsplit;

  CLI::App app("Runs one operator of a split deployment. Started by opsplitd.");
  app.set_version_flag("--version", OPSPLIT_VERSION);
  operators::HostOptions options;
  std::string name;
  app.add_option("--socket", options.socket, "opsplitd's socket")->required();
  app.add_option("--deployment", options.deployment, "Name of the deployment")->required();
  app.add_option("--operator", name, "Name of the operator, for whoever looks at the process list");
  CLI11_PARSE(app, argc, argv);

  struct sigaction action {};
  action.sa_handler = [](int) { stop = true; };
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);

  const auto result = operators::run_host(options, operators::make_native_operator, stop);
  if (!result) {
    fmt::print(stderr, "opsplit-operator: {}\n", result.error().message);
    return 1;
  }
  return 0;
}
