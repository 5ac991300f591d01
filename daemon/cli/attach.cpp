// attach, swap: another program in an operator's place.
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/process.hpp>
#include <memory>
#include <thread>

#include "daemon/backend.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/daemon_client.hpp"
#include "daemon/cli/program.hpp"
#include "ipc/message_socket.hpp"

namespace opsplit::daemon::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr auto look_again = 50ms;

std::atomic<int> stop_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);  // for the signal handler

// The user's program, told where to attach; it gets the signals that end us.
class Attaching {
 public:
  Attaching(std::vector<std::string> program, const std::filesystem::path& socket,
            const OperatorName& op)
      : arguments_(std::move(program)) {
    for (const std::string& argument :
         {std::string("--socket"), socket.string(), std::string("--deployment"), op.deployment,
          std::string("--operator"), op.op})
      arguments_.push_back(argument);
    struct sigaction action {};
    action.sa_handler = [](int number) { stop_signal = number; };
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
  }

  Result<> start() {
    OPSPLIT_TRY(child_, start_program(arguments_));
    return {};
  }
  // Error: it has ended, and how.
  Result<> look() {
    if (const int number = stop_signal.exchange(0)) ::kill(child_->id(), number);
    std::error_code ignored;
    if (child_->running(ignored)) return {};
    const std::string how = how_it_ended(child_->native_exit_code());
    succeeded_ = child_->native_exit_code() == 0;
    return fail(ErrorCode::operator_failed, "{} ended with {}", arguments_[0], how);
  }
  [[nodiscard]] bool started() const { return child_ != nullptr; }
  // Until it ends, or the deadline. Error: it did not end well.
  Result<> wait(Deadline deadline = Deadline::max()) {
    while (started() && Clock::now() < deadline) {
      if (auto running = look(); !running) return succeeded_ ? Result<>() : running;
      std::this_thread::sleep_for(look_again);
    }
    return {};
  }

 private:
  std::vector<std::string> arguments_;
  std::unique_ptr<boost::process::child> child_;
  bool succeeded_ = false;
};

// Whether somebody may attach as the operator as it is.
Result<bool> is_awaited(DaemonClient& opsplitd, const OperatorName& op) {
  OPSPLIT_TRY(const json status, opsplitd.ps());
  for (const json& deployment : status.value("deployments", json::array())) {
    if (deployment.value("name", "") != op.deployment) continue;
    for (const json& instance : deployment.value("instances", json::array()))
      if (instance.value("operator", "") == op.op && instance.value("state", "") == "awaited")
        return true;
    return false;
  }
  return fail(ErrorCode::not_found, "no deployment '{}': see `opsplit ps`", op.deployment);
}

void print_operator(json deployment, const OperatorName& op) {
  json rows = json::array();
  for (const json& instance : deployment.value("instances", json::array()))
    if (instance.value("operator", "") == op.op) rows.push_back(instance);
  deployment["instances"] = rows;
  print_deployments(json::array({deployment}));
}

// Where the operator is served already, the program is warmed up beside whoever does so.
Result<> attach(DaemonClient& opsplitd, const OperatorName& op,
                const std::vector<std::string>& program) {
  Attaching attaching(program, opsplitd.socket_path(), op);
  OPSPLIT_TRY(const bool awaited, is_awaited(opsplitd, op));
  if (awaited) {
    OPSPLIT_CHECK(attaching.start());
    return attaching.wait();
  }
  const auto deployment = opsplitd.swap(op.deployment, op.op, "attach", [&] {
    return attaching.started() ? attaching.look() : attaching.start();
  });
  if (!deployment) {
    // How the program has ended we know better than opsplitd, who is not its parent.
    const auto ended = attaching.wait(Clock::now() + 1s);
    const Error& why = ended ? deployment.error() : ended.error();
    return fail(why.code, "{}: whoever served {}/{} serves on", why.message, op.deployment, op.op);
  }
  print_operator(*deployment, op);
  std::fflush(stdout);
  return attaching.wait();
}

struct Arguments {
  std::string name, backend;
  std::vector<std::string> program;
};

std::shared_ptr<Arguments> add_arguments(CLI::App& command) {
  auto arguments = std::make_shared<Arguments>();
  command.add_option("operator", arguments->name, "DEPLOYMENT/OPERATOR")->required();
  command.add_option("program", arguments->program,
                     "A program made with the SDK, and its arguments, behind `--`");
  return arguments;
}

}  // namespace

void add_attach(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand(
      "attach",
      "Run a program as a running deployment's operator, until it ends; requests go on. Where\n"
      "something else serves the operator, the program is warmed up beside it, and then takes\n"
      "its place");
  const auto arguments = add_arguments(*command);
  command->footer("Example: opsplit attach digits/relu -- ./my_operator");
  command->callback([&, arguments] {
    invocation.run = [&invocation, arguments]() -> Result<> {
      OPSPLIT_TRY(const OperatorName op, operator_name(arguments->name));
      if (arguments->program.empty())
        return fail(ErrorCode::invalid_input, "which program? opsplit attach {} -- PROGRAM",
                    arguments->name);
      OPSPLIT_TRY(auto opsplitd, DaemonClient::connect(invocation.folder));
      return attach(opsplitd, op, arguments->program);
    };
  });
}

void add_swap(CLI::App& app, Invocation& invocation) {
  auto* command = app.add_subcommand(
      "swap",
      "Put another backend in an operator's place, while requests flow: it is warmed up beside\n"
      "the one that serves; if it does not get there, that one serves on");
  const auto arguments = add_arguments(*command);
  command->add_option("--backend", arguments->backend, "What is to serve: " + backend_names())
      ->check([](const std::string& name) {
        const auto backend = backend_from_string(name);
        return backend && *backend != Backend::attach
                   ? std::string()
                   : "must be another backend (for a program of yours: -- PROGRAM)";
      });
  command->footer(
      "Examples:\n  opsplit swap digits/relu --backend onnxruntime\n  opsplit swap digits/relu -- "
      "./my_operator");
  command->callback([&, arguments] {
    invocation.run = [&invocation, arguments]() -> Result<> {
      OPSPLIT_TRY(const OperatorName op, operator_name(arguments->name));
      if (arguments->program.empty() == arguments->backend.empty())
        return fail(ErrorCode::invalid_input, "say what is to serve: --backend B, or -- PROGRAM");
      OPSPLIT_TRY(auto opsplitd, DaemonClient::connect(invocation.folder));
      if (!arguments->program.empty()) return attach(opsplitd, op, arguments->program);
      OPSPLIT_TRY(const json deployment, opsplitd.swap(op.deployment, op.op, arguments->backend,
                                                       [] { return Result<>(); }));
      print_operator(deployment, op);
      return {};
    };
  });
}

}  // namespace opsplit::daemon::cli
