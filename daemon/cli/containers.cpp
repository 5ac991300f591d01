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
constexpr auto wait_for_containers = 200ms;

fs::path containers_folder(const fs::path& folder) { return folder / "containers"; }

// Lines, or words.
std::vector<std::string> words_of(const std::string& text) {
  std::istringstream words(text);
  return {std::istream_iterator<std::string>(words), {}};
}

}  // namespace

ContainerDeployment::ContainerDeployment(const fs::path& folder, std::string name)
    : folder_(containers_folder(folder) / name),
      name_(std::move(name)),
      project_("opsplit-" + name_),
      working_directory_(folder_),
      files_{folder_ / "compose.yaml"} {}

Result<> check_images(const std::set<std::string>& images) {
  std::vector<std::string> inspect = {"docker", "image", "inspect"};
  inspect.insert(inspect.end(), images.begin(), images.end());
  const auto found = run_program(inspect);
  if (!found)
    return fail(ErrorCode::not_found, "{}: containers need Docker's engine and docker-compose",
                found.error().message);
  if (found->exit_code == 0) return {};
  const std::string words = reason_of_end(found->err);
  constexpr std::string_view missing = "No such image: ";
  const auto at = words.find(missing);
  if (at == std::string::npos) return fail(ErrorCode::unavailable, "docker: {}", words);
  const std::string image = words.substr(at + missing.size());
  constexpr std::string_view ours = "opsplit/";
  if (!image.starts_with(ours))
    return fail(ErrorCode::not_found, "docker has no image {}: build it, or `docker pull` it",
                image);
  const std::string target = image.substr(ours.size(), image.find(':') - ours.size());
  return fail(ErrorCode::not_found,
              "docker has no image opsplit/{0}: in opsplit's repository, `docker build "
              "--network=host --target {0} -f docker/Dockerfile -t opsplit/{0} .`",
              target);
}

Result<> check_gpu_runtime() {
  OPSPLIT_TRY(const std::string runtimes,
              output_of({"docker", "info", "--format",
                         "{{range $name, $unused := .Runtimes}}{{$name}} {{end}}"}));
  if (std::ranges::count(words_of(runtimes), "nvidia") != 0) return {};
  return fail(ErrorCode::unavailable,
              "docker has no runtime 'nvidia', which shows GPUs to containers: install "
              "nvidia-container-toolkit, then `nvidia-ctk runtime configure --runtime=docker`, and "
              "restart docker");
}

