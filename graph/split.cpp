#include "graph/split.hpp"

#include <charconv>
#include <map>
#include <set>

#include "graph/names.hpp"
#include "graph/split_steps.hpp"

namespace opsplit::graph {
namespace {

constexpr std::size_t max_operator_name = 64;

Result<std::vector<OperatorNodes>> fused(const Graph& graph) {
  return std::vector<OperatorNodes>{{"fused", {run_nodes(graph)}}};
}

std::vector<OperatorNodes> by_type(const Graph& graph) {
  std::vector<OperatorNodes> operators;
  std::map<std::string, std::size_t> known;
  UniqueNames names;
  for (const std::int32_t id : run_nodes(graph)) {
    const std::string& type = graph.nodes[static_cast<std::size_t>(id)].op_type;
    const auto [entry, added] = known.emplace(lower_case(type), operators.size());
    if (added)  // named without the domain
      operators.push_back(
          {names.make(operator_name(type.substr(type.rfind('.') + 1), "op"), max_operator_name),
           {}});
    operators[entry->second].tasks.push_back({id});
  }
  return operators;
}

std::vector<OperatorNodes> per_node(const Graph& graph) {
  std::vector<OperatorNodes> operators;
  UniqueNames names;
  for (const std::int32_t id : run_nodes(graph)) {
    const Node& node = graph.nodes[static_cast<std::size_t>(id)];
    operators.push_back(
        {names.make(operator_name(node.name, lower_case(node.op_type)), max_operator_name),
         {{id}}});
  }
  return operators;
}

Result<std::vector<OperatorNodes>> stages(const Graph& graph, int count) {
  OPSPLIT_TRY(auto pieces, cut_into_stages(graph, count));
  std::vector<OperatorNodes> operators;
  for (NodeIds& piece : pieces)
    operators.push_back({fmt::format("stage{}", operators.size() + 1), {std::move(piece)}});
  return operators;
}

Result<std::vector<OperatorNodes>> by_hand(const Graph& graph, const ByHand& spec) {
  std::set<std::string> names;
  for (const ByHand::Group& group : spec.groups) {
    if (group.op.empty() || operator_name(group.op, "") != group.op)
      return fail(ErrorCode::invalid_input,
                  "operator '{}': a name is 1 to {} of a-z, 0-9, '_' and '-'", group.op,
                  max_operator_name);
    if (!names.insert(group.op).second)
      return fail(ErrorCode::invalid_input, "two operators '{}'", group.op);
  }
  OPSPLIT_TRY(const auto claims, claim_by_hand(graph, spec));
  std::vector<std::int32_t> operator_of(graph.nodes.size(), -1);
  for (std::size_t op = 0; op < claims.size(); ++op)
    for (const std::int32_t node : claims[op])
      operator_of[static_cast<std::size_t>(node)] = static_cast<std::int32_t>(op);
  auto tasks = join_connected(graph, operator_of, claims.size());
  std::vector<OperatorNodes> operators;
  for (std::size_t op = 0; op < tasks.size(); ++op)
    operators.push_back({spec.groups[op].op, std::move(tasks[op])});
  return operators;
}

}  // namespace

Result<SplitSpec> parse_split(std::string_view text) {
  if (text == "fused") return Fused{};
  if (text == "by-type") return ByType{};
  if (text == "per-node") return PerNode{};
  constexpr std::string_view prefix = "stages:";
  if (text.substr(0, prefix.size()) == prefix) {
    const char* end = text.data() + text.size();
    int count = 0;
    const auto parsed = std::from_chars(text.data() + prefix.size(), end, count);
    if (parsed.ec == std::errc() && parsed.ptr == end && count >= 1) return Stages{count};
  }
  return fail(ErrorCode::invalid_input,
              "split '{}': there are fused, by-type, per-node and stages:N (N from 1 on)",
              is_printable(text) ? text : "?");
}

std::string to_string(const SplitSpec& spec) {
  if (std::holds_alternative<Fused>(spec)) return "fused";
  if (std::holds_alternative<ByType>(spec)) return "by-type";
  if (std::holds_alternative<PerNode>(spec)) return "per-node";
  if (const auto* stages = std::get_if<Stages>(&spec))
    return fmt::format("stages:{}", stages->count);
  return "by hand";
}

NodeIds run_nodes(const Graph& graph) {
  NodeIds ids;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i)
    if (!is_view(graph.nodes[i])) ids.push_back(static_cast<std::int32_t>(i));
  return ids;
}

std::vector<ValueId> view_roots(const Graph& graph) {
  std::vector<ValueId> roots(graph.values.size());
  for (std::size_t i = 0; i < roots.size(); ++i) roots[i] = static_cast<ValueId>(i);
  for (const Node& node : graph.nodes)
    if (is_view(node))
      roots[static_cast<std::size_t>(node.outputs[0])] =
          roots[static_cast<std::size_t>(node.inputs[0])];
  return roots;
}

Result<std::vector<OperatorNodes>> split(const Graph& graph, const SplitSpec& spec) {
  if (run_nodes(graph).empty())
    return fail(ErrorCode::invalid_input,
                "nothing to run: the model only passes on its inputs, or gives constants");
  if (std::holds_alternative<Fused>(spec)) return fused(graph);
  if (std::holds_alternative<ByType>(spec)) return by_type(graph);
  if (std::holds_alternative<PerNode>(spec)) return per_node(graph);
  if (const auto* count = std::get_if<Stages>(&spec)) return stages(graph, count->count);
  return by_hand(graph, std::get<ByHand>(spec));
}

}  // namespace opsplit::graph
