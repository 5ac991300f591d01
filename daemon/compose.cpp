#include "daemon/compose.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "daemon/gpus.hpp"

namespace opsplit::daemon {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t mib = 1 << 20;
constexpr std::array<std::string_view, 4> own_services{"anchor", "broker", "opsplitd", "client"};

// Where the containers see the deployment file, or the model if there is none.
const fs::path inside = "/deployment";

std::uint64_t round_up(std::uint64_t bytes, std::uint64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// A YAML scalar that compose does not substitute variables in. JSON's strings are YAML's, too.
std::string quoted(std::string text) {
  for (std::size_t at = 0; (at = text.find('$', at)) != std::string::npos; at += 2)
    text.insert(at, 1, '$');
  return nlohmann::json(text).dump();
}

// In quotes wherever a reader of YAML might take it for something other than text.
std::string scalar(const std::string& text) {
  static constexpr std::array<std::string_view, 9> words{"y",   "n",    "yes",   "no",  "on",
                                                         "off", "true", "false", "null"};
  const bool plain = text.find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./") ==
                         std::string::npos &&
                     (std::isalpha(static_cast<unsigned char>(text[0])) != 0 ||
                      text.starts_with('/') || text.starts_with("--") || text.starts_with("./"));
  std::string lower = text;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return plain && std::ranges::find(words, lower) == words.end() ? text : quoted(text);
}

std::string list(const std::vector<std::string>& texts) {
  std::vector<std::string> scalars;
  for (const std::string& text : texts) scalars.push_back(scalar(text));
  return fmt::format("[{}]", fmt::join(scalars, ", "));
}

// Without a slash at the end.
fs::path normal(const fs::path& path) {
  const fs::path absolute = fs::absolute(path).lexically_normal();
  return absolute.has_filename() ? absolute : absolute.parent_path();
}

bool lies_in(const fs::path& path, const fs::path& folder) {
  const fs::path relative = normal(path).lexically_relative(normal(folder));
  return !relative.empty() && *relative.begin() != "..";
}

// A path as the compose file names it.
std::string shown(const fs::path& path, const ComposeOptions& options) {
  const fs::path& repository = options.build_context;
  const bool together = !repository.empty() && lies_in(path, repository) &&
                        lies_in(options.folder, repository);  // moved together, too
  if (!together && !lies_in(path, options.folder)) return normal(path).string();
  const fs::path relative = normal(path).lexically_relative(normal(options.folder));
  return relative == "." || *relative.begin() == ".." ? relative.string()
                                                      : "./" + relative.string();
}

// The target of docker/Dockerfile, whose image is opsplit/TARGET.
std::string operator_target(Backend backend, bool on_gpu) {
  if (on_gpu) return "operator-cuda";
  return backend == Backend::native ? "operator" : fmt::format("operator-{}", to_string(backend));
}

// What CUDA, cuDNN and cuBLAS take of an operator's memory on the host, and CUDA of a device broker's.
constexpr std::uint64_t cuda_operator_bytes = 1792 * mib;
constexpr std::uint64_t cuda_broker_bytes = 768 * mib;

// What a framework takes before it has seen a model, with room.
std::uint64_t framework_bytes(Backend backend, bool on_gpu) {
  if (on_gpu) return cuda_operator_bytes;
  switch (backend) {
    case Backend::native:
    case Backend::attach:
      return 0;
    case Backend::onnxruntime:
      return 256 * mib;
    case Backend::pytorch:
      return 512 * mib;
    case Backend::tensorflow:
      return 1024 * mib;
  }
  return 0;
}

// The same of the framework in an image; nothing: we do not know.
std::optional<std::uint64_t> framework_bytes_in(std::string image) {
  if (constexpr std::string_view latest = ":latest"; image.ends_with(latest))
    image.resize(image.size() - latest.size());
  using enum Backend;
  for (const bool on_gpu : {false, true})
    for (const Backend backend : {native, onnxruntime, pytorch, tensorflow})
      if (image == compose_image(backend, on_gpu)) return framework_bytes(backend, on_gpu);
  return std::nullopt;
}

// The member of a service that is to see these GPUs, by number or UUID, and no others.
std::string sees(const std::string& gpus) {
  return fmt::format("environment: {{NVIDIA_VISIBLE_DEVICES: {}}}", scalar(gpus));
}

// Those that opsplitd's container sees: the deployment's. By a number it finds the host's GPU of that number only
// where it sees all before it, too, and where it is told of others by UUID, which may be any, only where it sees all.
std::string gpus_of_opsplitd(const std::vector<UsedGpu>& used) {
  std::vector<std::string> uuids;
  std::vector<std::string> numbers;
  for (const UsedGpu& gpu : used) {
    if (ipc::parse_device_uuid(gpu.device)) {
      uuids.push_back(gpu.device);
      continue;
    }
    const std::size_t number = std::stoul(gpu.device);
    while (numbers.size() <= number) numbers.push_back(std::to_string(numbers.size()));
  }
  if (!uuids.empty() && !numbers.empty()) return "all";
  return fmt::format("{}", fmt::join(uuids.empty() ? numbers : uuids, ","));
}

struct Mount {
  fs::path host;
  fs::path container;
};

// Folders, since a model's weights may lie beside it.
Result<std::vector<Mount>> mounts_of(const Deployment& deployment, const Target& target) {
  const auto folder_of = [](const fs::path& file) {
    return fs::absolute(file).lexically_normal().parent_path();
  };
  std::vector<Mount> mounts = {{folder_of(target.path), inside}};
  const fs::path model = deployment.model.is_absolute()
                             ? deployment.model
                             : deployment.model.lexically_relative(target.path.parent_path());
  const fs::path seen = (inside / model).lexically_normal().parent_path();
  if (seen == "/")
    return fail(ErrorCode::invalid_input,
                "{}: model: in a container it would lie at the root: put it beside the deployment "
                "file",
                target.path.native());
  if (*seen.lexically_relative(inside).begin() == "..")
    mounts.push_back({folder_of(deployment.model), seen});
  for (const Mount& mount : mounts) {
    if (mount.host.native().find(':') != std::string::npos)
      return fail(ErrorCode::invalid_input, "{}: docker-compose can mount no folder with a ':'",
                  mount.host.native());
    for (const char* system : {"/", "/run", "/var", "/var/run"})  // the engine's socket is there
      if (mount.host == system)
        return fail(
            ErrorCode::invalid_input,
            "{}: is no folder to be seen by a container: put model and deployment file into "
            "one of their own",
            mount.host.native());
  }
  return mounts;
}

// What the command line says against the deployment file, as it says it.
std::vector<std::string> overrides(const Target& target) {
  std::vector<std::string> options;
  const auto add = [&options](const char* option, const std::string& value) {
    if (!value.empty()) options.insert(options.end(), {option, value});
  };
  add("--split", target.split);
  add("--name", target.name);
  for (const std::string& shape : target.shapes) add("--shape", shape);
  return options;
}

// The command that writes the file, for its first lines.
std::string command_line(const Target& target, const ComposeOptions& options) {
  std::vector<std::string> words = {"opsplit export compose", target.path.string()};
  std::ranges::copy(overrides(target), std::back_inserter(words));
  if (!options.build_context.empty())
    words.insert(words.end(), {"--build", options.build_context.string()});
  if (options.ipc == IpcNamespace::own) words.insert(words.end(), {"--ipc", "own"});
  std::string line = fmt::format("{}", fmt::join(words, " "));
  std::ranges::replace_if(
      line, [](unsigned char c) { return std::iscntrl(c) != 0; }, '?');
  return line;
}

}  // namespace

std::string compose_service(std::string_view op) {
  const bool taken = std::find(own_services.begin(), own_services.end(), op) != own_services.end();
  return fmt::format("{}{}", taken ? "operator-" : "", op);
}

std::string compose_image(Backend backend, bool on_gpu) {
  return "opsplit/" + operator_target(backend, on_gpu);
}

std::uint64_t compose_memory(std::uint64_t memory, const std::string& before,
                             const std::string& image) {
  const auto takes = [](const std::string& name) {
    return framework_bytes_in(name).value_or(framework_bytes(Backend::tensorflow, false));
  };
  if (memory == 0 || takes(image) <= takes(before)) return memory;
  return memory + takes(image) - takes(before);
}

std::string compose_members(const ServiceImage& now) {
  // By number, as iceoryx knows the user: an image could name another one.
  return fmt::format("image: {}, user: \"10001:10001\"{}", scalar(now.image),
                     now.memory == 0 ? "" : fmt::format(", mem_limit: {}m", now.memory / mib));
}

Result<std::string> changed_compose_file(const std::string& text, std::string_view op,
                                         const ServiceImage& now) {
  const std::string begin = fmt::format("\n  {}: {{", scalar(compose_service(op)));
  const auto found = text.find(begin);
  const auto members = found == std::string::npos ? found : found + begin.size();
  const auto rest = text.find("<<: *", members);  // behind those of an earlier swap
  if (found == std::string::npos || rest == std::string::npos)
    return fail(ErrorCode::not_found, "the compose file has no service of operator '{}'", op);
  return fmt::format("{}{}, {}", text.substr(0, members), compose_members(now), text.substr(rest));
}

std::string compose_override(std::string_view op, const ServiceImage& now) {
  return fmt::format("version: \"2.4\"\nservices:\n  {}: {{{}}}\n", scalar(compose_service(op)),
                     compose_members(now));
}

std::set<std::string> compose_images(const Deployment& deployment) {
  std::set<std::string> images = {"opsplit/opsplitd", "opsplit/operator"};
  for (const auto& [op, settings] : deployment.operators) {
    if (settings.gpu) images.insert("opsplit/opsplitd-cuda");
    if (has_image(settings.backend, settings.gpu.has_value()))
      images.insert(compose_image(settings.backend, settings.gpu.has_value()));
  }
  return images;
}

Result<std::string> compose_file(const Planned& planned, const Target& target,
                                 const ComposeOptions& options) {
  OPSPLIT_CHECK(check_kernels(planned));
  const Deployment& deployment = planned.deployment;
  for (const auto& [name, settings] : deployment.operators)
    if (settings.gpu && settings.backend != Backend::attach && !has_image(settings.backend, true))
      return fail(
          ErrorCode::unsupported,
          "operator '{}': there is no image of backend {} for GPUs: leave its 'gpu' out, or "
          "start an image of your own where it has `backend: attach`",
          name, to_string(settings.backend));
  OPSPLIT_TRY(const std::vector<Mount> mounts, mounts_of(deployment, target));
  const std::vector<UsedGpu> gpus = used_gpus(deployment, planned.plan);
  const bool own_ipc = options.ipc == IpcNamespace::own;
  const std::uint64_t weights = weight_bytes(planned.graph);
  const std::uint64_t pool = round_up(planned.arena_bytes, mib);
  // What a container touches first in /dev/shm counts as its memory: the broker's are the arenas and
  // iceoryx's management segment (67 MB), opsplitd's are the weights, besides the model while it is
  // planned, an operator's are its packed weights. Beside opsplitd runs a device broker for each GPU.
  const auto limit = [](std::uint64_t bytes) {
    return fmt::format("{}m", round_up(bytes, 64 * mib) / mib);
  };
  const std::uint64_t broker = pool + 112 * mib;
  const std::uint64_t opsplitd = 8 * weights + 192 * mib + gpus.size() * cuda_broker_bytes;
  const std::uint64_t op = 4 * weights + 4 * planned.plan.slot_bytes + 192 * mib;

  // Pools and management segments of two epochs: clients keep the old one's. Weights as they are and
  // packed; opsplitd wants room for an arena beside them, whether the broker has taken its own or not.
  const std::uint64_t shm = 2 * (pool + 80 * mib) + 4 * weights + 64 * mib;

  std::vector<std::string> volumes = {"tmp:/tmp"};
  for (const Mount& mount : mounts)
    volumes.push_back(
        fmt::format("{}:{}:ro", shown(mount.host, options), mount.container.string()));
  std::vector<std::string> start = {"opsplitd",
                                    "--broker",
                                    "/tmp/opsplit-10001/broker.sock",
                                    "--up",
                                    (inside / target.path.filename()).string(),
                                    "--attach"};
  std::ranges::copy(overrides(target), std::back_inserter(start));

  const auto build = [&](std::string_view image) {
    if (options.build_context.empty()) return std::string();
    return fmt::format(
        "    build: {{context: {}, dockerfile: docker/Dockerfile, target: {}, network: host}}\n",
        scalar(shown(options.build_context, options)), image);
  };
  const auto anchored_build =
      [&](std::string_view image) {  // the anchors' members are indented by two
        return options.build_context.empty() ? "" : build(image).substr(2);
      };

  const auto on_gpu = [](const PlannedOperator& planned_op) {
    return planned_op.gpu != PlannedTensor::none;
  };
  std::string kinds;  // of operators, beside the plain one
  std::set<std::string> known = {operator_target(Backend::native, false)};
  for (const PlannedOperator& planned_op : planned.plan.operators) {
    const Backend backend = backend_in_file(deployment, planned_op.name);
    const std::string target_name = operator_target(backend, on_gpu(planned_op));
    if (backend == Backend::attach || !known.insert(target_name).second) continue;
    kinds += fmt::format(
        R"(x-{0}: &{0}
  <<: *operator
  image: opsplit/{0}
{1}{2}  mem_limit: {3}

)",
        target_name, anchored_build(target_name), on_gpu(planned_op) ? "  runtime: nvidia\n" : "",
        limit(op + framework_bytes(backend, on_gpu(planned_op))));
  }
  std::string out = fmt::format(
      R"(# The deployment {0} in containers: each operator is one, and they share {1}.
# Written by: {2}
{14}# docs/containers.md explains it. Nothing runs as root, has a capability, a network or a writable root,
# or sees the engine's socket.
version: "2.4"

x-hardened: &hardened
  network_mode: none
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  read_only: true
  pids_limit: 1024

x-joined: &joined
  <<: *hardened
  pid: "service:anchor"  # opsplitd watches, confines and ends operators by their pids
  ipc: {3}  # /dev/shm: boards, weights, the arenas

x-operator: &operator
  <<: *joined
  image: opsplit/operator
{4}  volumes: ["tmp:/tmp"]
  depends_on: [opsplitd]
  restart: always
  mem_limit: {5}

{13}services:
  # PID 1 of the namespace that all share. It does nothing, so that it never ends: if the broker were
  # PID 1, its restart would lose all the others for good.
  anchor:
    <<: *hardened
    image: opsplit/opsplitd
{6}    ipc: {7}
    init: true
    command: [sleep, infinity]
    restart: always
    mem_limit: 64m

  broker:
    <<: *joined
    image: opsplit/opsplitd
    command: [opsplit-broker, --socket, /tmp/opsplit-10001/broker.sock, --pool, {8}MiB]
    volumes: ["tmp:/tmp"]
    depends_on: [anchor]
    restart: always
    mem_limit: {9}  # the arenas' pages count here

  opsplitd:
    <<: *joined
    image: {15}
{16}    command: {10}
    volumes: {11}
    depends_on: [broker]
    restart: always
    mem_limit: {12}

)",
      deployment.name, own_ipc ? "an IPC namespace of their own" : "the host's IPC namespace",
      command_line(target, options), own_ipc ? "\"service:anchor\"" : "host",
      anchored_build("operator"), limit(op), build("opsplitd"),
      own_ipc ? fmt::format("shareable\n    shm_size: {}", limit(shm)) : "host", pool / mib,
      limit(broker), list(start), list(volumes), limit(opsplitd), kinds,
      gpus.empty() ? ""
                   : "# Operators on a GPU, and opsplitd, which starts the owner of the memory "
                     "there, run with\n"
                     "# NVIDIA's runtime for containers (nvidia-container-toolkit).\n",
      gpus.empty() ? "opsplit/opsplitd" : "opsplit/opsplitd-cuda",
      gpus.empty() ? ""
                   : fmt::format("{}    runtime: nvidia\n    {}\n", build("opsplitd-cuda"),
                                 sees(gpus_of_opsplitd(gpus))));
  for (const PlannedOperator& planned_op : planned.plan.operators) {
    const Backend backend = backend_in_file(deployment, planned_op.name);
    if (backend == Backend::attach) {
      out += fmt::format("  # {}: backend attach, another container's to be\n", planned_op.name);
      continue;
    }
    const OperatorSettings settings = settings_of(deployment, planned_op.name);
    const int instances = settings.instances + settings.standby;
    out += fmt::format(
        "  {}: {{<<: *{}, {}command: [--deployment, {}, --operator, {}]{}}}\n",
        scalar(compose_service(planned_op.name)), operator_target(backend, on_gpu(planned_op)),
        on_gpu(planned_op) ? sees(gpus[static_cast<std::size_t>(planned_op.gpu)].device) + ", "
                           : "",
        scalar(deployment.name), scalar(planned_op.name),
        instances == 1 ? "" : fmt::format(", scale: {}", instances));
  }
  if (!deployment.client.empty())
    out += fmt::format(R"(
  client:
    <<: *joined
    image: opsplit/opsplitd
    command: {}
    working_dir: {}
    volumes: {}
    depends_on: [opsplitd]
    restart: on-failure  # until opsplitd listens
    mem_limit: 128m
)",
                       list(deployment.client), inside.string(), list(volumes));
  out += R"(
volumes:
  tmp:  # sockets: opsplitd's, the broker's, iceoryx's
    driver_opts: {type: tmpfs, device: tmpfs, o: "mode=1777,size=64m,nosuid,nodev,noexec"}
)";
  return out;
}

}  // namespace opsplit::daemon
