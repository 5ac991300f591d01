// attach, swap: another program in an operator's place.
#include <signal.h>

#include <boost/asio/io_context.hpp>
#include <boost/process.hpp>
#include <memory>
#include <thread>

#include "daemon/backend.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/containers.hpp"
#include "daemon/cli/daemon_client.hpp"
#include "daemon/cli/program.hpp"
#include "daemon/compose.hpp"

namespace opsplit::daemon::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr auto wait_for_place = 50ms;
constexpr auto shortest_life = 500ms;  // of a program that has attached
constexpr auto next_epoch = 10s;       // to begin, after the broker's death

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
    hold_stop_signals();
  }

  Result<> start() {
    OPSPLIT_TRY(child_, start_program(arguments_));
    started_ = Clock::now();
    return {};
  }
  // Error: it has ended, and how.
  Result<> look() {
    if (const int number = take_stop_signal()) {
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
      std::this_thread::sleep_for(wait_for_place);
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
      if (place == Place::not_yet) std::this_thread::sleep_for(wait_for_place);
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

// Whoever attaches next is warmed up.
Result<> swap_for_whoever_attaches(DaemonClient& opsplitd, const OperatorName& op) {
  bool told = false;
  OPSPLIT_TRY(const json deployment,
              opsplitd.swap(op.deployment, op.op, "attach", [&told]() -> Result<> {
                if (!std::exchange(told, true))
                  print_progress(std::string(waiting_for_whoever_attaches));
                return {};
              }));
  print_operator(deployment, op.op);
  return {};
}

// One that runs in containers: of `up --runtime docker`, or else of a compose project, if no opsplitd here
// has one of that name.
std::optional<ContainerDeployment> in_containers(const std::filesystem::path& folder,
                                                 const std::string& deployment) {
  if (auto ours = ContainerDeployment::find(folder, deployment)) return ours;
  if (auto opsplitd = DaemonClient::connect(folder))
    if (const auto status = opsplitd->ps())
      for (const json& known : status->value("deployments", json::array()))
        if (known.value("name", "") == deployment) return std::nullopt;
  return ContainerDeployment::find_project(deployment);
}

Error only_images(const OperatorName& op) {
  return {
      ErrorCode::invalid_input,
      fmt::format("deployment '{0}' runs in containers: make an image of the program, and `opsplit "
                  "swap {0}/{1} --image IMAGE`",
                  op.deployment, op.op)};
}

// The UUID of the GPU that the operator runs on; empty: it runs on CPUs, or is none of the deployment's.
std::string gpu_of(const json& deployment, const OperatorName& op) {
  const json gpus = deployment.value("gpus", json::array());
  for (const json& instance : deployment.value("instances", json::array()))
    if (const auto number = instance.value("gpu", gpus.size());
        instance.value("operator", "") == op.op && number < gpus.size())
      return gpus[number].value("uuid", "");
  return "";
}

Result<> swap_container(ContainerDeployment& deployment, const OperatorName& op,
                        std::optional<Backend> backend, std::string image) {
  if (backend) {
    OPSPLIT_TRY(const json status, deployment.status());
    const bool on_gpu = !gpu_of(status, op).empty();
    if (!has_image(*backend, on_gpu))
      return fail(ErrorCode::refused,
                  "operator '{}' of '{}' runs on a GPU, and there is no image of backend {} for "
                  "that: native can take its place, or --image IMAGE",
                  op.op, op.deployment, to_string(*backend));
    image = compose_image(*backend, on_gpu);
  }
  OPSPLIT_TRY(const auto swapped, deployment.swap(op.op, image, print_progress));
  print_operator(swapped.deployment, op.op);
  fmt::print("{}", swapped.note);
  return {};
}

// A container in the place of what opsplitd or somebody else has started here as a process.
Result<> swap_for_container(DaemonClient& opsplitd, const std::filesystem::path& folder,
                            const OperatorName& op, const std::string& image) {
  OPSPLIT_TRY(const json status, opsplitd.ps());
  std::string gpu;
  for (const json& deployment : status.value("deployments", json::array()))
    if (deployment.value("name", "") == op.deployment) gpu = gpu_of(deployment, op);
  if (!gpu.empty() && !ipc::parse_device_uuid(gpu))
    return fail(ErrorCode::unavailable, "operator '{}' of '{}': its GPU's memory is {}", op.op,
                op.deployment, gpu);
  if (!gpu.empty()) OPSPLIT_CHECK(check_gpu_runtime());
  return attach(opsplitd, folder, op, beside_processes(image, folder, gpu));
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
      if (ContainerDeployment::find(invocation.folder, op.deployment))
        return tl::unexpected(only_images(op));
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
  command
      ->add_option("--backend", arguments->backend,
                   "What is to serve: " + backend_names() + ".\nattach: whoever attaches next")
      ->check([](const std::string& name) {
        return backend_from_string(name) ? std::string() : "must be " + backend_names();
      });
  command->add_option("--image", arguments->image,
                      "What is to serve: a container of this image, whose program takes what\n"
                      "opsplit-operator takes. Runs until it ends, as a program does; in a\n"
                      "deployment in containers, as one of them");
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
      if (auto containers = in_containers(invocation.folder, op.deployment)) {
        const auto backend = backend_from_string(arguments->backend);
        if (!arguments->program.empty() || backend == Backend::attach)
          return tl::unexpected(only_images(op));
        return swap_container(*containers, op, backend, arguments->image);
      }
      OPSPLIT_TRY(auto opsplitd, DaemonClient::connect(invocation.folder));
      if (!arguments->image.empty())
        return swap_for_container(opsplitd, invocation.folder, op, arguments->image);
      if (!arguments->program.empty())
        return attach(opsplitd, invocation.folder, op, arguments->program);
      if (backend_from_string(arguments->backend) == Backend::attach)
        return swap_for_whoever_attaches(opsplitd, op);
      OPSPLIT_TRY(const json deployment, opsplitd.swap(op.deployment, op.op, arguments->backend,
                                                       [] { return Result<>(); }));
      print_operator(deployment, op.op);
      return {};
    };
  });
}

}  // namespace opsplit::daemon::cli
