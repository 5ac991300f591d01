// swap() of a deployment in containers.
#include <algorithm>
#include <sstream>
#include <thread>

#include "base/system.hpp"
#include "daemon/cli/containers.hpp"
#include "daemon/cli/output_file.hpp"
#include "daemon/cli/program.hpp"
#include "daemon/compose.hpp"

namespace opsplit::daemon::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
namespace fs = std::filesystem;

constexpr auto wait_for_container = 100ms;
constexpr auto settle_timeout = 60s;  // for what serves to be ready once it is alone

// In opsplitd's container. The engine does not end what `docker exec` started when that ends: its
// standard input does.
constexpr const char* ask_for_swap = R"(
exec 3<&0
opsplit swap "$1" --backend attach &
swap=$!
{ read -r line <&3; kill "$swap"; } 2>/dev/null &
reader=$!
wait "$swap"
code=$?
kill "$reader" 2>/dev/null
exit "$code"
)";

// Of an operator.
std::vector<json> instances_of(const json& deployment, const std::string& op) {
  std::vector<json> found;
  for (const json& instance : deployment.value("instances", json::array()))
    if (instance.value("operator", "") == op) found.push_back(instance);
  return found;
}

bool replaces(const json& instance) { return instance.value("replaces", false); }

// After they have finished what they are at.
Result<> remove(const std::vector<std::string>& containers) {
  if (containers.empty()) return {};
  for (std::vector<std::string> command :
       {std::vector<std::string>{"docker", "stop", "-t", "10"}, {"docker", "rm", "--force"}}) {
    command.insert(command.end(), containers.begin(), containers.end());
    OPSPLIT_CHECK(output_of(command));
  }
  return {};
}

Result<ServiceImage> image_of(const std::string& container) {
  OPSPLIT_TRY(const std::string text,
              output_of({"docker", "inspect", "-f", "{{.HostConfig.Memory}} {{.Config.Image}}",
                         container}));
  ServiceImage found;
  std::istringstream(text) >> found.memory >> found.image;
  return found;
}

// Whether it has ended, though the engine may have started it again.
Result<bool> has_ended_once(const std::string& container) {
  OPSPLIT_TRY(
      const std::string state,
      output_of({"docker", "inspect", "-f", "{{.RestartCount}} {{.State.Running}}", container}));
  return state != "0 true\n";
}

}  // namespace

