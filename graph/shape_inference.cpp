#include <algorithm>
#include <map>

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

// What the model says of a value; symbols have the sizes that the inputs gave them.
Result<TensorType> declared_type(const Graph& graph, const Value& value) {
  const auto unknown = [&] {
    return fail(
        ErrorCode::unsupported,
        "opsplit has no kernel for it, and another backend needs the shape of its output "
        "'{}' before it runs: the model does not declare it (onnx.shape_inference adds what "
        "it knows)",
        value.name);
  };
  if (!value.dtype || !value.declared) return unknown();
  std::map<std::string, std::int64_t> symbols;
  for (const ValueId id : graph.inputs) {
    const Value& input = graph.value(id);
    if (!input.declared) continue;
    for (std::size_t axis = 0; axis < input.declared->size(); ++axis)
      if (const auto* symbol = std::get_if<std::string>(&(*input.declared)[axis]))
        symbols.emplace(*symbol, input.type->shape[axis]);
  }
  ops::Dims dims;
  for (const DeclaredDim& declared : *value.declared) {
    if (const auto* size = std::get_if<std::int64_t>(&declared)) {
      dims.push_back(*size);
      continue;
    }
    const auto& symbol = std::get<std::string>(declared);
    const auto known = symbols.find(symbol);
    if (symbol.empty() || known == symbols.end()) return unknown();
    dims.push_back(known->second);
  }
  return ops::with_dims(*value.dtype, dims);
}

// Of a node that another backend runs.
Result<ops::Types> infer_foreign(const Graph& graph, const Node& node, TypeRule rule) {
  if (rule != nullptr) {
    auto types = rule(graph, node);
    if (types || types.error().code != ErrorCode::unsupported) return types;
  }
  ops::Types types;
  for (const ValueId id : node.outputs) {
    types.emplace_back();  // nobody reads it
    if (id == no_value) continue;
    OPSPLIT_TRY(types.back(), declared_type(graph, graph.value(id)));
  }
  return types;
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

Result<ops::Types> infer_types(const Graph& graph, Node& node, TypeRule foreign_types) {
  if (!is_foreign(node)) {
    auto types = infer_native(graph, node);
    if (types || types.error().code != ErrorCode::unsupported) return types;
    Node other = node;
    make_foreign(other);
    auto by_others = infer_foreign(graph, other, foreign_types);
    if (!by_others) return types;  // why opsplit has none says more
    node = std::move(other);
    return by_others;
  }
  return infer_foreign(graph, node, foreign_types);
}

// Types the outputs of a node. True: they are constants, and the node is no longer needed.
Result<bool> infer_node(Graph& graph, Node& node, TypeRule foreign_types) {
  OPSPLIT_TRY(const ops::Types types, infer_types(graph, node, foreign_types));
  if (types.size() < node.outputs.size())
    return fail(ErrorCode::invalid_input, "has {} outputs, must have {}", node.outputs.size(),
                types.size());
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    OPSPLIT_CHECK(check_size(types[i]));
    if (node.outputs[i] == no_value) continue;
    graph.value(node.outputs[i]).dtype = types[i].dtype;
    graph.value(node.outputs[i]).type = types[i];
  }
  if (is_foreign(node)) {
    // One that opsplit knows in another form, but for its window: that may be odd, too.
    if (ops::find(named_op_type(node)) != nullptr) (void)make_padding_explicit(graph, node);
    return false;
  }
  OPSPLIT_CHECK(make_padding_explicit(graph, node));

  const ops::Op* op = ops::find(node.op_type);
  const ops::Site site(graph, node);
  // Of a tensor that need not be known itself.
  const bool is_shape = node.op_type == "Shape" || node.op_type == "Size";
  // What is not evaluated here is run like any other node, although it gives the same each time.
  if ((!is_shape && !all_inputs_constant(graph, node)) || op->fold == nullptr) return false;
  auto constants = op->fold(site, types);
  if (!constants && constants.error().code == ErrorCode::unsupported) return false;
  if (!constants) return tl::unexpected(constants.error());
  for (std::size_t i = 0; i < node.outputs.size(); ++i)
    if (node.outputs[i] != no_value)
      graph.value(node.outputs[i]).constant = std::move((*constants)[i]);
  return true;
}

}  // namespace

Result<> infer_shapes(Graph& graph, const InputShapes& shapes, TypeRule foreign_types) {
  OPSPLIT_CHECK(bind_inputs(graph, shapes));
  OPSPLIT_CHECK(check_given_sizes(graph));
  std::vector<Node> left;
  for (Node& node : graph.nodes) {
    const auto folded = infer_node(graph, node, foreign_types);
    if (!folded)
      return within(fmt::format("node '{}' ({})", node.name, node.op_type), folded.error());
    if (!*folded) left.push_back(std::move(node));
  }
  graph.nodes = std::move(left);
  remove_dead(graph);
  return {};
}

}  // namespace opsplit::graph
