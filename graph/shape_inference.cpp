#include <algorithm>

#include "graph/edit.hpp"
#include "graph/input_shapes.hpp"
#include "graph/model.hpp"
#include "graph/ops/op.hpp"
#include "graph/ops/window.hpp"

namespace opsplit::graph {
namespace {

// A size of 0 must not hide an overflow of the others: strides are products of only some of them.
Result<> check_size(const TensorType& type) {
  TensorType without_zeros = type;
  for (std::size_t axis = 0; axis < type.shape.rank(); ++axis)
    if (type.shape[axis] == 0) without_zeros.shape[axis] = 1;
  OPSPLIT_CHECK(byte_size(without_zeros));
  return {};
}

Result<> check_given_sizes(const Graph& graph) {
  for (const Value& value : graph.values) {
    if (!value.type) continue;
    if (auto fits = check_size(*value.type); !fits)
      return within(fmt::format("value '{}'", value.name), fits.error());
  }
  return {};
}

// Whoever reads a window operation later need not know auto_pad, nor a ConvTranspose's output_shape.
Result<> make_padding_explicit(const Graph& graph, Node& node) {
  if (!node.has("auto_pad") && !node.has("output_shape")) return {};
  const ops::Site site(graph, node);
  OPSPLIT_TRY(const auto axes,
              node.op_type == "ConvTranspose" ? ops::transposed_window(site) : ops::window(site));
  std::vector<std::int64_t> pads;
  for (const auto& axis : axes) pads.push_back(axis.pad_begin);
  for (const auto& axis : axes) pads.push_back(axis.pad_end);
  node.attributes.insert_or_assign("pads", std::move(pads));
  if (node.op_type == "ConvTranspose") {
    std::vector<std::int64_t> beyond;
    for (const auto& axis : axes)
      beyond.push_back(axis.out + axis.pad_begin + axis.pad_end - (axis.in - 1) * axis.stride -
                       (axis.kernel - 1) * axis.dilation - 1);
    node.attributes.insert_or_assign("output_padding", std::move(beyond));
    node.attributes.erase("output_shape");
  }
  node.attributes.erase("auto_pad");
  return {};
}

bool all_inputs_constant(const Graph& graph, const Node& node) {
  return std::all_of(node.inputs.begin(), node.inputs.end(),
                     [&](ValueId input) { return input == no_value || graph.is_constant(input); });
}

// Types the outputs of a node. True: they are constants, and the node is no longer needed.
Result<bool> infer_node(Graph& graph, Node& node) {
  const ops::Op* op = ops::find(node.op_type);
  if (op == nullptr) return fail(ErrorCode::invalid_input, "unknown operation");
  const ops::Site site(graph, node);
  OPSPLIT_TRY(const ops::Types types, op->infer(site));
  if (types.size() < node.outputs.size())
    return fail(ErrorCode::invalid_input, "has {} outputs, must have {}", node.outputs.size(),
                types.size());
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    OPSPLIT_CHECK(check_size(types[i]));
    if (node.outputs[i] == no_value) continue;
    graph.value(node.outputs[i]).dtype = types[i].dtype;
    graph.value(node.outputs[i]).type = types[i];
  }
  OPSPLIT_CHECK(make_padding_explicit(graph, node));

  const bool is_shape = node.op_type == "Shape";  // of a tensor that need not be known itself
  if (!is_shape && !all_inputs_constant(graph, node)) return false;
  if (op->fold == nullptr)
    return fail(ErrorCode::invalid_input,
                "depends on no input and is not evaluated here: fold it when exporting the model");
  OPSPLIT_TRY(ops::Constants constants, op->fold(site, types));
  for (std::size_t i = 0; i < node.outputs.size(); ++i)
    if (node.outputs[i] != no_value)
      graph.value(node.outputs[i]).constant = std::move(constants[i]);
  return true;
}

}  // namespace

Result<> infer_shapes(Graph& graph, const InputShapes& shapes) {
  OPSPLIT_CHECK(bind_inputs(graph, shapes));
  OPSPLIT_CHECK(check_given_sizes(graph));
  std::vector<Node> left;
  for (Node& node : graph.nodes) {
    const auto folded = infer_node(graph, node);
    if (!folded)
      return within(fmt::format("node '{}' ({})", node.name, node.op_type), folded.error());
    if (!*folded) left.push_back(std::move(node));
  }
  graph.nodes = std::move(left);
  remove_dead(graph);
  return {};
}

}  // namespace opsplit::graph
