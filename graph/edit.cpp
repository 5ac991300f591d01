#include "graph/edit.hpp"

#include <algorithm>
#include <utility>

namespace opsplit::graph {

UniqueNames value_names(const Graph& graph) {
  UniqueNames names;
  for (const Value& value : graph.values) names.take(value.name);
  return names;
}

ValueId add_constant(Graph& graph, UniqueNames& names, std::string_view wanted, Constant constant) {
  Value value;
  value.name = names.make(wanted);
  value.dtype = constant.type.dtype;
  value.type = constant.type;
  value.constant = std::move(constant);
  return graph.add_value(std::move(value));
}

Result<ValueId> add_constant(Graph& graph, UniqueNames& names, std::string_view wanted,
                             const Shape& numbers) {
  OPSPLIT_TRY(auto made,
              Constant::allocate({int64, Shape{static_cast<std::int64_t>(numbers.rank())}}));
  std::copy(numbers.begin(), numbers.end(), reinterpret_cast<std::int64_t*>(made.second));
  return add_constant(graph, names, wanted, std::move(made.first));
}

void remove_dead(Graph& graph) {
  std::vector<bool> needed(graph.values.size());
  const auto need = [&](const std::vector<ValueId>& ids) {
    for (const ValueId id : ids)
      if (id != no_value) needed[static_cast<std::size_t>(id)] = true;
  };
  need(graph.outputs);
  std::vector<Node> alive;
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    const bool used = std::any_of(node->outputs.begin(), node->outputs.end(), [&](ValueId id) {
      return id != no_value && needed[static_cast<std::size_t>(id)];
    });
    if (!used) continue;
    need(node->inputs);
    alive.push_back(std::move(*node));
  }
  std::reverse(alive.begin(), alive.end());
  graph.nodes = std::move(alive);
  need(graph.inputs);
  for (const Node& node : graph.nodes) need(node.outputs);

  std::vector<ValueId> moved(graph.values.size(), no_value);
  std::vector<Value> values;
  for (std::size_t id = 0; id < needed.size(); ++id) {
    if (!needed[id]) continue;
    moved[id] = static_cast<ValueId>(values.size());
    values.push_back(std::move(graph.values[id]));
  }
  graph.values = std::move(values);
  const auto renumber = [&](std::vector<ValueId>& ids) {
    for (ValueId& id : ids)
      if (id != no_value) id = moved[static_cast<std::size_t>(id)];
  };
  renumber(graph.inputs);
  renumber(graph.outputs);
  for (Node& node : graph.nodes) {
    renumber(node.inputs);
    renumber(node.outputs);
  }
}

}  // namespace opsplit::graph
