// attach, swap: another program in an operator's place.
#include <signal.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/process.hpp>
#include <memory>
#include <thread>

#include "daemon/backend.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/containers.hpp"
#include "daemon/cli/daemon_client.hpp"
#include "daemon/cli/program.hpp"

namespace opsplit::daemon::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr auto look_again = 50ms;
constexpr auto shortest_life = 500ms;  // of a program that has attached
constexpr auto next_epoch = 10s;       // to begin, after the broker's death

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
    started_ = Clock::now();
    return {};
  }
  // Error: it has ended, and how.
  Result<> look() {
    if (const int number = stop_signal.exchange(0)) {
      told_to_stop_ = true;
      ::kill(child_->id(), number);
    }
    std::error_code ignored;
    if (child_->running(ignored)) return {};
    const std::string how = how_it_ended(child_->native_exit_code());
    succeeded_ = child_->native_exit_code() == 0;
    return fail(ErrorCode::operator_failed, "{} ended with {}", arguments_[0], how);
  }
  [[nodiscard]] bool started() const { return child_ != nullptr; }
  [[nodiscard]] bool told_to_stop() const { return told_to_stop_; }
  // Since its start.
  [[nodiscard]] Clock::duration age() const { return Clock::now() - started_; }
  // Until it ends. Error: it did not end well.
  Result<> wait() {
    const auto ended = end_within(std::chrono::hours(24 * 365));
    return succeeded_ ? Result<>() : ended;
  }
  // Error: it has ended within this time, and how.
  Result<> end_within(std::chrono::seconds time) {
    const Deadline deadline = Clock::now() + time;
    Result<> running = look();
    for (; running && Clock::now() < deadline; running = look())
      std::this_thread::sleep_for(look_again);
    return running;
  }

 private:
  std::vector<std::string> arguments_;
  std::unique_ptr<boost::process::child> child_;
  Deadline started_{};
  bool succeeded_ = false;
  bool told_to_stop_ = false;
};

enum class Place { awaited, served, not_yet };

// Whether somebody may attach as the operator as it is.
Result<Place> place_of(DaemonClient& opsplitd, const OperatorName& op) {
  OPSPLIT_TRY(const json status, opsplitd.ps());
  for (const json& deployment : status.value("deployments", json::array())) {
    if (deployment.value("name", "") != op.deployment) continue;
    for (const json& instance : deployment.value("instances", json::array()))
      if (instance.value("operator", "") == op.op && instance.value("state", "") == "awaited" &&
          !instance.value("replaces", false))  // that place is for whoever swaps just now
        return Place::awaited;
    return deployment.value("phase", "") == "ready" ? Place::served : Place::not_yet;
  }
  return fail(ErrorCode::not_found, "no deployment '{}': see `opsplit ps`", op.deployment);
}

// Until it is not wanted any more. It ends well with each epoch, and may be wanted in the next one.
Result<> go_on(Attaching& attaching, const std::filesystem::path& folder, const OperatorName& op) {
  int ended_at_once = 0;  // in a row: it can hardly have attached
  while (true) {
    OPSPLIT_CHECK(attaching.wait());
    Place place = Place::not_yet;
    for (const Deadline deadline = Clock::now() + next_epoch; place == Place::not_yet;) {
      auto opsplitd = DaemonClient::connect(folder);
      const auto is = opsplitd ? place_of(*opsplitd, op) : tl::unexpected(opsplitd.error());
      if (!is || attaching.told_to_stop() || Clock::now() >= deadline) return {};  // `down`
      place = *is;
      if (place == Place::not_yet) std::this_thread::sleep_for(look_again);
    }
    if (place == Place::served) return {};
    ended_at_once = attaching.age() < shortest_life ? ended_at_once + 1 : 0;
    if (ended_at_once == 3)
      return fail(ErrorCode::operator_failed,
                  "the program ends at once, again and again: {}/{} still waits", op.deployment,
                  op.op);
    print_progress(fmt::format("{}/{}: attaching again", op.deployment, op.op));
    OPSPLIT_CHECK(attaching.start());
  }
}

// Where the operator is served already, the program is warmed up beside whoever does so.
Result<> attach(DaemonClient& opsplitd, const std::filesystem::path& folder, const OperatorName& op,
                const std::vector<std::string>& program) {
  Attaching attaching(program, opsplitd.socket_path(), op);
  OPSPLIT_TRY(const Place place, place_of(opsplitd, op));
  if (place == Place::awaited) {
    OPSPLIT_CHECK(attaching.start());
    return go_on(attaching, folder, op);
  }
  const auto deployment = opsplitd.swap(op.deployment, op.op, "attach", [&] {
    return attaching.started() ? attaching.look() : attaching.start();
  });
  if (!deployment) {
    // How the program has ended we know better than opsplitd, who is not its parent.
    if (!attaching.started()) return tl::unexpected(deployment.error());
    const auto running = attaching.end_within(1s);
    if (running) {  // opsplitd has died: this one may serve, and the next opsplitd knows
      print_progress(deployment.error().message);
      return go_on(attaching, folder, op);
    }
    return fail(ErrorCode::operator_failed, "{}: {}/{} is served as before",
                running.error().message, op.deployment, op.op);
  }
  print_operator(*deployment, op.op);
  std::fflush(stdout);
  return go_on(attaching, folder, op);
}

struct Arguments {
  std::string name, backend, image;
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
      return attach(opsplitd, invocation.folder, op, arguments->program);
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
  command->add_option("--image", arguments->image,
                      "What is to serve: a container of this image, whose program takes what\n"
                      "opsplit-operator takes. Runs until it ends, as a program does");
  command->footer(
      "Examples:\n  opsplit swap digits/relu --backend onnxruntime\n  opsplit swap digits/relu -- "
      "./my_operator\n  opsplit swap digits/relu --image opsplit/operator-pytorch");
  command->callback([&, arguments] {
    invocation.run = [&invocation, arguments]() -> Result<> {
      OPSPLIT_TRY(const OperatorName op, operator_name(arguments->name));
      if (!arguments->program.empty() + !arguments->backend.empty() + !arguments->image.empty() !=
          1)
        return fail(ErrorCode::invalid_input,
                    "say what is to serve: --backend B, or --image IMAGE, or -- PROGRAM");
      OPSPLIT_TRY(auto opsplitd, DaemonClient::connect(invocation.folder));
      if (!arguments->image.empty())
        return attach(opsplitd, invocation.folder, op,
                      beside_processes(arguments->image, invocation.folder));
      if (!arguments->program.empty())
        return attach(opsplitd, invocation.folder, op, arguments->program);
      OPSPLIT_TRY(const json deployment, opsplitd.swap(op.deployment, op.op, arguments->backend,
                                                       [] { return Result<>(); }));
      print_operator(deployment, op.op);
      return {};
    };
  });
}

}  // namespace opsplit::daemon::cli
