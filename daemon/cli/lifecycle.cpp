// init, up, ps, set, logs, down, clean, completion.
#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <thread>

#include "daemon/cli/commands.hpp"
#include "daemon/cli/containers.hpp"
#include "daemon/cli/daemon_client.hpp"
#include "daemon/deployment.hpp"
#include "daemon/device_broker_process.hpp"
#include "daemon/paths.hpp"
#include "daemon/stale_files.hpp"
#include "daemon/table.hpp"
#include "daemon/target_options.hpp"

namespace opsplit::daemon::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

std::string milliseconds(std::uint64_t ns) {
  return fmt::format("{:.1f}", static_cast<double>(ns) / 1e6);
}

constexpr auto follow_timeout = 10s;  // for instances to run as they were told

std::string name_of(const json& instance) {
  const std::string op = instance.value("operator", "");
  const int number = instance.value("instance", 0);
  return number == 0 ? op : fmt::format("{}.{}", op, number);
}

std::string state_of(const json& instance) {
  std::string state = instance.value("state", "");
  if (instance.value("changing", false)) state += ", changing";
  if (!instance.value("degraded", "").empty()) state += ", degraded";
  if (const std::string backend = instance.value("backend", "native"); backend != "native")
    state += fmt::format(" ({})", backend);
  return state;
}

std::string gpu_of(const json& instance, const json& gpus) {
  const auto number = instance.value("gpu", std::size_t{0});
  return number < gpus.size() ? gpus[number].value("device", "") : "";
}

// The deployment's status once its processes have arranged themselves on their new cores. Error
// timed_out: one hangs.
Result<json> await_change(DaemonClient& opsplitd, json deployment) {
  const auto is_changing = [](const json& instance) {  // one that still loads follows by itself
    return instance.value("changing", false) && instance.value("state", "") != "starting";
  };
  const Deadline deadline = Clock::now() + follow_timeout;
  while (true) {
    const json instances = deployment.value("instances", json::array());
    const auto changing = std::find_if(instances.begin(), instances.end(), is_changing);
    if (changing == instances.end()) break;
    if (Clock::now() >= deadline)
      return fail(ErrorCode::timed_out,
                  "{} is on its new cores, but has not arranged itself there within {} s: see "
                  "`opsplit ps` and `opsplit logs {}/{}`",
                  name_of(*changing), follow_timeout.count(), deployment.value("name", ""),
                  name_of(*changing));
    std::this_thread::sleep_for(20ms);
    OPSPLIT_TRY(const json status, opsplitd.ps());
    const json deployments = status.value("deployments", json::array());
    const auto found = std::find_if(deployments.begin(), deployments.end(), [&](const json& d) {
      return d.value("name", "") == deployment.value("name", "");
    });
    if (found == deployments.end()) break;  // stopped meanwhile
    deployment = *found;
  }
  return deployment;
}