Result<ContainerDeployment::Swapped> ContainerDeployment::swap(
    const std::string& op, const std::string& image,
    const std::function<void(std::string)>& progress) const {
  const std::string service = compose_service(op);
  OPSPLIT_CHECK(check_images({image}));
  OPSPLIT_TRY(const json served, status());
  const std::size_t wanted = std::ranges::count_if(
      instances_of(served, op), [](const json& instance) { return !replaces(instance); });
  if (wanted == 0)
    return fail(ErrorCode::not_found, "deployment '{}' has no operator '{}': see `opsplit ps`",
                name_, op);
  OPSPLIT_TRY(const std::vector<std::string> before, containers(service));
  if (before.empty())
    return fail(ErrorCode::refused,
                "operator '{}' of '{}' is for whoever attaches, and no service of the compose "
                "project: start another container as you did this one",
                op, name_);
  OPSPLIT_TRY(const ServiceImage old, image_of(before[0]));
  const ServiceImage now{image, compose_memory(old.memory, old.image, image)};
  // The file as it is to be, or the user's and one more.
  const bool ours = !folder_.empty();
  std::string text = compose_override(op, now);
  if (ours) {
    OPSPLIT_TRY(const std::string was, read_file(files_[0]));
    OPSPLIT_TRY(text, changed_compose_file(was, op, now));
  }
  OPSPLIT_TRY(const ScratchFolder scratch, ScratchFolder::make());
  std::vector<fs::path> files = ours ? std::vector<fs::path>() : files_;
  files.push_back(scratch.path() / "compose.yaml");
  OPSPLIT_CHECK(write_output(files.back(), text));

  hold_stop_signals();
  OPSPLIT_TRY(const std::string opsplitd, container("opsplitd"));
  OPSPLIT_TRY(const auto asker,
              BackgroundProgram::start({"docker", "exec", "-i", opsplitd, "sh", "-c", ask_for_swap,
                                        "swap", fmt::format("{}/{}", name_, op)}));
  const auto replacements = [&]() -> Result<std::vector<std::string>> {
    OPSPLIT_TRY(std::vector<std::string> all, containers(service));
    std::erase_if(all, [&](const auto& id) { return std::ranges::count(before, id) != 0; });
    return all;
  };
  const auto serves_on = [&](const std::string& reason) -> Result<Swapped> {
    (void)asker->end();  // nobody is let in any more
    const auto started = replacements();
    const auto removed = started ? remove(*started) : tl::unexpected(started.error());
    return fail(
        ErrorCode::operator_failed, "{}: {}/{} is served as before{}", reason, name_, op,
        removed ? "" : "; but remove its new container yourself: " + removed.error().message);
  };
  const auto image_and_why = [&image](const std::string& id) {
    return fmt::format("{}: {}", image,
                       last_words_of_container(id).value_or("its container is gone"));
  };
  const auto stopped = [] { return take_stop_signal() != 0; };

  // Before, they would be refused.
  while (asker->err().find(waiting_for_whoever_attaches) == std::string::npos) {
    if (const auto end = asker->look())
      return fail(ErrorCode::operator_failed, "{}", reason_of_end(end->err));
    if (stopped()) return serves_on("stopped");
    std::this_thread::sleep_for(wait_for_container);
  }
  progress(fmt::format("{}/{}: warming up {} beside what serves", name_, op, image));
  OPSPLIT_TRY(const auto start,
              compose(files, {"up", "-d", "--no-deps", "--no-build", "--no-recreate", "--scale",
                              fmt::format("{}={}", service, before.size() + wanted), service}));
  if (const auto started = output_of(start); !started) return serves_on(started.error().message);
  const auto after = replacements();
  if (!after) return serves_on(after.error().message);

  // From then on it is finished, and the engine restarts the new ones as any other.
  const auto have_taken_over = [&] {
    const auto deployment = status();
    return deployment && std::ranges::none_of(instances_of(*deployment, op), replaces);
  };
  std::optional<ProgramEnd> end;
  for (; !end; end = asker->look()) {
    if (stopped() && !have_taken_over()) return serves_on("stopped");
    for (const std::string& id : *after) {
      const auto ended = has_ended_once(id);
      if ((!ended || *ended) && !have_taken_over()) return serves_on(image_and_why(id));
    }
    std::this_thread::sleep_for(wait_for_container);
  }
  if (end->exit_code != 0) {
    // They know better why than opsplitd, who is not their parent.
    for (const std::string& id : *after)
      if (has_ended_once(id).value_or(true)) return serves_on(image_and_why(id));
    return serves_on(reason_of_end(end->err));
  }

  if (ours) OPSPLIT_CHECK(write_output(files_[0], text));
  OPSPLIT_CHECK(remove(before));
  Swapped swapped;
  if (!ours)
    swapped.note =
        fmt::format("{} is yours: for its next `up`, write into its service {}\n    {}\n",
                    files_.empty() ? "the compose file" : files_.front().string(), service,
                    compose_members(now));
  OPSPLIT_TRY(swapped.deployment, wait_until_settled(op, wanted));
  return swapped;
}

// One of those before, started again by the engine, may have taken a place meanwhile, and left it now.
Result<json> ContainerDeployment::wait_until_settled(const std::string& op,
                                                     std::size_t wanted) const {
  for (const Deadline give_up = Clock::now() + settle_timeout; Clock::now() < give_up;
       std::this_thread::sleep_for(wait_for_container)) {
    OPSPLIT_TRY(json deployment, status());
    const auto instances = instances_of(deployment, op);
    const auto serves = [](const json& instance) {
      const std::string state = instance.value("state", "");
      return state == "ready" || state == "standby";
    };
    if (instances.size() == wanted && std::ranges::all_of(instances, serves)) return deployment;
  }
  return fail(ErrorCode::timed_out, "{}/{} was swapped, but is not ready: see `opsplit ps`", name_,
              op);
}

}  // namespace opsplit::daemon::cli
