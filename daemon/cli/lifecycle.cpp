// init, up, ps, logs, down, completion.
#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <thread>

#include "daemon/cli/commands.hpp"
#include "daemon/cli/containers.hpp"
#include "daemon/cli/daemon_client.hpp"
#include "daemon/deployment.hpp"
#include "daemon/table.hpp"
#include "daemon/target_options.hpp"

namespace opsplit::daemon::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

std::string milliseconds(std::uint64_t ns) {
  return fmt::format("{:.1f}", static_cast<double>(ns) / 1e6);
}

void print_deployments(const json& deployments) {
  for (const json& deployment : deployments) {
    if (!deployment.contains("instances")) {
      fmt::print("{}: {}\n", deployment.value("name", ""), deployment.value("phase", ""));
      continue;
    }
    fmt::print(
        "{}: {}{}, {} split {}, {} of {} slots in use, {} clients\n", deployment.value("name", ""),
        deployment.value("phase", ""), deployment.contains("runtime") ? " in containers" : "",
        deployment.value("model", ""), deployment.value("split", ""), deployment.value("in_use", 0),
        deployment.value("depth", 0), deployment.value("clients", 0));
    std::vector<std::vector<std::string>> rows = {{"operator", "pid", "cores", "threads", "state",
                                                   "tasks", "done", "busy ms", "copied B",
                                                   "restarts"}};
    for (const json& instance : deployment.value("instances", json::array()))
      rows.push_back({instance.value("instance", 0) == 0
                          ? instance.value("operator", "")
                          : fmt::format("{}.{}", instance.value("operator", ""),
                                        instance.value("instance", 0)),
                      std::to_string(instance.value("pid", 0)), instance.value("cores", ""),
                      std::to_string(instance.value("threads", 0)), instance.value("state", ""),
                      std::to_string(instance.value("tasks", 0)),
                      std::to_string(instance.value("tasks_done", 0)),
                      milliseconds(instance.value("busy_ns", std::uint64_t{0})),
                      std::to_string(instance.value("bytes_copied", std::uint64_t{0})),
                      std::to_string(instance.value("restarts", 0))});
    fmt::print("{}", render_table(rows));
  }
}

// The instance that "N/OP" or "N/OP.1" names.
Result<json> find_instance(const json& deployments, const std::string& name) {
  const auto slash = name.find('/');
  if (slash == std::string::npos)
    return fail(ErrorCode::invalid_input,
                "'{}': write DEPLOYMENT/OPERATOR, as `opsplit ps` shows them", name);
  for (const json& deployment : deployments) {
    if (deployment.value("name", "") != name.substr(0, slash)) continue;
    for (const json& instance : deployment.value("instances", json::array())) {
      const std::string op = instance.value("operator", "");
      const std::string wanted = name.substr(slash + 1);
      if (wanted == op ? instance.value("instance", 0) == 0
                       : wanted == fmt::format("{}.{}", op, instance.value("instance", 0)))
        return instance;
    }
  }
  return fail(ErrorCode::not_found, "no operator '{}': see `opsplit ps`", name);
}

Result<> follow(const std::filesystem::path& log, bool for_ever) {
  if (log.empty())
    return fail(ErrorCode::not_found, "opsplitd did not start it: its log is with whoever did");
  std::ifstream stream(log);
  if (!stream) return fail_errno(errno, "{}", log.string());
  while (true) {
    std::cout << stream.rdbuf() << std::flush;
    stream.clear();
    std::cout.clear();  // nothing to copy counts as a failure of the output
    if (!for_ever) return {};
    std::error_code gone;
    if (!std::filesystem::exists(log, gone)) return {};
    // It began anew when it had grown too long.
    if (std::filesystem::file_size(log, gone) < static_cast<std::uintmax_t>(stream.tellg()))
      stream.seekg(0);
    std::this_thread::sleep_for(200ms);
  }
}

// Of processes and containers. Error unavailable: there are none.
Result<json> status_of_all(const Invocation& invocation) {
  const std::vector<ContainerDeployment> in_containers =
      ContainerDeployment::all(invocation.folder);
  auto opsplitd = DaemonClient::connect(invocation.folder);
  if (!opsplitd && in_containers.empty()) return tl::unexpected(opsplitd.error());
  json status = {{"deployments", json::array()}};
  if (opsplitd) {
    OPSPLIT_TRY(status, opsplitd->ps());
  }
  for (const ContainerDeployment& deployment : in_containers) {
    const auto found = deployment.status();
    status["deployments"].push_back(found ? *found
                                          : json{{"name", deployment.name()},
                                                 {"runtime", "docker"},
                                                 {"phase", found.error().message}});
  }
  return status;
}

}  // namespace

// Whether anybody reads it does not matter.
void print_progress(const std::string& text) { std::fputs((text + " ...\n").c_str(), stderr); }

void add_target(CLI::App& command, Target& target, TargetOptions which) {
  command.add_option("target", target.path, "A deployment file (.yaml) or a model (.onnx)")
      ->required()
      ->type_name("MODEL|DEPLOYMENT");
  if (which == TargetOptions::all) add_split_option(command, target);
  add_name_and_shapes(command, target);
}

void add_init(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("init", "Print a commented deployment file to start from");
  command->footer("Example: opsplit init > model.yaml");
  command->callback([&] {
    invocation.run = [&]() -> Result<> {
      fmt::print("{}", commented_example());
      return {};
    };
  });
}

