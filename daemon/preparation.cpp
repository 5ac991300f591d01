#include "daemon/preparation.hpp"

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/cpu.hpp"
#include "base/system.hpp"
#include "graph/model.hpp"
#include "graph/planner.hpp"
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
  settings.attach = settings.attach || deployment.attach;
  return settings;
}

namespace {

std::vector<std::set<std::string>> op_types_of(const Plan& plan, const graph::Graph& graph) {
  std::map<std::string_view, const graph::Node*> nodes;
  for (const graph::Node& node : graph.nodes) nodes.emplace(node.name, &node);
  std::vector<std::set<std::string>> op_types(plan.operators.size());
  for (const PlannedTask& task : plan.tasks)
    for (const std::string& name : task.nodes)
      if (const auto found = nodes.find(name);
          found != nodes.end() && !graph::is_view(*found->second))
        op_types[static_cast<std::size_t>(task.op)].insert(found->second->op_type);
  return op_types;
}

}  // namespace

Result<Planned> plan_deployment(Deployment deployment) {
  Planned planned;
  planned.deployment = std::move(deployment);
  OPSPLIT_TRY(planned.graph,
              graph::load_model(planned.deployment.model, planned.deployment.shapes));
  graph::PlanOptions options;
  options.blocked = preferred_blocked_layout();
  options.depth = static_cast<std::uint32_t>(planned.deployment.depth);
  OPSPLIT_TRY(planned.plan, graph::make_plan(planned.graph, planned.deployment.split, options));
  planned.plan.model = planned.deployment.model.filename().string();
  planned.op_types = op_types_of(planned.plan, planned.graph);
  OPSPLIT_TRY(planned.arena_bytes, ipc::arena_bytes(planned.plan, options.depth));

  std::vector<std::string> names;
  std::size_t processes = 0;
  for (const PlannedOperator& op : planned.plan.operators) {
    names.push_back(op.name);
    processes += static_cast<std::size_t>(settings_of(planned.deployment, op.name).instances);
  }
  OPSPLIT_CHECK(planned.deployment.check_operators(names));
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

Result<std::vector<CoreAssignment>> assign_cores(const Planned& planned,
                                                 const Deployment& deployment) {
  std::vector<CoreDemand> demands;
  for (std::size_t op = 0; op < planned.plan.operators.size(); ++op) {
    const std::string& name = planned.plan.operators[op].name;
    const OperatorSettings settings = settings_of(deployment, name);
    demands.push_back({name, planned.costs[op], settings.instances, settings.cores});
  }
  const Topology& topology = planned.topology;
  return assign_cores(topology, topology.allowed(), demands, deployment.objective);
}

Result<> write_folder(const Planned& planned, const std::string& folder) {
  // The weights once as they are and once packed for the kernels.
  const std::uint64_t needed = 2 * weight_bytes(planned.graph) + planned.arena_bytes;
  OPSPLIT_TRY(const std::uint64_t found, free_bytes("/dev/shm"));
  if (found < needed)
    return fail(ErrorCode::limit_exceeded,
                "/dev/shm is too small for '{}': {} bytes needed, {} found (in a container: "
                "--shm-size)",
                planned.deployment.name, needed, found);
  OPSPLIT_TRY(const ipc::WeightStore store, ipc::WeightStore::create(folder));
  const auto write = [&]() -> Result<> {
    OPSPLIT_CHECK(graph::write_parts(planned.graph, planned.plan, folder));
    std::ofstream file(folder + "/plan.json");
    file << to_json(planned.plan);
    file.close();
    if (!file) return fail_errno(errno, "{}/plan.json", folder);
    return {};
  };
  auto written = write();
  if (!written) (void)ipc::WeightStore::remove(folder);
  return written;
}

}  // namespace opsplit::daemon