// The instance that "N/OP" or "N/OP.1" names.
Result<json> find_instance(const json& deployments, const std::string& name) {
  OPSPLIT_TRY(const OperatorName wanted, operator_name(name));
  for (const json& deployment : deployments) {
    if (deployment.value("name", "") != wanted.deployment) continue;
    for (const json& instance : deployment.value("instances", json::array())) {
      const std::string op = instance.value("operator", "");
      if (wanted.op == op ? instance.value("instance", 0) == 0
                          : wanted.op == fmt::format("{}.{}", op, instance.value("instance", 0)))
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

// What lies here although nobody uses it any more. The next `up` would remove it, too.
Result<> clean(const std::filesystem::path& folder) {
  // Nobody starts an opsplitd meanwhile.
  auto lock = lock_exclusive(daemon_lock_path, folder.native());
  if (!lock && lock.error().code == ErrorCode::refused)
    return fail(ErrorCode::refused, "opsplitd runs ({}): `opsplit down` ends what it has started",
                lock.error().message);
  if (!lock) return tl::unexpected(lock.error());
  const auto files = stale_files();
  const auto users = users_of(files);
  if (!users.empty() || !remove_stale_broker()) {
    ::unlink(daemon_lock_path);
    return fail(
        ErrorCode::refused, "{} alive: `opsplit down` ends what runs without an opsplitd",
        users.empty() ? "a broker is" : fmt::format("processes {} are", fmt::join(users, ", ")));
  }
  OPSPLIT_CHECK(remove_stale_files());
  end_stale_device_brokers(folder / device_folder_name);
  std::error_code ignored;
  std::filesystem::remove(folder / device_folder_name, ignored);
  for (const char* left :
       {"opsplitd.sock", "opsplitd.sock.lock", "broker.sock", "broker.sock.lock", "logs"})
    std::filesystem::remove_all(folder / left, ignored);
  ::unlink(daemon_lock_path);
  for (const auto& file : files) fmt::print("removed {}\n", file.string());
  return {};
}

}  // namespace

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
    const json gpus = deployment.value("gpus", json::array());
    std::vector<std::vector<std::string>> rows = {{"operator", "pid", "cores", "threads", "state",
                                                   "tasks", "done", "busy ms", "copied B",
                                                   "restarts"}};
    if (!gpus.empty()) rows[0].insert(rows[0].end(), {"GPU", "stream"});
    for (const json& instance : deployment.value("instances", json::array())) {
      rows.push_back({name_of(instance), std::to_string(instance.value("pid", 0)),
                      instance.value("cores", ""),
                      std::to_string(instance.value("threads", std::uint64_t{0})),
                      state_of(instance), std::to_string(instance.value("tasks", 0)),
                      std::to_string(instance.value("tasks_done", std::uint64_t{0})),
                      milliseconds(instance.value("busy_ns", std::uint64_t{0})),
                      std::to_string(instance.value("bytes_copied", std::uint64_t{0})),
                      std::to_string(instance.value("restarts", 0))});
      if (!gpus.empty())
        rows.back().insert(rows.back().end(),
                           {instance.contains("gpu") ? gpu_of(instance, gpus) : "-",
                            instance.value("stream", "-")});
    }
    fmt::print("{}", render_table(rows));
    for (const json& gpu : gpus)
      fmt::print("GPU {} is {}: {} slots of {} bytes, owned by pid {}\n", gpu.value("device", ""),
                 gpu.value("uuid", ""), gpu.value("depth", 0),
                 gpu.value("slot_bytes", std::uint64_t{0}), gpu.value("broker", 0));
    if (!gpus.empty())
      fmt::print(
          "streams: a priority orders the work of one process; between processes a GPU gives time "
          "slices, whatever their priorities are\n");
    for (const json& instance : deployment.value("instances", json::array()))
      if (const std::string why = instance.value("degraded", ""); !why.empty())
        fmt::print("degraded: {}: {}\n", name_of(instance), why);
  }
}

void print_operator(json deployment, const std::string& op) {
  json rows = json::array();
  for (const json& instance : deployment.value("instances", json::array()))
    if (instance.value("operator", "") == op) rows.push_back(instance);
  deployment["instances"] = rows;
  print_deployments(json::array({deployment}));
}

Result<OperatorName> operator_name(const std::string& name) {
  const auto slash = name.find('/');
  if (slash == std::string::npos)
    return fail(ErrorCode::invalid_input,
                "'{}': write DEPLOYMENT/OPERATOR, as `opsplit ps` shows them", name);
  return OperatorName{name.substr(0, slash), name.substr(slash + 1)};
}

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
      const bool in_containers = *runtime == "docker";
      if (in_containers && !reserve->empty())
        return fail(ErrorCode::invalid_input,
                    "--reserve: each deployment in containers has a broker of its own");
      OPSPLIT_TRY(const Deployment read, Deployment::open(*target));
      if (in_containers) {
        if (auto opsplitd = DaemonClient::connect(invocation.folder)) {
          OPSPLIT_TRY(const json status, opsplitd->ps());
          for (const json& known : status.value("deployments", json::array()))
            if (known.value("name", "") == read.name)
              return fail(ErrorCode::already_exists,
                          "a deployment '{}' runs already, as processes: choose another --name",
                          read.name);
        }
        OPSPLIT_TRY(const json deployment,
                    ContainerDeployment::up(invocation.folder, *target, print_progress));
        print_deployments(json::array({deployment}));
        return {};
      }
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

