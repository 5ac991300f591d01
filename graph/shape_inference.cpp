#include <algorithm>

#include "graph/bundle.hpp"
#include "graph/edit.hpp"
#include "graph/foreign_types.hpp"
#include "graph/given_shapes.hpp"
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

// Whoever reads a window operation later need not know auto_pad, nor a ConvTranspose's output_shape: neither
// kernels nor other backends.
Result<> make_padding_explicit(const Graph& graph, Node& node) {
  if (!node.has("auto_pad") && !node.has("output_shape")) return {};
  const ops::Site site(graph, node);
  const bool is_transposed = named_op_type(node) == "ConvTranspose";
  OPSPLIT_TRY(const auto axes, is_transposed ? ops::transposed_window(site) : ops::window(site));
  std::vector<std::int64_t> pads;
  for (const auto& axis : axes) pads.push_back(axis.pad_begin);
  for (const auto& axis : axes) pads.push_back(axis.pad_end);
  node.attributes.insert_or_assign("pads", std::move(pads));
  if (is_transposed) {
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

bool reads_open(const Graph& graph, const Node& node) {
  return std::any_of(node.inputs.begin(), node.inputs.end(),
                     [&](ValueId input) { return input != no_value && graph.value(input).open; });
}

// Of a tensor that need not be known itself.
bool gives_shape(std::string_view op_type) { return op_type == "Shape" || op_type == "Size"; }

bool is_folded(const Graph& graph, const Node& node, const ops::Op& op) {
  return op.fold != nullptr && (gives_shape(node.op_type) || all_inputs_constant(graph, node));
}

Result<> set_types(Graph& graph, const Node& node, const ops::Types& types) {
  if (types.size() < node.outputs.size())
    return fail(ErrorCode::invalid_input, "has {} outputs, must have {}", node.outputs.size(),
                types.size());
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    OPSPLIT_CHECK(check_size(types[i]));
    if (node.outputs[i] == no_value) continue;
    graph.value(node.outputs[i]).dtype = types[i].dtype;
    graph.value(node.outputs[i]).type = types[i];
  }
  return {};
}

// False: an element type that nothing here computes with, so that the node is run like any other.
Result<bool> fold(Graph& graph, const Node& node, const ops::Op& op, const ops::Types& types) {
  auto constants = op.fold(ops::Site(graph, node), types);
  if (!constants && constants.error().code == ErrorCode::unsupported) return false;
  if (!constants) return tl::unexpected(constants.error());
  for (std::size_t i = 0; i < node.outputs.size(); ++i)
    if (node.outputs[i] != no_value)
      graph.value(node.outputs[i]).constant = std::move((*constants)[i]);
  return true;
}

// Of a node that opsplit has kernels for; error unsupported: not with these types or attributes.
Result<ops::Types> infer_native(const Graph& graph, const Node& node) {
  const ops::Op& op = *ops::find(node.op_type);
  const ops::Site site(graph, node);
  OPSPLIT_TRY(auto types, op.infer(site));
  if (op.computes != nullptr && !op.computes(site.type(0).dtype))
    return fail(ErrorCode::unsupported, "{} is not supported", to_string(site.type(0).dtype));
  return types;
}

// Shape arithmetic of operator sets that opsplit does not know yet: what these change is which types an op
// takes, and what it does with floats. False: not by our rules.
Result<bool> fold_unknown_set(Graph& graph, const Node& foreign) {
  Node node = foreign;
  node.op_type = named_op_type(foreign);
  const ops::Op* op = ops::find_named(foreign);
  if (op == nullptr || !is_folded(graph, node, *op) || !ops::check_arity(*op, node)) return false;
  const auto types = op->infer(ops::Site(graph, node));
  if (!types) return false;
  OPSPLIT_CHECK(set_types(graph, node, *types));
  return fold(graph, node, *op, *types);
}

// Types the outputs of a node, or leaves them open. True: they are constants, and the node is no longer needed.
Result<bool> infer_node(Graph& graph, Node& node, const OnnxRules& rules) {
  std::string reason;
  if (!is_foreign(node) && !reads_open(graph, node)) {
    const ops::Op& op = *ops::find(node.op_type);
    const auto types = infer_native(graph, node);
    if (types) {
      OPSPLIT_CHECK(set_types(graph, node, *types));
      OPSPLIT_CHECK(make_padding_explicit(graph, node));
      // What is not evaluated here is run like any other node, although it gives the same each time.
      if (!is_folded(graph, node, op)) return false;
      return fold(graph, node, op, *types);
    }
    if (types.error().code != ErrorCode::unsupported) return tl::unexpected(types.error());
    reason = types.error().message;
  }
  if (graph.opset > newest_known_opset && !reads_open(graph, node)) {
    OPSPLIT_TRY(const bool folded, fold_unknown_set(graph, node));
    if (folded) return true;
  }
  make_foreign(node);
  if (auto inferred = infer_foreign(graph, node, rules, reason); !inferred) {
    // Why opsplit has no type says more than why ONNX has none.
    if (!reason.empty() && inferred.error().code == ErrorCode::invalid_input)
      return fail(ErrorCode::unsupported, "{}", reason);
    return tl::unexpected(std::move(inferred).error());
  }
  for (const ValueId id : node.outputs)
    if (id != no_value && graph.value(id).type) OPSPLIT_CHECK(check_size(graph.type(id)));
  // One that opsplit knows in another form, but for its window: that may be odd, too.
  const ops::Op* op = ops::find_named(node);
  if (op != nullptr && !reads_open(graph, node) && ops::check_arity(*op, node))
    (void)make_padding_explicit(graph, node);
  return false;
}

}  // namespace

Result<> infer_shapes(Graph& graph, const GivenShapes& shapes, const OnnxRules& rules) {
  OPSPLIT_CHECK(bind_inputs(graph, shapes));
  OPSPLIT_CHECK(check_given_sizes(graph));
  std::vector<Node> left;
  for (Node& node : graph.nodes) {
    const auto folded = infer_node(graph, node, rules);
    if (!folded)
      return within(fmt::format("node '{}' ({})", node.name, named_op_type(node)), folded.error());
    if (!*folded) left.push_back(std::move(node));
  }
  graph.nodes = std::move(left);
  OPSPLIT_CHECK(bound_outputs(graph, shapes));
  remove_dead(graph);
  OPSPLIT_CHECK(bundle_open(graph));
  remove_dead(graph);
  return {};
}

}  // namespace opsplit::graph
