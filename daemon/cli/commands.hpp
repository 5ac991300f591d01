// The commands of `opsplit`: each adds its options to the command line and, if it is the one that
// was typed, sets what to run.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "daemon/deployment.hpp"

namespace opsplit::daemon::cli {

struct Invocation {
  std::filesystem::path folder;  // opsplitd's, by --folder
  std::function<Result<>()> run;
};

void add_init(CLI::App& app, Invocation& invocation);
void add_plan(CLI::App& app, Invocation& invocation);
void add_up(CLI::App& app, Invocation& invocation);
void add_ps(CLI::App& app, Invocation& invocation);
void add_set(CLI::App& app, Invocation& invocation);
void add_attach(CLI::App& app, Invocation& invocation);
void add_swap(CLI::App& app, Invocation& invocation);
void add_top(CLI::App& app, Invocation& invocation);
void add_logs(CLI::App& app, Invocation& invocation);
void add_down(CLI::App& app, Invocation& invocation);
void add_clean(CLI::App& app, Invocation& invocation);
void add_doctor(CLI::App& app, Invocation& invocation);
void add_infer(CLI::App& app, Invocation& invocation);
void add_run(CLI::App& app, Invocation& invocation);
void add_export(CLI::App& app, Invocation& invocation);
void add_bench(CLI::App& app, Invocation& invocation);
void add_chaos(CLI::App& app, Invocation& invocation);
void add_trace(CLI::App& app, Invocation& invocation);
void add_completion(CLI::App& app, Invocation& invocation);

// What `plan`, `up`, `run` and `bench` take.
enum class TargetOptions { all, without_split };
void add_target(CLI::App& command, Target& target, TargetOptions which = TargetOptions::all);

// DEPLOYMENT/OPERATOR.
struct OperatorName {
  std::string deployment, op;
};
Result<OperatorName> operator_name(const std::string& name);

// What `ps` prints of them.
void print_deployments(const nlohmann::json& deployments);
// The same of one, but of its operators this one only.
void print_operator(nlohmann::json deployment, const std::string& op);

// A line on stderr: what is going on while the user waits.
void print_progress(const std::string& text);

}  // namespace opsplit::daemon::cli
