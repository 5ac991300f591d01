#include "graph/onnx_export.hpp"

#include <onnx/onnx_pb.h>

#include "graph/onnx_attribute.hpp"
#include "graph/onnx_tensor.hpp"
#include "graph/onnx_types.hpp"

namespace opsplit::graph {
namespace {

// The file format version in which each operator set came (readers refuse older ones), or functions.
std::int64_t ir_version(std::int64_t opset) {
  if (opset >= 23) return opset >= 25 ? 13 : opset - 12;
  return opset >= 21 ? 10 : opset >= 19 ? 9 : 8;
}

void add(const std::string& name, const Constant& constant, onnx::GraphProto& to) {
  onnx::TensorProto& tensor = *to.add_initializer();
  tensor.set_name(name);
  constant_to_onnx(constant, tensor);
}

std::string op_type_of(const std::string& domain, const std::string& name) {
  return domain.empty() || domain == onnx_domain ? name : fmt::format("{}.{}", domain, name);
}

// In subgraphs, too.
template <class Nodes>
void add_op_types(const Nodes& nodes, std::set<std::string>& types) {
  for (const onnx::NodeProto& node : nodes) {
    types.insert(op_type_of(node.domain(), node.op_type()));
    for (const auto& attribute : node.attribute()) {
      if (attribute.has_g()) add_op_types(attribute.g().node(), types);
      for (const auto& graph : attribute.graphs()) add_op_types(graph.node(), types);
    }
  }
}

void add(const ModelFunction& function, onnx::ModelProto& to) {
  (void)to.add_functions()->ParseFromString(
      function.proto);  // import has taken it out of a message
}

}  // namespace

std::pair<std::string, ModelFunction> function_from_onnx(const onnx::FunctionProto& function) {
  ModelFunction made{function.SerializeAsString(), {}};
  add_op_types(function.node(), made.calls);
  return {op_type_of(function.domain(), function.name()), std::move(made)};
}

void add_called_functions(const Graph& graph, onnx::ModelProto& to) {
  if (graph.functions.empty()) return;
  std::set<std::string> seen;
  add_op_types(to.graph().node(), seen);
  std::vector<std::string> left(seen.begin(), seen.end());
  while (!left.empty()) {
    const auto called = graph.functions.find(left.back());
    left.pop_back();
    if (called == graph.functions.end()) continue;
    add(called->second, to);
    for (const std::string& type : called->second.calls)
      if (seen.insert(type).second) left.push_back(type);
  }
}

void add_all_functions(const Graph& graph, onnx::ModelProto& to) {
  for (const auto& [type, function] : graph.functions) add(function, to);
}

onnx::ModelProto empty_model(const Graph& graph, const std::string& name) {
  onnx::ModelProto model;
  model.set_ir_version(ir_version(graph.opset));
  model.set_producer_name("opsplit");
  model.add_opset_import()->set_version(graph.opset);
  for (const auto& [domain, version] : graph.other_opsets) {
    auto* opset = model.add_opset_import();
    opset->set_domain(domain);
    opset->set_version(version);
  }
  model.mutable_graph()->set_name(name);
  return model;
}

void add_node(const Graph& graph, const Node& node, onnx::GraphProto& to) {
  onnx::NodeProto& out = *to.add_node();
  out.set_name(node.name);
  const std::string_view type = is_bundle(node) ? node.op_type : named_op_type(node);
  const std::size_t dot = type.rfind('.');
  out.set_op_type(std::string(type.substr(dot + 1)));  // all of it where there is no dot
  if (dot != type.npos) out.set_domain(std::string(type.substr(0, dot)));
  for (const ValueId id : node.inputs)
    out.add_input(id == no_value ? std::string() : graph.value(id).name);
  for (const ValueId id : node.outputs)
    out.add_output(id == no_value ? std::string() : graph.value(id).name);
  for (const auto& [name, attribute] : node.attributes)
    attribute_to_onnx(name, attribute, *out.add_attribute());
}

void add_constant(const Value& value, onnx::GraphProto& to) {
  add(value.name, *value.constant, to);
}

void add_constant_bytes(const Value& value, onnx::GraphProto& to) {
  const Constant& constant = *value.constant;
  add(value.name, {.type = constant.type, .bytes = constant.bytes, .owner = constant.owner}, to);
}

void describe(const std::string& name, const TensorType& type, onnx::ValueInfoProto& info) {
  info.set_name(name);
  auto* tensor = info.mutable_type()->mutable_tensor_type();
  tensor->set_elem_type(dtype_to_onnx(type.dtype));
  auto* shape = tensor->mutable_shape();  // present even without dimensions: a scalar
  for (const std::int64_t dim : type.shape.dims()) shape->add_dim()->set_dim_value(dim);
}

}  // namespace opsplit::graph