void add_set(CLI::App& app, Invocation& invocation) {
  auto* command =
      app.add_subcommand("set", "Change what a running operator runs on; requests go on");
  auto name = std::make_shared<std::string>();
  auto setting = std::make_shared<std::string>();
  command->add_option("operator", *name, "DEPLOYMENT/OPERATOR")->required();
  command
      ->add_option("setting", *setting,
                   "cores=2: so many cores; cores=0-1, cores=2-2: just these CPUs")
      ->required()
      ->type_name("cores=VALUE");
  command->footer("Example: opsplit set digits/conv cores=0-1");
  command->callback([&, name, setting] {
    invocation.run = [&invocation, name, setting]() -> Result<> {
      OPSPLIT_TRY(const OperatorName op, operator_name(*name));
      if (const auto found = ContainerDeployment::find(invocation.folder, op.deployment))
        return found->opsplit({"set", *name, *setting});
      const auto equals = std::min(setting->find('='), setting->size());
      if (setting->substr(0, equals) != "cores" || equals == setting->size())
        return fail(ErrorCode::invalid_input,
                    "'{}': what can be set is cores: cores=2 or cores=0-1", *setting);
      OPSPLIT_TRY(auto opsplitd, DaemonClient::connect(invocation.folder));
      OPSPLIT_TRY(json deployment,
                  opsplitd.set_cores(op.deployment, op.op, setting->substr(equals + 1)));
      OPSPLIT_TRY(deployment, await_change(opsplitd, std::move(deployment)));
      print_operator(std::move(deployment), op.op);
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
      OPSPLIT_TRY(const OperatorName op, operator_name(*name));
      if (const auto found = ContainerDeployment::find(invocation.folder, op.deployment))
        return found->logs(op.op, *for_ever);
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
      std::vector<ContainerDeployment> in_containers = ContainerDeployment::all(invocation.folder);
      if (!name->empty())
        std::erase_if(in_containers, [&](const auto& known) { return known.name() != *name; });
      std::size_t stopped = 0;
      auto opsplitd = DaemonClient::connect(invocation.folder);
      if (in_containers.empty() || (name->empty() && opsplitd)) {
        if (!opsplitd) return tl::unexpected(opsplitd.error());
        OPSPLIT_TRY(stopped, opsplitd->down(*name));
      }
      Result<> result;
      for (ContainerDeployment& deployment : in_containers) {  // each, whatever the others do
        const auto down = deployment.down();
        if (down)
          ++stopped;
        else if (result)
          result = within(fmt::format("deployment '{}'", deployment.name()), down.error());
      }
      OPSPLIT_CHECK(result);
      fmt::print("{} stopped\n",
                 stopped == 1 ? "1 deployment" : fmt::format("{} deployments", stopped));
      return {};
    };
  });
}

void add_clean(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand(
      "clean", "Remove what a crash has left; refused while anything of opsplit is alive");
  command->callback([&] { invocation.run = [&invocation] { return clean(invocation.folder); }; });
}

void add_completion(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand("completion", "Print shell completion for bash");
  command->footer("Example: source <(opsplit completion)");
  command->callback([&app, &invocation] {
    invocation.run = [&app]() -> Result<> {
      std::string names;
      for (const auto* known : app.get_subcommands({}))
        if (!known->get_group().empty()) names += known->get_name() + " ";  // not the hidden ones
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
