// opsplit: the command line.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "daemon/cli/chaos_client.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/paths.hpp"

namespace opsplit::daemon::cli {
namespace {

// With what was printed on its way to whoever reads it.
Result<> run(const Invocation& invocation) try {
  OPSPLIT_CHECK(invocation.run());
  std::cout.flush();
  if (!std::cout || std::fflush(stdout) != 0) return fail_errno(errno, "standard output");
  return {};
} catch (const std::exception& error) {  // of fmt::print, above all
  return fail(ErrorCode::system, "{}", error.what());
}

}  // namespace
}  // namespace opsplit::daemon::cli

int main(int argc, char** argv) {
  using namespace opsplit;
  using namespace opsplit::daemon;

  // A file of ours must not become the standard output that the caller has closed.
  int fd = 0;
  do fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO);
  close(fd);
  CLI::App app(
      "Splits a neural network into operators that each run in a process of their own and hand "
      "each "
      "other tensors in shared memory.");
  app.set_version_flag("--version", OPSPLIT_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  opsplit plan model.onnx --split stages:4      what would be started, and where\n"
      "  opsplit up model.onnx --split by-type         start it, wait until it is ready\n"
      "  opsplit ps                                    the operators: pid, cores, state\n"
      "  opsplit set model/conv cores=0-1              other cores, while requests flow\n"
      "  opsplit attach model/relu -- ./my_operator    a program of yours in its place\n"
      "  opsplit top                                   their load, live\n"
      "  opsplit infer model --input x=x.npy --output-dir out\n"
      "  opsplit trace model -o trace.json             follow requests through the operators\n"
      "  opsplit chaos model --for 60s                 kill its processes under load, and count\n"
      "  opsplit down                                  stop everything\n");
  cli::Invocation invocation;
  invocation.folder = default_folder();
  app.add_option("--folder", invocation.folder, "Folder of opsplitd's socket and logs")
      ->capture_default_str();
  cli::add_init(app, invocation);
  cli::add_plan(app, invocation);
  cli::add_up(app, invocation);
  cli::add_ps(app, invocation);
  cli::add_set(app, invocation);
  cli::add_attach(app, invocation);
  cli::add_swap(app, invocation);
  cli::add_top(app, invocation);
  cli::add_logs(app, invocation);
  cli::add_down(app, invocation);
  cli::add_clean(app, invocation);
  cli::add_doctor(app, invocation);
  cli::add_infer(app, invocation);
  cli::add_run(app, invocation);
  cli::add_export(app, invocation);
  cli::add_bench(app, invocation);
  cli::add_chaos(app, invocation);
  cli::add_chaos_client(app, invocation);
  cli::add_trace(app, invocation);
  cli::add_completion(app, invocation);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // Help and version are no errors; all others are the caller's: 2, as for most tools.
    return app.exit(error) == 0 ? 0 : 2;
  }
  signal(SIGPIPE, SIG_IGN);
  const auto result = cli::run(invocation);
  if (!result) std::fputs(fmt::format("opsplit: {}\n", result.error().message).c_str(), stderr);
  return result ? 0 : 1;
}
