#include "daemon/preparation.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/content_hash.hpp"
#include "base/cpu.hpp"
#include "daemon/gpus.hpp"
#include "daemon/onnx_rules_process.hpp"
#include "daemon/paths.hpp"
#include "graph/model.hpp"
#include "graph/planner.hpp"
#include "graph/stored_graph.hpp"
#include "ipc/places.hpp"
#include "ipc/weight_store.hpp"

namespace opsplit::daemon {

std::uint64_t weight_bytes(const graph::Graph& graph) {
  std::uint64_t sum = 0;
  for (const graph::Value& value : graph.values)
    if (value.constant) sum += value.constant->bytes.size();
  return sum;
}

OperatorSettings settings_of(const Deployment& deployment, std::string_view op) {
  const auto found = deployment.operators.find(op);
  OperatorSettings settings =
      found == deployment.operators.end() ? OperatorSettings{} : found->second;
  if (deployment.attach) settings.backend = Backend::attach;
  return settings;
}

Backend backend_in_file(const Deployment& deployment, std::string_view op) {
  const auto found = deployment.operators.find(op);
  return found == deployment.operators.end() ? Backend::native : found->second.backend;
}

namespace {

void find_op_types(Planned& planned) {
  std::map<std::string_view, const graph::Node*> nodes;
  for (const graph::Node& node : planned.graph.nodes) nodes.emplace(node.name, &node);
  planned.op_types.resize(planned.plan.operators.size());
  planned.foreign_types.resize(planned.plan.operators.size());
  for (const PlannedTask& task : planned.plan.tasks)
    for (const std::string& name : task.nodes) {
      const auto found = nodes.find(name);
      if (found == nodes.end() || graph::is_view(*found->second)) continue;
      const auto op = static_cast<std::size_t>(task.op);
      const std::string type(graph::named_op_type(*found->second));
      planned.op_types[op].insert(type);
      if (graph::is_foreign(*found->second)) planned.foreign_types[op].insert(type);
    }
}

// It runs nearly all that ONNX has.
void give_foreign_nodes_to_onnxruntime(Planned& planned) {
  for (std::size_t op = 0; op < planned.foreign_types.size(); ++op) {
    if (planned.foreign_types[op].empty()) continue;
    OperatorSettings& settings = planned.deployment.operators[planned.plan.operators[op].name];
    if (settings.backend == Backend::native && !settings.backend_given && !settings.gpu)
      settings.backend = Backend::onnxruntime;
  }
}

Result<graph::Graph> load(const Deployment& deployment) {
  OnnxRulesProcess rules(program_folder() / onnx_rules_program);
  return graph::load_model(deployment.model, deployment.shapes,
                           [&](const std::string& model) { return rules.ask(model); });
}

Result<Planned> plan_graph(Deployment deployment, graph::Graph graph) {
  Planned planned;
  planned.deployment = std::move(deployment);
  planned.graph = std::move(graph);
  graph::PlanOptions options;
  options.blocked = preferred_blocked_layout();
  options.depth = static_cast<std::uint32_t>(planned.deployment.depth);
  options.gpus = number_gpus(planned.deployment);
  for (const auto& [name, settings] : planned.deployment.operators)
    if (settings.backend != Backend::native) options.row_major_operators.insert(name);
  OPSPLIT_TRY(planned.plan, graph::make_plan(planned.graph, planned.deployment.split, options));
  planned.plan.model = planned.deployment.model.filename().string();
  find_op_types(planned);
  OPSPLIT_TRY(planned.arena_bytes, ipc::arena_bytes(planned.plan, options.depth));

  std::vector<std::string> names;
  std::size_t processes = 0;
  for (const PlannedOperator& op : planned.plan.operators) {
    names.push_back(op.name);
    const OperatorSettings settings = settings_of(planned.deployment, op.name);
    processes += static_cast<std::size_t>(settings.instances + settings.standby);
  }
  OPSPLIT_CHECK(planned.deployment.check_operators(names));
  give_foreign_nodes_to_onnxruntime(planned);
  if (processes > options.max_operators)
    return fail(
        ErrorCode::limit_exceeded,
        "deployment '{}': {} instances of {} operators, at most {} processes (RouDi registers "
        "300): use fewer `instances`",
        planned.deployment.name, processes, names.size(), options.max_operators);
  for (const PlannedOperator& op : planned.plan.operators) planned.costs.push_back(op.cost);
  OPSPLIT_TRY(planned.topology, Topology::of_this_machine());
  OPSPLIT_TRY(planned.cores, assign_cores(planned, planned.deployment));
  return planned;
}

}  // namespace

Result<Planned> plan_deployment(Deployment deployment) {
  OPSPLIT_TRY(graph::Graph graph, load(deployment));
  return plan_graph(std::move(deployment), std::move(graph));
}

namespace {

// Error: it is not installed; `what` asks for it.
Result<> check_installed(const OperatorSettings& settings, const std::filesystem::path& programs,
                         const std::string& what) {
  if (settings.backend == Backend::attach) return {};
  const auto program = find_program(settings.backend, settings.gpu.has_value(), programs);
  return program ? Result<>() : within(what, program.error());
}

}  // namespace

Result<> check_backends(const Deployment& deployment, const std::filesystem::path& programs) {
  for (const auto& [name, unused] : deployment.operators)
    OPSPLIT_CHECK(check_installed(settings_of(deployment, name), programs,
                                  fmt::format("operator '{}'", name)));
  return {};
}

Result<> check_kernels(const Planned& planned) {
  for (std::size_t op = 0; op < planned.foreign_types.size(); ++op) {
    const std::string& name = planned.plan.operators[op].name;
    const OperatorSettings settings = settings_of(planned.deployment, name);
    // A GPU has other kernels: its operator names what it lacks when it starts.
    if (planned.foreign_types[op].empty() || settings.backend != Backend::native || settings.gpu)
      continue;
    return fail(ErrorCode::unsupported,
                "operator '{}': opsplit has no kernels for {}, and its backend is to be native",
                name, fmt::join(planned.foreign_types[op], ", "));
  }
  return {};
}

Result<> check_backends(const Planned& planned, const std::filesystem::path& programs) {
  OPSPLIT_CHECK(check_kernels(planned));
  for (std::size_t op = 0; op < planned.foreign_types.size(); ++op) {
    const std::string& name = planned.plan.operators[op].name;
    const OperatorSettings settings = settings_of(planned.deployment, name);
    if (planned.foreign_types[op].empty() || settings.gpu) continue;
    OPSPLIT_CHECK(check_installed(settings, programs,
                                  fmt::format("operator '{}': opsplit has no kernels for {}", name,
                                              fmt::join(planned.foreign_types[op], ", "))));
  }
  return {};
}

Result<std::vector<CoreAssignment>> assign_cores(const Planned& planned,
                                                 const Deployment& deployment) {
  std::vector<CoreDemand> demands;
  for (std::size_t op = 0; op < planned.plan.operators.size(); ++op) {
    const std::string& name = planned.plan.operators[op].name;
    const OperatorSettings settings = settings_of(deployment, name);
    // What it computes costs no core.
    const double cost = settings.gpu ? 0 : planned.costs[op];
    demands.push_back({name, cost, settings.instances, settings.cores});
  }
  const Topology& topology = planned.topology;
  OPSPLIT_TRY(auto cores,
              assign_cores(topology, topology.allowed(), demands, deployment.objective));
  // It waits for its GPU on one thread.
  for (std::size_t op = 0; op < cores.size(); ++op)
    if (settings_of(deployment, planned.plan.operators[op].name).gpu) cores[op].threads = 1;
  return cores;
}

namespace {

// All that decides what load_model() makes: the file, the shapes, and the programs that make it. Empty:
// something of it cannot be read, which load_model() explains better.
std::string graph_key(const Deployment& deployment) {
  const auto model = content_hash_of(deployment.model);
  const auto program = content_hash_of("/proc/self/exe");
  const auto rules = content_hash_of(program_folder() / onnx_rules_program);
  if (!model || !program || !rules) return "";
  std::string shapes;
  for (const auto& [input, shape] : deployment.shapes)
    shapes += fmt::format("{} {}\n", input, to_string(shape));
  return fmt::format("graph; model {}; shapes {}; by {} and {}", *model,
                     content_hash(std::as_bytes(std::span(shapes))), *program, *rules);
}

// The weights are stored under a key of their own, which is the first line of what is stored of the
// graph: other models and shapes may have the same.
struct StoredGraph {
  graph::Graph graph;
  FileDescriptor weights_held;
  std::filesystem::path weights_file;
};

std::optional<StoredGraph> find_graph(ipc::WeightStore& store, const std::string& key) {
  const auto found = store.find(key);
  if (!found) return std::nullopt;
  const std::string_view text(reinterpret_cast<const char*>(found->data()), found->size());
  const std::string_view weights_key = text.substr(0, text.find('\n'));
  if (weights_key.size() == text.size() || !store.find(weights_key)) return std::nullopt;
  const auto file = store.location_of(weights_key).file;
  auto held = ipc::hold_packed(file);
  auto graph = graph::import_stored(text.substr(weights_key.size() + 1), file.parent_path());
  if (!held || !graph) return std::nullopt;
  return StoredGraph{std::move(*graph), std::move(*held), file};
}

Result<StoredGraph> store_graph(ipc::WeightStore& store, const std::string& key,
                                graph::Graph graph) {
  graph::WeightsBlock weights(graph);
  const std::string weights_key = "weights; content " + weights.hash();
  OPSPLIT_CHECK(store.packed(weights_key, weights.bytes(), [&](std::byte* to) -> Result<> {
    weights.write(to);
    return {};
  }));
  const auto location = store.location_of(weights_key);
  weights.stored_in(location.file.filename(), location.offset);
  OPSPLIT_TRY(FileDescriptor held, ipc::hold_packed(location.file));
  if (!key.empty()) {
    const std::string text = weights_key + "\n" + graph::export_stored(graph);
    // Without it the next start takes longer, and nothing else.
    (void)store.packed(key, text.size(), [&](std::byte* to) -> Result<> {
      std::ranges::copy(std::as_bytes(std::span(text)), to);
      return {};
    });
  }
  return StoredGraph{std::move(graph), std::move(held), location.file};
}

Result<> check_room(const Planned& planned) {
  // The weights once as they are and once packed for the kernels.
  const std::uint64_t weights = planned.cache.empty() ? 2 * weight_bytes(planned.graph) : 0;
  const std::uint64_t needed = weights + planned.arena_bytes;
  OPSPLIT_TRY(const std::uint64_t found, free_bytes("/dev/shm"));
  if (found < needed)
    return fail(ErrorCode::limit_exceeded,
                "/dev/shm is too small for '{}': {} bytes needed, {} found (in a container: "
                "--shm-size)",
                planned.deployment.name, needed, found);
  return {};
}

Result<> write_plan(const Plan& plan, const std::string& folder) {
  std::ofstream file(folder + "/plan.json");
  file << to_json(plan);
  file.close();
  if (!file) return fail_errno(errno, "{}/plan.json", folder);
  return {};
}

Result<Planned> prepare_in(ipc::WeightStore& store, Deployment deployment,
                           const std::filesystem::path& cache) {
  std::string key = cache.empty() ? "" : graph_key(deployment);
  auto stored = key.empty() ? std::nullopt : find_graph(store, key);
  const bool found = stored.has_value();
  if (!found) {
    stored.emplace();
    OPSPLIT_TRY(stored->graph, load(deployment));
    // The key knows one file only, and that one as it was before it was loaded.
    if (!stored->graph.self_contained || graph_key(deployment) != key) key.clear();
  }
  OPSPLIT_TRY(Planned planned, plan_graph(std::move(deployment), std::move(stored->graph)));
  planned.cache = cache;
  OPSPLIT_CHECK(check_room(planned));
  if (!found) {
    OPSPLIT_TRY(*stored, store_graph(store, key, std::move(planned.graph)));
    planned.graph = std::move(stored->graph);
  }
  if (stored->weights_file.parent_path() != store.path())
    planned.weights_file = std::move(stored->weights_file);
  planned.weights_held = std::make_shared<FileDescriptor>(std::move(stored->weights_held));
  OPSPLIT_CHECK(graph::write_parts(planned.graph, planned.plan, store.path()));
  OPSPLIT_CHECK(write_plan(planned.plan, store.path()));
  return planned;
}

}  // namespace

Result<Planned> prepare(Deployment deployment, const std::string& folder,
                        std::filesystem::path cache) {
  const bool attached = std::ranges::any_of(deployment.operators, [](const auto& entry) {
    return entry.second.backend == Backend::attach;
  });
  if (deployment.attach || attached) cache.clear();
  OPSPLIT_TRY(ipc::WeightStore store, ipc::WeightStore::create(folder, cache));
  auto planned = prepare_in(store, std::move(deployment), cache);
  if (!planned) (void)ipc::WeightStore::remove(folder);
  return planned;
}

}  // namespace opsplit::daemon
