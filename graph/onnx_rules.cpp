// Types of what opsplit has no rule for, by the rules that come with ONNX itself. The one place that uses
// libonnx: who does not call this does not load it.
#include <onnx/defs/schema.h>
#include <onnx/onnx_pb.h>
#include <onnx/shape_inference/implementation.h>

#include <algorithm>

#include "graph/model.hpp"
#include "graph/names.hpp"
#include "graph/onnx_types.hpp"

namespace opsplit::graph {
namespace {

bool is_open(const onnx::ValueInfoProto& info) {
  const onnx::TypeProto& type = info.type();
  if (!type.has_tensor_type() || !type.tensor_type().has_shape()) return true;
  const auto& dims = type.tensor_type().shape().dim();
  return std::any_of(dims.begin(), dims.end(),
                     [](const auto& dim) { return !dim.has_dim_value(); });
}

// libonnx takes what it does not know for the last one that it does. Of ops that opsplit knows in older sets
// it is asked for what these can't do, and has not changed; of all others nobody can tell.
Result<> check_opset(const onnx::ModelProto& model) {
  std::int64_t opset = 0;
  for (const auto& import : model.opset_import())
    if (import.domain().empty()) opset = import.version();
  const auto newest =
      onnx::OpSchemaRegistry::DomainToVersionRange::Instance().Map().at(onnx::ONNX_DOMAIN).second;
  if (opset <= newest) return {};
  const auto& inputs = model.graph().input();
  const auto& nodes = model.graph().node();
  const bool simple =
      opset <= newest_known_opset && std::none_of(inputs.begin(), inputs.end(), is_open) &&
      std::all_of(nodes.begin(), nodes.end(), [](const onnx::NodeProto& node) {
        return std::none_of(
            node.attribute().begin(), node.attribute().end(),
            [](const auto& attribute) { return attribute.has_g() || attribute.graphs_size() > 0; });
      });
  if (simple) return {};
  return fail(ErrorCode::unsupported, "libonnx here knows operator sets up to {} only", newest);
}

}  // namespace

Result<std::string> infer_by_onnx(const std::string& question) {
  onnx::ModelProto model;
  if (!model.ParseFromString(question)) return fail(ErrorCode::invalid_input, "not a model");
  OPSPLIT_CHECK(check_opset(model));
  try {
    const onnx::ShapeInferenceOptions options(/*check types*/ true, /*strict*/ 1,
                                              /*by data, too*/ true);
    onnx::shape_inference::InferShapes(model, onnx::OpSchemaRegistry::Instance(), options);
  } catch (const std::exception& error) {
    std::string text = error.what();
    text = text.substr(0, text.find('\n'));
    return fail(ErrorCode::invalid_input, "ONNX finds: {}", is_printable(text) ? text : "?");
  }
  onnx::GraphProto types;
  types.mutable_value_info()->Swap(model.mutable_graph()->mutable_value_info());
  return types.SerializeAsString();
}

}  // namespace opsplit::graph
