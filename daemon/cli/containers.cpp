#include "daemon/cli/containers.hpp"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <sstream>
#include <thread>

#include "base/system.hpp"
#include "daemon/cli/output_file.hpp"
#include "daemon/cli/program.hpp"
#include "daemon/compose.hpp"
#include "daemon/paths.hpp"

namespace opsplit::daemon::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
namespace fs = std::filesystem;

constexpr auto ready_timeout = 600s;  // a large model takes its time to be planned and packed
constexpr auto look_again = 200ms;

fs::path containers_folder(const fs::path& folder) { return folder / "containers"; }

std::string last_line(const std::string& text) {
  const auto end = text.find_last_not_of('\n');
  if (end == std::string::npos) return "";
  const auto before = text.rfind('\n', end);
  const auto begin = before == std::string::npos ? 0 : before + 1;
  return text.substr(begin, end + 1 - begin);
}

// Its output, or its last words as an error.
Result<std::string> checked(const std::vector<std::string>& arguments,
                            std::string_view input = {}) {
  OPSPLIT_TRY(ProgramEnd end, run_program(arguments, input));
  if (end.exit_code == 0) return std::move(end.out);
  std::string words = last_line(end.err.empty() ? end.out : end.err);
  if (const auto why = end.err.find("ERROR: "); why != std::string::npos)  // compose's own
    words = end.err.substr(why + 7, end.err.find('\n', why) - why - 7);
  if (constexpr std::string_view ours = "opsplit: "; words.starts_with(ours))
    words.erase(0, ours.size());
  return fail(ErrorCode::unavailable, "{}",
              words.empty() ? fmt::format("{}: {}", arguments[0], end.how) : words);
}

Result<> check_engine(const std::set<std::string>& images) {
  std::vector<std::string> inspect = {"docker", "image", "inspect"};
  inspect.insert(inspect.end(), images.begin(), images.end());
  const auto found = run_program(inspect);
  if (!found)
    return fail(ErrorCode::not_found,
                "{}: --runtime docker needs Docker's engine and docker-compose",
                found.error().message);
  if (found->exit_code == 0) return {};
  const std::string words = last_line(found->err);
  if (words.find("No such image") == std::string::npos)
    return fail(ErrorCode::unavailable, "docker: {}", words);
  std::string image = words.substr(words.rfind('/') + 1);  // ... opsplit/operator, or ...:latest
  image = image.substr(0, image.find(':'));
  return fail(ErrorCode::not_found,
              "docker has no image opsplit/{0}: in opsplit's repository, `docker build "
              "--network=host --target {0} -f docker/Dockerfile -t opsplit/{0} .`",
              image);
}

// A folder that is gone at the end.
class Scratch {
 public:
  static Result<Scratch> make() {
    std::string name = (fs::temp_directory_path() / "opsplit-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) return fail_errno(errno, "{}", name);
    return Scratch(name);
  }
  Scratch(Scratch&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  Scratch& operator=(Scratch&&) = delete;
  ~Scratch() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  explicit Scratch(fs::path path) : path_(std::move(path)) {}
  fs::path path_;
};

}  // namespace

ContainerDeployment::ContainerDeployment(const fs::path& folder, std::string name)
    : folder_(containers_folder(folder) / name), name_(std::move(name)) {}

std::vector<std::string> beside_processes(const std::string& image, const fs::path& folder) {
  std::vector<std::string> command = {
      "docker",         "run",
      "--rm",
      "--pull=never",  // opsplitd would wait for gigabytes
      "--pid=host",     "--ipc=host",
      "--network=none", fmt::format("--user={}:{}", geteuid(), getegid()),
      "--cap-drop=ALL", "--security-opt=no-new-privileges:true",
      "--read-only"};
  const auto mount = [&](const fs::path& path, const char* how) {
    std::error_code ignored;
    if (fs::exists(path, ignored))  // the engine would make it, and root own it
      command.push_back(fmt::format("--volume={0}:{0}{1}", path.string(), how));
  };
  mount("/tmp", "");
  mount(fs::absolute(folder), "");
  mount(cache_folder(), "");
  mount("/etc/passwd", ":ro");  // iceoryx looks the user up
  command.push_back(image);
  return command;
}

std::vector<ContainerDeployment> ContainerDeployment::all(const fs::path& folder) {
  std::vector<ContainerDeployment> found;
  if (!check_private_folder(folder)) return found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(containers_folder(folder), ignored))
    found.push_back(ContainerDeployment(folder, entry.path().filename().string()));
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.name() < b.name(); });
  return found;
}

std::optional<ContainerDeployment> ContainerDeployment::find(const fs::path& folder,
                                                             const std::string& name) {
  if (!is_deployment_name(name) || !check_private_folder(folder)) return std::nullopt;
  ContainerDeployment deployment(folder, name);
  return fs::exists(deployment.folder_) ? std::optional(deployment) : std::nullopt;
}

