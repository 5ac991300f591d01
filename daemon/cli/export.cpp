// export: a deployment as somebody else starts it.

#include "daemon/cli/commands.hpp"
#include "daemon/cli/output_file.hpp"
#include "daemon/compose.hpp"

namespace opsplit::daemon::cli {

void add_export(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("export", "Write a deployment down for another launcher");
  command->require_subcommand(1);
  auto* compose = command->add_subcommand("compose", "As a file for docker-compose");
  auto target = std::make_shared<Target>();
  auto options = std::make_shared<ComposeOptions>();
  auto output = std::make_shared<std::filesystem::path>();
  auto ipc = std::make_shared<std::string>("host");
  add_target(*compose, *target);
  compose->add_option("-o,--output", *output, "File to write (default: standard output)");
  compose->add_option("--build", options->build_context,
                      "opsplit's repository, to build the images from (default: they are there)");
  compose
      ->add_option("--ipc", *ipc,
                   "host: the host's /dev/shm; own: one of their own, so that several such "
                   "deployments can run side by side")
      ->check(CLI::IsMember({"host", "own"}))
      ->capture_default_str();
  compose->footer(
      "Example: opsplit export compose digits.yaml > compose.yaml && docker-compose -f "
      "compose.yaml up");
  compose->callback([&, target, options, output, ipc] {
    invocation.run = [target, options, output, ipc]() -> Result<> {
      target->path = std::filesystem::proximate(target->path);
      OPSPLIT_TRY(Deployment deployment, Deployment::open(*target));
      OPSPLIT_TRY(const Planned planned, plan_deployment(std::move(deployment)));
      options->ipc = *ipc == "own" ? IpcNamespace::own : IpcNamespace::host;
      options->folder = (std::filesystem::current_path() / *output).parent_path();
      OPSPLIT_TRY(const std::string text, compose_file(planned, *target, *options));
      if (!output->empty()) return write_output(*output, text);
      fmt::print("{}", text);
      return {};
    };
  });
}

}  // namespace opsplit::daemon::cli
