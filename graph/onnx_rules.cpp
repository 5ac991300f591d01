// Types of what opsplit has no rule for, by the rules that come with ONNX itself. The one place that uses
// libonnx: who does not call this does not load it.
#include <onnx/defs/schema.h>
#include <onnx/onnx_pb.h>
#include <onnx/shape_inference/implementation.h>

#include <algorithm>
#include <new>

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

// How types follow in sets after the oldest libonnx's: DFT's axis is an input, of another default (20), and
// Resize's sizes may be those of some axes only, or one scale for all (18).
bool has_changed(const onnx::NodeProto& node) {
  const auto& attributes = node.attribute();
  return node.op_type() == "DFT" ||
         (node.op_type() == "Resize" &&
          std::any_of(attributes.begin(), attributes.end(), [](const auto& attribute) {
            return attribute.name() == "axes" || attribute.name() == "keep_aspect_ratio_policy";
          }));
}

bool has_subgraph(const onnx::NodeProto& node) {
  return std::any_of(node.attribute().begin(), node.attribute().end(), [](const auto& attribute) {
    return attribute.has_g() || attribute.graphs_size() > 0;
  });
}

std::int64_t newest_opset_of_libonnx() {
  return onnx::OpSchemaRegistry::DomainToVersionRange::Instance()
      .Map()
      .at(onnx::ONNX_DOMAIN)
      .second;
}

std::int64_t imported_opset(const onnx::ModelProto& model) {
  for (const auto& import : model.opset_import())
    if (import.domain().empty()) return import.version();
  return 0;
}

// libonnx takes an operator set that it does not know for the last one that it does. It may be asked all the
// same for what opsplit knows of that set, and knows not to have changed; of all else nobody can tell.
bool may_be_asked(const onnx::ModelProto& model) {
  const std::int64_t opset = imported_opset(model);
  if (opset <= newest_opset_of_libonnx()) return true;
  const auto& inputs = model.graph().input();
  const auto& nodes = model.graph().node();
  return opset <= newest_known_opset && std::none_of(inputs.begin(), inputs.end(), is_open) &&
         std::none_of(nodes.begin(), nodes.end(),
                      [](const auto& node) { return has_changed(node) || has_subgraph(node); });
}

// No tensor of any use has so many axes, and every reader would be asked about with them.
constexpr std::size_t most_type_bytes = 4096;

}  // namespace

Result<std::string> infer_by_onnx(const std::string& question) {
  onnx::ModelProto model;
  if (!model.ParseFromString(question)) return fail(ErrorCode::invalid_input, "not a model");
  const auto too_new = [] {
    return fail(ErrorCode::unsupported, "libonnx here knows operator sets up to {} only",
                newest_opset_of_libonnx());
  };
  if (!may_be_asked(model)) return too_new();
  try {
    const onnx::ShapeInferenceOptions options(/*check types*/ true, /*strict*/ 1,
                                              /*by data, too*/ true);
    onnx::shape_inference::InferShapes(model, onnx::OpSchemaRegistry::Instance(), options);
  } catch (const std::bad_alloc&) {
    throw;  // it says nothing of the model: whoever asked sees us die
  } catch (const std::exception& error) {
    // Older rules may not refuse what a newer set allows.
    if (imported_opset(model) > newest_opset_of_libonnx()) return too_new();
    std::string text = error.what();
    text = text.substr(0, text.find('\n'));
    return fail(ErrorCode::invalid_input, "ONNX finds: {}", is_printable(text) ? text : "?");
  }
  onnx::GraphProto types;
  for (auto& info : *model.mutable_graph()->mutable_value_info())
    if (info.ByteSizeLong() <= most_type_bytes) types.add_value_info()->Swap(&info);
  return types.SerializeAsString();
}

}  // namespace opsplit::graph