Result<> ContainerDeployment::check_name_is_free(const fs::path& folder, const std::string& name) {
  if (!find(folder, name)) return {};
  return fail(ErrorCode::already_exists,
              "a deployment '{}' runs already, in containers: choose another --name, or `opsplit "
              "down {}` first",
              name, name);
}

Result<std::vector<std::string>> ContainerDeployment::compose(
    std::vector<std::string> arguments) const {
  OPSPLIT_TRY(const ProgramEnd plugin, run_program({"docker", "compose", "version"}));
  std::vector<std::string> command = plugin.exit_code == 0
                                         ? std::vector<std::string>{"docker", "compose"}
                                         : std::vector<std::string>{"docker-compose"};
  command.insert(command.end(),
                 {"-p", "opsplit-" + name_, "-f", (folder_ / "compose.yaml").string()});
  std::move(arguments.begin(), arguments.end(), std::back_inserter(command));
  return command;
}

Result<std::vector<std::string>> ContainerDeployment::containers() const {
  OPSPLIT_TRY(const std::string text,
              checked({"docker", "ps", "-aq", "--no-trunc", "--filter",
                       "label=com.docker.compose.project=opsplit-" + name_}));
  std::istringstream lines(text);
  return std::vector<std::string>(std::istream_iterator<std::string>(lines), {});
}

Result<std::string> ContainerDeployment::container(const std::string& service) const {
  OPSPLIT_TRY(const std::string ids,
              checked({"docker", "ps", "-q", "--no-trunc", "--filter",
                       "label=com.docker.compose.project=opsplit-" + name_, "--filter",
                       "label=com.docker.compose.service=" + service}));
  if (ids.empty())
    return fail(ErrorCode::unavailable, "deployment '{}': its container '{}' does not run", name_,
                service);
  return ids.substr(0, ids.find('\n'));
}

Result<json> ContainerDeployment::up(const fs::path& folder, Target target,
                                     const std::function<void(std::string)>& progress) {
  target.path = fs::proximate(target.path);
  OPSPLIT_TRY(Deployment read, Deployment::open(target));
  OPSPLIT_CHECK(check_name_is_free(folder, read.name));
  OPSPLIT_CHECK(check_engine(compose_images(read)));
  progress("planning " + read.model.filename().string());
  read.client.clear();  // of the deployment file's own compose project
  OPSPLIT_TRY(const Planned planned, plan_deployment(std::move(read)));
  OPSPLIT_CHECK(check_engine(compose_images(planned.deployment)));  // ONNX Runtime's may have come
  ContainerDeployment deployment(folder, planned.deployment.name);
  OPSPLIT_TRY(
      const std::string text,
      compose_file(planned, target,
                   {.folder = deployment.folder_, .build_context = {}, .ipc = IpcNamespace::own}));

  OPSPLIT_CHECK(make_private_folder(folder));
  // Projects are the engine's, whoever's they are; the folder is made by one of several that start.
  OPSPLIT_TRY(const std::vector<std::string> others, deployment.containers());
  std::error_code error;
  fs::create_directory(deployment.folder_.parent_path(), error);
  if (!others.empty() || (!fs::create_directory(deployment.folder_, error) && !error))
    return fail(ErrorCode::already_exists,
                "the engine has containers of a deployment '{}' already, of another user or "
                "--folder, or just starting: choose another --name",
                deployment.name_);
  if (error) return fail_errno(error.value(), "{}", deployment.folder_.string());
  const auto start = [&]() -> Result<json> {
    OPSPLIT_CHECK(write_output(deployment.folder_ / "compose.yaml", text));
    progress(fmt::format("starting {} containers", planned.plan.operators.size() + 3));
    OPSPLIT_TRY(const auto command, deployment.compose({"up", "-d"}));
    OPSPLIT_CHECK(checked(command));
    OPSPLIT_CHECK(deployment.wait_until_ready());
    return deployment.status();
  };
  auto started = start();
  if (!started) (void)deployment.down();
  return started;
}

Result<> ContainerDeployment::wait_until_ready() const {
  for (const Deadline give_up = Clock::now() + ready_timeout; Clock::now() < give_up;
       std::this_thread::sleep_for(look_again)) {
    const auto now = status();
    if (now && now->value("phase", "") == "ready") return {};
    // Who cannot start ends, opsplitd too, and the engine starts it again.
    OPSPLIT_TRY(const std::vector<std::string> ids, containers());
    for (const std::string& id : ids) {
      OPSPLIT_TRY(const std::string restarts,
                  checked({"docker", "inspect", "-f", "{{.RestartCount}}", id}));
      if (restarts == "0\n") continue;
      OPSPLIT_TRY(const std::string service,
                  checked({"docker", "inspect", "-f",
                           "{{index .Config.Labels \"com.docker.compose.service\"}}", id}));
      OPSPLIT_TRY(const ProgramEnd log, run_program({"docker", "logs", id}));
      const auto error = log.err.find(" error: ");
      const std::string words =
          error == std::string::npos
              ? last_line(log.err)
              : log.err.substr(error + 8, log.err.find('\n', error) - error - 8);
      return fail(ErrorCode::unavailable, "deployment '{}' did not start: {}: {}", name_,
                  last_line(service),
                  words.empty() ? "it ended without a word (its memory limit?)" : words);
    }
  }
  return fail(ErrorCode::timed_out, "deployment '{}' is not ready within {} s: see `docker logs`",
              name_, ready_timeout.count());
}