void add_up(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("up", "Start a deployment and wait until it is ready");
  auto target = std::make_shared<Target>();
  auto reserve = std::make_shared<std::vector<std::uint64_t>>();
  auto runtime = std::make_shared<std::string>("process");
  add_target(*command, *target);
  command
      ->add_option("--runtime", *runtime,
                   "docker: each operator in a container, through docker-compose")
      ->check(CLI::IsMember({"process", "docker"}))
      ->capture_default_str();
  command
      ->add_option("--reserve", *reserve,
                   "Memory for deployments that join later, one size each (only if opsplitd does "
                   "not run yet)")
      ->transform(CLI::AsSizeValue(false));
  command->footer(
      "Examples:\n  opsplit up digits.yaml\n  opsplit up model.onnx --split stages:4 --name m4\n"
      "  opsplit up digits.yaml --runtime docker");
  command->callback([&, target, reserve, runtime] {
    invocation.run = [&invocation, target, reserve, runtime]() -> Result<> {
      if (*runtime == "docker") {
        OPSPLIT_TRY(const json deployment,
                    ContainerDeployment::up(invocation.folder, *target, print_progress));
        print_deployments(json::array({deployment}));
        return {};
      }
      OPSPLIT_TRY(const Deployment read, Deployment::open(*target));
      OPSPLIT_CHECK(ContainerDeployment::check_name_is_free(invocation.folder, read.name));
      OPSPLIT_TRY(auto opsplitd, DaemonClient::connect_or_start(invocation.folder, {*reserve, {}}));
      OPSPLIT_TRY(const json deployment, opsplitd.up(*target, print_progress));
      print_deployments(json::array({deployment}));
      return {};
    };
  });
}

void add_ps(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("ps", "Show deployments and their operators");
  auto as_json = std::make_shared<bool>(false);
  command->add_flag("--json", *as_json, "As JSON, with everything that opsplitd knows");
  command->callback([&, as_json] {
    invocation.run = [&invocation, as_json]() -> Result<> {
      OPSPLIT_TRY(const json status, status_of_all(invocation));
      if (*as_json)
        fmt::print("{}\n", status.dump(2));
      else
        print_deployments(status.value("deployments", json::array()));
      return {};
    };
  });
}

void add_logs(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("logs", "Print what an operator wrote");
  auto name = std::make_shared<std::string>();
  auto for_ever = std::make_shared<bool>(false);
  command->add_option("operator", *name, "DEPLOYMENT/OPERATOR")->required();
  command->add_flag("-f,--follow", *for_ever, "Go on with what it writes from now on");
  command->footer("Example: opsplit logs digits/conv -f");
  command->callback([&, name, for_ever] {
    invocation.run = [&invocation, name, for_ever]() -> Result<> {
      if (const auto slash = name->find('/'); slash != std::string::npos)
        if (const auto found = ContainerDeployment::find(invocation.folder, name->substr(0, slash)))
          return found->logs(name->substr(slash + 1), *for_ever);
      OPSPLIT_TRY(auto opsplitd, DaemonClient::connect(invocation.folder));
      OPSPLIT_TRY(const json status, opsplitd.ps());
      OPSPLIT_TRY(const json instance,
                  find_instance(status.value("deployments", json::array()), *name));
      return follow(instance.value("log", ""), *for_ever);
    };
  });
}

void add_down(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("down", "Stop a deployment, or all of them");
  auto name = std::make_shared<std::string>();
  command->add_option("deployment", *name, "Name of the deployment (default: all)");
  command->callback([&, name] {
    invocation.run = [&invocation, name]() -> Result<> {
      std::size_t stopped = 0;
      for (ContainerDeployment& deployment : ContainerDeployment::all(invocation.folder)) {
        if (!name->empty() && deployment.name() != *name) continue;
        OPSPLIT_CHECK(deployment.down());
        ++stopped;
      }
      auto opsplitd = DaemonClient::connect(invocation.folder);
      if (stopped == 0 || (name->empty() && opsplitd)) {
        if (!opsplitd) return tl::unexpected(opsplitd.error());
        OPSPLIT_TRY(const std::size_t processes, opsplitd->down(*name));
        stopped += processes;
      }
      fmt::print("{} stopped\n",
                 stopped == 1 ? "1 deployment" : fmt::format("{} deployments", stopped));
      return {};
    };
  });
}

void add_completion(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("completion", "Print shell completion for bash");
  command->footer("Example: source <(opsplit completion)");
  command->callback([&app, &invocation] {
    invocation.run = [&app]() -> Result<> {
      std::string names;
      for (const auto* known : app.get_subcommands({})) names += known->get_name() + " ";
      fmt::print(
          "_opsplit() {{\n"
          "  local word=${{COMP_WORDS[COMP_CWORD]}}\n"
          "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "    COMPREPLY=($(compgen -W \"{}\" -- \"$word\"))\n"
          "  elif [ \"${{word#-}}\" != \"$word\" ]; then\n"
          "    COMPREPLY=($(compgen -W \"$(opsplit \"${{COMP_WORDS[1]}}\" --help | grep -o -- "
          "'--[a-z-]*')\" -- \"$word\"))\n"
          "  else\n"
          "    COMPREPLY=($(compgen -f -- \"$word\"))\n"
          "  fi\n"
          "}}\n"
          "complete -o filenames -F _opsplit opsplit\n",
          names);
      return {};
    };
  });
}

}  // namespace opsplit::daemon::cli
