#include "operators/operator_main.hpp"

#include <signal.h>

#include <CLI/CLI.hpp>
#include <array>
#include <filesystem>

#include "operators/host.hpp"
#include "operators/kernels/kernels.hpp"

namespace opsplit::operators {
namespace {

std::atomic<bool> stop{false};
static_assert(std::atomic<bool>::is_always_lock_free);  // for the signal handler

// SIGTERM and SIGINT end what runs; afterwards they mean again what they meant before.
class StopOnSignals {
 public:
  StopOnSignals() {
    struct sigaction action {};
    action.sa_handler = [](int) { stop = true; };
    sigaction(SIGTERM, &action, &before_[0]);
    sigaction(SIGINT, &action, &before_[1]);
  }
  StopOnSignals(const StopOnSignals&) = delete;
  StopOnSignals& operator=(const StopOnSignals&) = delete;
  ~StopOnSignals() {
    sigaction(SIGTERM, &before_[0], nullptr);
    sigaction(SIGINT, &before_[1], nullptr);
  }

 private:
  std::array<struct sigaction, 2> before_{};
};

}  // namespace

OperatorKind kind_of(const CustomKernels& custom) {
  std::vector<std::string> can_run = kernel_op_types();
  for (const auto& [op_type, make] : custom)
    if (find_kernel(op_type) == nullptr) can_run.push_back(op_type);
  return {[&custom](const OperatorSpec& spec) { return make_native_operator(spec, custom); },
          std::move(can_run)};
}

int operator_main(int argc, char** argv, const CustomKernels& custom) {
  return operator_main(argc, argv, kind_of(custom));
}

int operator_main(int argc, char** argv, const OperatorKind& kind) {
  CLI::App app(
      "Runs one operator of a split deployment. Started by opsplitd, or by whoever likes: opsplit\n"
      "attach DEPLOYMENT/OPERATOR -- PROGRAM.");
  app.set_version_flag("--version", OPSPLIT_VERSION);
  HostOptions options;
  // The last one counts: an image's entry point has one, which who starts it may know better.
  app.add_option("--socket", options.socket, "opsplitd's socket, opsplitd.sock in its folder")
      ->required()
      ->take_last();
  app.add_option("--deployment", options.deployment, "Name of the deployment")->required();
  app.add_option("--operator", options.op, "Name of the operator")->required();
  std::int64_t wait = 0;
  app.add_option("--wait", wait,
                 "Seconds to wait at most for opsplitd and a place in the deployment")
      ->check(CLI::Range(0, 86400))
      ->capture_default_str();
  const std::string program = std::filesystem::path(argv[0]).filename();
  app.footer("Example: " + program +
             " --socket /tmp/opsplit-$(id -u)/opsplitd.sock --deployment digits --operator conv");
  CLI11_PARSE(app, argc, argv);
  options.wait = std::chrono::seconds(wait);

  stop = false;
  const StopOnSignals signals;
  signal(SIGPIPE, SIG_IGN);

  const auto result = run_host(options, kind, stop);
  if (!result) {
    fmt::print(stderr, "{}: {}\n", program, result.error().message);
    return 1;
  }
  return 0;
}

}  // namespace opsplit::operators
