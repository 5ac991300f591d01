// infer and run.
#include <fmt/ranges.h>

#include <algorithm>

#include "daemon/cli/commands.hpp"
#include "daemon/cli/containers.hpp"
#include "daemon/cli/daemon_client.hpp"
#include "daemon/cli/inference.hpp"
#include "daemon/cli/temporary_deployment.hpp"

namespace opsplit::daemon::cli {
namespace {

struct Files {
  std::vector<std::string> inputs;
  std::filesystem::path output_folder;
};

void add_files(CLI::App& command, Files& files) {
  command
      .add_option("--input", files.inputs, "A tensor to feed: .npy, or an ONNX TensorProto (.pb)")
      ->required()
      ->type_name("TENSOR=FILE");
  command.add_option("--output-dir", files.output_folder, "Folder for the answers, one .npy each")
      ->required();
}

// As --shape takes it.
std::string shape_option(const std::string& name, const Shape& shape) {
  return fmt::format("{}={}", name, fmt::join(shape.dims(), ","));
}

Result<> infer(const std::filesystem::path& socket, const std::string& deployment,
               std::map<std::string, HostTensor> inputs, const std::filesystem::path& folder) {
  OPSPLIT_TRY(const auto client, ipc::Client::connect({socket.string(), deployment}));
  OPSPLIT_TRY(const auto matched, match_inputs(*client, std::move(inputs)));
  OPSPLIT_TRY(auto request, submit(*client, matched));
  OPSPLIT_TRY(const auto outputs, answer(*client, request));
  return write_outputs(*client, outputs, folder);
}

}  // namespace

void add_infer(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("infer", "Send one request to a running deployment");
  auto name = std::make_shared<std::string>();
  auto files = std::make_shared<Files>();
  command->add_option("deployment", *name, "Name of the deployment")->required();
  add_files(*command, *files);
  command->footer("Example: opsplit infer digits --input image=digit.npy --output-dir out");
  command->callback([&, name, files] {
    invocation.run = [&invocation, name, files]() -> Result<> {
      if (const auto found = ContainerDeployment::find(invocation.folder, *name))
        return found->infer(files->inputs, files->output_folder);
      OPSPLIT_TRY(auto inputs, read_inputs(files->inputs));
      OPSPLIT_TRY(const auto opsplitd, DaemonClient::connect(invocation.folder));
      return infer(opsplitd.socket_path(), *name, std::move(inputs), files->output_folder);
    };
  });
}

void add_run(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("run", "up, infer and down in one");
  auto target = std::make_shared<Target>();
  auto files = std::make_shared<Files>();
  add_target(*command, *target);
  add_files(*command, *files);
  command->footer(
      "Example: opsplit run model.onnx --split by-type --input x=x.npy --output-dir out");
  command->callback([&, target, files] {
    invocation.run = [&invocation, target, files]() -> Result<> {
      OPSPLIT_TRY(auto inputs, read_inputs(files->inputs));
      // Sizes that the model leaves open are those of the inputs, unless --shape says otherwise.
      for (const auto& [name, tensor] : inputs)
        if (std::none_of(target->shapes.begin(), target->shapes.end(),
                         [&](const std::string& shape) { return shape.starts_with(name + "="); }) &&
            tensor.type.shape.rank() != 0)
          target->shapes.push_back(shape_option(name, tensor.type.shape));
      OPSPLIT_TRY(auto deployment,
                  TemporaryDeployment::start(invocation.folder, *target, {}, print_progress));
      const auto result = infer(deployment.socket_path(), deployment.name(), std::move(inputs),
                                files->output_folder);
      const auto stopped = deployment.stop();
      return result ? stopped : result;
    };
  });
}

}  // namespace opsplit::daemon::cli
