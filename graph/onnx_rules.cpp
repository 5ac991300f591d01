// Types of nodes that opsplit has no rule for, by the rules that come with ONNX itself.
#include <onnx/defs/schema.h>
#include <onnx/onnx_pb.h>
#include <onnx/shape_inference/implementation.h>

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