Result<json> ContainerDeployment::status() const {
  OPSPLIT_TRY(const std::string id, container("opsplitd"));
  OPSPLIT_TRY(const std::string text, checked({"docker", "exec", id, "opsplit", "ps", "--json"}));
  const json status = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const json deployments = status.is_object() ? status.value("deployments", json::array()) : json();
  if (!deployments.is_array() || deployments.empty())
    return fail(ErrorCode::not_found, "deployment '{}': its opsplitd does not know it", name_);
  json found = deployments[0];
  found["runtime"] = "docker";
  return found;
}

Result<> ContainerDeployment::logs(const std::string& op, bool follow) const {
  OPSPLIT_TRY(const std::string id, container(compose_service(op)));
  std::vector<std::string> command = {"docker", "logs", id};
  if (follow) command.insert(command.begin() + 2, "--follow");
  OPSPLIT_CHECK(run_program_in_view(command));
  return {};
}

Result<> ContainerDeployment::opsplit(const std::vector<std::string>& arguments) const {
  OPSPLIT_TRY(const std::string id, container("opsplitd"));
  std::vector<std::string> command = {"docker", "exec"};
  if (isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1) command.emplace_back("-it");
  command.insert(command.end(), {id, "opsplit"});
  command.insert(command.end(), arguments.begin(), arguments.end());
  OPSPLIT_TRY(const int exit_code, run_program_in_view(command));
  if (exit_code == 0) return {};
  return fail(ErrorCode::unavailable, "deployment '{}': `{}` failed in its container", name_,
              arguments[0]);
}

Result<> ContainerDeployment::infer(const std::vector<std::string>& inputs,
                                    const fs::path& output_folder) const {
  OPSPLIT_TRY(const std::string id, container("opsplitd"));
  OPSPLIT_TRY(const Scratch scratch, Scratch::make());
  // Files go in and out as one archive: no folder of the host is to be seen in there.
  std::vector<std::string> command = {
      "docker",
      "exec",
      "-i",
      id,
      "sh",
      "-c",
      "set -e; folder=$(mktemp -d); trap 'rm -rf \"$folder\"' EXIT; cd \"$folder\"; tar -x; "
      "\"$@\" >&2; tar -c -C out .",
      "infer",
      "opsplit",
      "infer",
      name_,
      "--output-dir",
      "out"};
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto equals = inputs[i].rfind('=');
    if (equals == std::string::npos)
      return fail(ErrorCode::invalid_input, "--input {}: write TENSOR=FILE", inputs[i]);
    const fs::path file = inputs[i].substr(equals + 1);
    const std::string copy = std::to_string(i) + file.extension().string();
    std::error_code error;
    fs::copy_file(file, scratch.path() / copy, error);
    if (error) return fail_errno(error.value(), "{}", file.string());
    command.insert(command.end(), {"--input", inputs[i].substr(0, equals + 1) + copy});
  }
  OPSPLIT_TRY(const std::string sent, checked({"tar", "-c", "-C", scratch.path().string(), "."}));
  OPSPLIT_TRY(const std::string answers, checked(command, sent));
  std::error_code error;
  fs::create_directories(output_folder, error);
  if (error) return fail_errno(error.value(), "{}", output_folder.string());
  OPSPLIT_CHECK(checked({"tar", "-x", "--no-same-owner", "-C", output_folder.string()}, answers));
  return {};
}

Result<> ContainerDeployment::down() {
  std::error_code error;
  if (fs::exists(folder_ / "compose.yaml", error)) {
    OPSPLIT_TRY(const auto command, compose({"down", "-v", "-t", "10"}));
    OPSPLIT_CHECK(checked(command));
  } else {  // an `up` ended before it wrote it, or somebody has removed it
    OPSPLIT_TRY(const std::vector<std::string> ids, containers());
    std::vector<std::string> command = {"docker", "rm", "--force", "--volumes"};
    command.insert(command.end(), ids.begin(), ids.end());
    if (!ids.empty()) OPSPLIT_CHECK(checked(command));
  }
  fs::remove_all(folder_, error);
  if (error) return fail_errno(error.value(), "{}", folder_.string());
  fs::remove(folder_.parent_path(), error);  // with the last one
  return {};
}

}  // namespace opsplit::daemon::cli
