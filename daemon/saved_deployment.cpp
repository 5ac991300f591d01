#include "daemon/saved_deployment.hpp"

#include <fstream>
#include <nlohmann/json.hpp>

#include "ipc/places.hpp"
#include "ipc/weight_store.hpp"

namespace opsplit::daemon {
namespace {

using nlohmann::json;

std::filesystem::path file_in(const std::filesystem::path& folder) {
  return folder / "deployment.json";
}

json to_json(const Deployment& deployment) {
  json operators = json::object();
  for (const auto& [name, settings] : deployment.operators) {
    operators[name] = {{"cores", settings.cores ? to_string(*settings.cores) : ""},
                       {"instances", settings.instances},
                       {"standby", settings.standby},
                       {"hung_after", settings.hung_after ? settings.hung_after->count() : 0},
                       {"backend", to_string(settings.backend)}};
    if (!settings.gpu) continue;
    json& gpu = operators[name]["gpu"] = {{"device", settings.gpu->device}};
    if (settings.gpu->priority) gpu["priority"] = to_string(*settings.gpu->priority);
  }
  return {{"name", deployment.name},
          {"model", deployment.model.string()},
          {"depth", deployment.depth},
          {"slots_per_client", deployment.slots_per_client},
          {"objective", to_string(deployment.objective)},
          {"attach", deployment.attach},
          {"operators", operators}};
}

Result<Deployment> deployment_from_json(const json& j) {
  Deployment deployment;
  j.at("name").get_to(deployment.name);
  deployment.model = j.at("model").get<std::string>();
  j.at("depth").get_to(deployment.depth);
  j.at("slots_per_client").get_to(deployment.slots_per_client);
  j.at("attach").get_to(deployment.attach);
  const auto objective = objective_from_string(j.at("objective").get<std::string>());
  if (!is_deployment_name(deployment.name) || !objective)
    return fail(ErrorCode::invalid_input, "no such deployment or objective");
  deployment.objective = *objective;
  for (const auto& [name, saved] : j.at("operators").items()) {
    OperatorSettings& settings = deployment.operators[name];
    saved.at("instances").get_to(settings.instances);
    saved.at("standby").get_to(settings.standby);
    if (const auto seconds = saved.at("hung_after").get<std::int64_t>(); seconds > 0)
      settings.hung_after = std::chrono::seconds(seconds);
    const auto backend = backend_from_string(saved.at("backend").get<std::string>());
    if (!backend) return fail(ErrorCode::invalid_input, "no such backend");
    settings.backend = *backend;
    if (saved.contains("gpu")) {
      const json& gpu = saved.at("gpu");
      settings.gpu = GpuRequest{gpu.at("device").get<std::string>(), std::nullopt};
      if (gpu.contains("priority"))
        settings.gpu->priority =
            ipc::stream_priority_from_string(gpu.at("priority").get<std::string>());
    }
    const auto cores = saved.at("cores").get<std::string>();
    if (cores.empty()) continue;
    OPSPLIT_TRY(settings.cores, parse_core_request(cores));
  }
  return deployment;
}

json to_json(const std::vector<CoreAssignment>& assignments) {
  json result = json::array();
  for (const CoreAssignment& cores : assignments)
    result.push_back({{"cpus", to_string(cores.cpus)},
                      {"threads", cores.threads},
                      {"exclusive", cores.exclusive}});
  return result;
}

Result<std::vector<CoreAssignment>> cores_from_json(const json& j) {
  std::vector<CoreAssignment> result;
  for (const json& saved : j) {
    CoreAssignment& cores = result.emplace_back();
    OPSPLIT_TRY(cores.cpus, parse_cpus(saved.at("cpus").get<std::string>()));
    saved.at("threads").get_to(cores.threads);
    saved.at("exclusive").get_to(cores.exclusive);
  }
  return result;
}

Result<SavedDeployment> from_json(const json& j, const std::string& folder) {
  if (j.at("version").get<std::string>() != OPSPLIT_VERSION)
    return fail(ErrorCode::refused, "saved by opsplitd {}", j.at("version").dump());
  SavedDeployment saved;
  j.at("epoch").get_to(saved.standing.epoch);
  j.at("ready").get_to(saved.standing.ready);
  j.at("restarting").get_to(saved.standing.restarting);
  saved.standing.opsplitd = j.at("opsplitd").get<std::string>();
  Planned& planned = saved.planned;
  OPSPLIT_TRY(planned.deployment, deployment_from_json(j.at("deployment")));
  OPSPLIT_TRY(planned.cores, cores_from_json(j.at("cores")));
  j.at("costs").get_to(planned.costs);
  j.at("op_types").get_to(planned.op_types);
  planned.cache = j.at("cache").get<std::string>();
  planned.weights_file = j.at("weights_file").get<std::string>();
  // Without them what runs goes on all the same; only a restart would miss them.
  if (auto held = ipc::hold_packed(planned.weights_file))
    planned.weights_held = std::make_shared<FileDescriptor>(std::move(*held));

  std::ifstream stream(folder + "/plan.json");
  OPSPLIT_TRY(planned.plan,
              plan_from_json(json::parse(stream, nullptr, /*allow_exceptions=*/false)));
  OPSPLIT_TRY(planned.arena_bytes,
              ipc::arena_bytes(planned.plan, static_cast<std::uint32_t>(planned.deployment.depth)));
  OPSPLIT_TRY(planned.topology, Topology::of_this_machine());
  const std::size_t operators = planned.plan.operators.size();
  if (planned.cores.size() != operators || planned.costs.size() != operators ||
      planned.op_types.size() != operators)
    return fail(ErrorCode::invalid_input, "it is not of the plan beside it");
  return saved;
}

}  // namespace

Result<> save(const std::string& folder, const Planned& planned, const Standing& standing) {
  const json saved = {{"version", OPSPLIT_VERSION},
                      {"epoch", standing.epoch},
                      {"ready", standing.ready},
                      {"restarting", standing.restarting},
                      {"opsplitd", standing.opsplitd.string()},
                      {"deployment", to_json(planned.deployment)},
                      {"cores", to_json(planned.cores)},
                      {"costs", planned.costs},
                      {"op_types", planned.op_types},
                      {"cache", planned.cache.string()},
                      {"weights_file", planned.weights_file.string()}};
  const std::filesystem::path file = file_in(folder);
  const std::filesystem::path next = file.native() + ".next";
  std::ofstream stream(next);
  stream << saved;
  stream.close();
  if (!stream) return fail_errno(errno, "{}", next.string());
  std::error_code error;
  std::filesystem::rename(next, file, error);
  if (error) return fail_errno(error.value(), "{}", file.string());
  return {};
}

void forget(const std::string& folder) {
  std::error_code ignored;
  std::filesystem::remove(file_in(folder), ignored);
}

Result<SavedDeployment> read_saved(const std::string& folder) try {
  const std::string file = file_in(folder);
  OPSPLIT_TRY(const std::string text, read_file(file, std::size_t{16} << 20));
  auto saved = from_json(json::parse(text), folder);
  if (!saved) return within(file, saved.error());
  return saved;
} catch (const json::exception& error) {
  return fail(ErrorCode::invalid_input, "{}: {}", file_in(folder).string(), error.what());
}

std::vector<std::string> saved_folders() {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm", ignored))
    if (entry.path().filename().string().starts_with("opsplit.") &&
        std::filesystem::exists(file_in(entry.path()), ignored))
      found.push_back(entry.path());
  return found;
}

}  // namespace opsplit::daemon