std::vector<std::string> beside_processes(const std::string& image, const fs::path& folder,
                                          const std::string& gpu) {
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
  if (!gpu.empty())
    command.insert(command.end(), {"--runtime=nvidia", "--env=NVIDIA_VISIBLE_DEVICES=" + gpu});
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

std::optional<ContainerDeployment> ContainerDeployment::find_project(const std::string& name) {
  const auto running = output_of({"docker", "ps", "-q", "--no-trunc", "--filter",
                                  "label=com.docker.compose.service=opsplitd"});
  for (const std::string& id : running ? words_of(*running) : std::vector<std::string>()) {
    const auto label = [&id](const char* what) -> std::string {
      const auto text = output_of(
          {"docker", "inspect", "-f",
           fmt::format("{{{{index .Config.Labels \"com.docker.compose.{}\"}}}}", what), id});
      return text ? text->substr(0, text->find('\n')) : "";
    };
    ContainerDeployment found;
    found.name_ = name;
    found.project_ = label("project");
    if (!found.status()) continue;  // of others
    found.working_directory_ = label("project.working_dir");
    std::istringstream files(label("project.config_files"));
    for (std::string file; std::getline(files, file, ',');)
      found.files_.push_back(found.working_directory_ / file);  // or as it is, if it is absolute
    return found;
  }
  return std::nullopt;
}

Result<> ContainerDeployment::check_name_is_free(const fs::path& folder, const std::string& name) {
  if (!find(folder, name)) return {};
  return fail(ErrorCode::already_exists,
              "a deployment '{}' runs already, in containers: choose another --name, or `opsplit "
              "down {}` first",
              name, name);
}

Result<std::vector<std::string>> ContainerDeployment::compose(
    const std::vector<fs::path>& files, std::vector<std::string> arguments) const {
  OPSPLIT_TRY(const ProgramEnd plugin, run_program({"docker", "compose", "version"}));
  std::vector<std::string> command = plugin.exit_code == 0
                                         ? std::vector<std::string>{"docker", "compose"}
                                         : std::vector<std::string>{"docker-compose"};
  command.insert(command.end(),
                 {"-p", project_, "--project-directory", working_directory_.string()});
  for (const fs::path& file : files) command.insert(command.end(), {"-f", file.string()});
  std::move(arguments.begin(), arguments.end(), std::back_inserter(command));
  return command;
}

Result<std::vector<std::string>> ContainerDeployment::containers(const std::string& service) const {
  std::vector<std::string> command = {"docker",   "ps",
                                      "-aq",      "--no-trunc",
                                      "--filter", "label=com.docker.compose.project=" + project_};
  if (!service.empty())  // not what `docker-compose run` has started
    command.insert(command.end(), {"--filter", "label=com.docker.compose.service=" + service,
                                   "--filter", "label=com.docker.compose.oneoff=False"});
  OPSPLIT_TRY(const std::string ids, output_of(command));
  return words_of(ids);
}

Result<std::string> ContainerDeployment::container(const std::string& service) const {
  OPSPLIT_TRY(const std::string ids,
              output_of({"docker", "ps", "-q", "--no-trunc", "--filter",
                         "label=com.docker.compose.project=" + project_, "--filter",
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
  progress("planning " + read.model.filename().string());
  read.client.clear();  // of the deployment file's own compose project
  OPSPLIT_TRY(const Planned planned, plan_deployment(std::move(read)));
  OPSPLIT_CHECK(check_images(compose_images(planned.deployment)));
  if (!planned.plan.gpu_slot_bytes.empty()) OPSPLIT_CHECK(check_gpu_runtime());
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
    OPSPLIT_CHECK(write_output(deployment.files_[0], text));
    progress(fmt::format("starting {} containers", planned.plan.operators.size() + 3));
    OPSPLIT_TRY(const auto command, deployment.compose(deployment.files_, {"up", "-d"}));
    OPSPLIT_CHECK(output_of(command));
    OPSPLIT_CHECK(deployment.wait_until_ready());
    return deployment.status();
  };
  auto started = start();
  if (!started) (void)deployment.down();
  return started;
}

Result<> ContainerDeployment::wait_until_ready() const {
  for (const Deadline give_up = Clock::now() + ready_timeout; Clock::now() < give_up;
       std::this_thread::sleep_for(wait_for_containers)) {
    const auto now = status();
    if (now && now->value("phase", "") == "ready") return {};
    // Who cannot start ends, opsplitd too, and the engine starts it again.
    OPSPLIT_TRY(const std::vector<std::string> ids, containers());
    for (const std::string& id : ids) {
      OPSPLIT_TRY(const std::string restarts,
                  output_of({"docker", "inspect", "-f", "{{.RestartCount}}", id}));
      if (restarts == "0\n") continue;
      OPSPLIT_TRY(const std::string service,
                  output_of({"docker", "inspect", "-f",
                             "{{index .Config.Labels \"com.docker.compose.service\"}}", id}));
      OPSPLIT_TRY(const std::string words, last_words_of_container(id));
      return fail(ErrorCode::unavailable, "deployment '{}' did not start: {}: {}", name_,
                  service.substr(0, service.find('\n')), words);
    }
  }
  return fail(ErrorCode::timed_out, "deployment '{}' is not ready within {} s: see `docker logs`",
              name_, ready_timeout.count());
}

Result<json> ContainerDeployment::status() const {
  OPSPLIT_TRY(const std::string id, container("opsplitd"));
  OPSPLIT_TRY(const std::string text, output_of({"docker", "exec", id, "opsplit", "ps", "--json"}));
  const json status = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const json deployments = status.is_object() ? status.value("deployments", json::array()) : json();
  for (json found : deployments)
    if (found.is_object() && found.value("name", "") == name_) {
      found["runtime"] = "docker";
      return found;
    }
  return fail(ErrorCode::not_found, "deployment '{}': its opsplitd does not know it", name_);
}

Result<std::string> last_words_of_container(const std::string& id) {
  OPSPLIT_TRY(const ProgramEnd log, run_program({"docker", "logs", id}));
  const auto error = log.err.find(" error: ");  // opsplitd's
  const std::string words = error == std::string::npos
                                ? reason_of_end(log.err)
                                : log.err.substr(error + 8, log.err.find('\n', error) - error - 8);
  return words.empty() ? "it ended without a word (its memory limit?)" : words;
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
  OPSPLIT_TRY(const ScratchFolder scratch, ScratchFolder::make());
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
  OPSPLIT_TRY(const std::string sent, output_of({"tar", "-c", "-C", scratch.path().string(), "."}));
  OPSPLIT_TRY(const std::string answers, output_of(command, sent));
  std::error_code error;
  fs::create_directories(output_folder, error);
  if (error) return fail_errno(error.value(), "{}", output_folder.string());
  OPSPLIT_CHECK(output_of({"tar", "-x", "--no-same-owner", "-C", output_folder.string()}, answers));
  return {};
}

Result<> ContainerDeployment::down() {
  std::error_code error;
  if (fs::exists(files_[0], error)) {
    OPSPLIT_TRY(const auto command, compose(files_, {"down", "-v", "-t", "10"}));
    OPSPLIT_CHECK(output_of(command));
  } else {  // an `up` ended before it wrote it, or somebody has removed it
    OPSPLIT_TRY(const std::vector<std::string> ids, containers());
    std::vector<std::string> command = {"docker", "rm", "--force", "--volumes"};
    command.insert(command.end(), ids.begin(), ids.end());
    if (!ids.empty()) OPSPLIT_CHECK(output_of(command));
  }
  fs::remove_all(folder_, error);
  if (error) return fail_errno(error.value(), "{}", folder_.string());
  fs::remove(folder_.parent_path(), error);  // with the last one
  return {};
}

}  // namespace opsplit::daemon::cli
