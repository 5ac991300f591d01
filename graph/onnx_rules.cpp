// Types of nodes that opsplit has no rule for, by the rules that come with ONNX itself.
#include <onnx/defs/schema.h>
#include <onnx/onnx_pb.h>
#include <onnx/shape_inference/implementation.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "graph/model.hpp"
#include "graph/names.hpp"
#include "graph/onnx_export.hpp"
#include "graph/onnx_types.hpp"

namespace opsplit::graph {
namespace {

// Shapes, axes and the like decide types; weights do not, and copying them takes long.
constexpr std::size_t most_constant_bytes = 4096;

// The node as a model of its own: types of what it reads, values of what is constant.
onnx::ModelProto model_of(const Graph& graph, const Node& node) {
  onnx::ModelProto model = empty_model(graph, node.name);
  onnx::GraphProto& proto = *model.mutable_graph();
  add_node(graph, node, proto);
  for (const ValueId id : std::set<ValueId>(node.inputs.begin(), node.inputs.end())) {
    if (id == no_value) continue;
    const Value& value = graph.value(id);
    if (value.constant && value.constant->bytes.size() <= most_constant_bytes)
      add_constant_bytes(value, proto);
    describe(value.name, *value.type, *proto.add_input());
  }
  return model;
}

// What libonnx divides by, and which axes it takes weights to have, it does not check: a model could end
// opsplitd with it.
Result<> check_what_onnx_trusts(const Graph& graph, const Node& node) {
  const std::string_view type = named_op_type(node);
  if (type.find('.') != type.npos) return {};  // of another domain
  for (const std::string_view name : {"strides", "dilations"}) {
    const auto found = node.attributes.find(name);
    if (found == node.attributes.end()) continue;
    const auto* numbers = std::get_if<std::vector<std::int64_t>>(&found->second);
    if (numbers != nullptr && std::any_of(numbers->begin(), numbers->end(),
                                          [](std::int64_t number) { return number < 1; }))
      return fail(ErrorCode::invalid_input, "{} must be 1 or more", name);
  }
  if (type == "SplitToSequence") return fail(ErrorCode::unsupported, "sequences are not supported");
  if (type.find("Conv") == type.npos) return {};
  const std::size_t weights = type == "QLinearConv" ? 3 : 1;
  if (node.inputs.size() <= weights || node.inputs[0] == no_value ||
      node.inputs[weights] == no_value)
    return fail(ErrorCode::invalid_input, "has no weights");
  const Shape& x = graph.type(node.inputs[0]).shape;
  const Shape& w = graph.type(node.inputs[weights]).shape;
  if (x.rank() != w.rank())
    return fail(ErrorCode::invalid_input, "weights {} do not fit {}", to_string(w), to_string(x));
  return {};
}

std::optional<TensorType> concrete(const onnx::TypeProto& type) {
  if (!type.has_tensor_type() || !type.tensor_type().has_shape()) return std::nullopt;
  const auto dtype = dtype_from_onnx(type.tensor_type().elem_type());
  if (!dtype) return std::nullopt;
  std::vector<std::int64_t> dims;
  for (const auto& dim : type.tensor_type().shape().dim()) {
    if (!dim.has_dim_value() || dim.dim_value() < 0) return std::nullopt;
    dims.push_back(dim.dim_value());
  }
  const auto shape = Shape::from(dims);
  if (!shape) return std::nullopt;
  return TensorType{*dtype, *shape};
}

}  // namespace

Result<std::vector<TensorType>> infer_by_onnx(const Graph& graph, const Node& node) {
  OPSPLIT_CHECK(check_what_onnx_trusts(graph, node));
  onnx::ModelProto model = model_of(graph, node);
  try {
    const onnx::ShapeInferenceOptions options(/*check types*/ true, /*strict*/ 1,
                                              /*by data, too*/ true);
    onnx::shape_inference::InferShapes(model, onnx::OpSchemaRegistry::Instance(), options);
  } catch (const std::exception& error) {
    std::string text = error.what();
    text = text.substr(0, text.find('\n'));
    return fail(ErrorCode::invalid_input, "ONNX finds: {}", is_printable(text) ? text : "?");
  }
  std::unordered_map<std::string, std::optional<TensorType>> found;
  for (const auto& info : model.graph().value_info())
    found.emplace(info.name(), concrete(info.type()));
  std::vector<TensorType> types;
  for (const ValueId id : node.outputs) {
    types.emplace_back();
    if (id == no_value) continue;
    const auto type = found.find(graph.value(id).name);
    if (type == found.end() || !type->second)
      return fail(ErrorCode::unsupported, "the type of output '{}' does not follow from its inputs",
                  graph.value(id).name);
    types.back() = *type->second;
  }
  return types;
}

}  // namespace opsplit::graph
