#include "graph/layouts.hpp"

#include <algorithm>
#include <array>

namespace opsplit::graph {
namespace {

template <std::size_t N>
bool contains(const std::array<std::string_view, N>& types, std::string_view type) {
  return std::find(types.begin(), types.end(), type) != types.end();
}

std::int64_t block_of(Layout layout) {
  return layout == Layout::nChw8c ? 8 : layout == Layout::nChw16c ? 16 : 1;
}

}  // namespace

bool takes_layout(const Graph& graph, const Node& node, Layout layout) {
  static constexpr std::array<std::string_view, 25> always{"Conv",
                                                           "ConvTranspose",
                                                           "MaxPool",
                                                           "AveragePool",
                                                           "GlobalAveragePool",
                                                           "GlobalMaxPool",
                                                           "BatchNormalization",
                                                           "LRN",
                                                           "Resize",
                                                           "Upsample",
                                                           "Relu",
                                                           "LeakyRelu",
                                                           "Sigmoid",
                                                           "HardSigmoid",
                                                           "HardSwish",
                                                           "Tanh",
                                                           "Clip",
                                                           "Elu",
                                                           "Exp",
                                                           "Log",
                                                           "Sqrt",
                                                           "Abs",
                                                           "Neg",
                                                           "Erf",
                                                           "Identity"};
  static constexpr std::array<std::string_view, 7> elementwise{"Add", "Sub", "Mul", "Div",
                                                               "Sum", "Max", "Min"};
  if (contains(always, node.op_type)) return true;
  if (contains(elementwise, node.op_type)) {
    return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId input) {
      return !graph.is_constant(input) && graph.type(input) == graph.type(node.outputs[0]);
    });
  }
  if (node.op_type == "Concat") {
    // Whole blocks can be put side by side; a block that two inputs share can't.
    const std::int64_t axis = node.integer("axis", 0);
    return (axis == 1 || axis == -3) &&
           std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId input) {
             const Shape& shape = graph.type(input).shape;
             return !graph.is_constant(input) && shape.rank() == 4 &&
                    shape[1] % block_of(layout) == 0;
           });
  }
  return false;
}

std::vector<Layout> choose_layouts(const Graph& graph, Layout blocked,
                                   const std::vector<bool>& only_row_major) {
  std::vector<Layout> layouts(graph.values.size(), Layout::row_major);
  if (blocked == Layout::row_major) return layouts;
  for (std::size_t id = 0; id < layouts.size(); ++id) {
    const Value& value = graph.values[id];
    if (!value.constant && value.type && value.type->dtype == float32 &&
        value.type->shape.rank() == 4)
      layouts[id] = blocked;
  }
  const auto keep_row_major = [&](const std::vector<ValueId>& ids) {
    for (const ValueId id : ids)
      if (id != no_value) layouts[static_cast<std::size_t>(id)] = Layout::row_major;
  };
  keep_row_major(graph.inputs);
  keep_row_major(graph.outputs);
  for (std::size_t id = 0; id < graph.nodes.size(); ++id) {
    const Node& node = graph.nodes[id];
    if (!only_row_major[id] && !is_view(node) && takes_layout(graph, node, blocked)) continue;
    keep_row_major(node.inputs);
    keep_row_major(node.outputs);
  }
  return layouts;
}

}  // namespace opsplit::graph
