// ONNX's AttributeProto to an Attribute and back.
#pragma once

#include "graph/external_data.hpp"
#include "graph/graph.hpp"

namespace onnx {
class AttributeProto;
}

namespace opsplit::graph {

// Refused: subgraphs, sparse tensors, and an attribute that kernels know but that has another type
// here than they expect.
Result<Attribute> attribute_from_onnx(const onnx::AttributeProto& attribute,
                                      ExternalData& external);

void attribute_to_onnx(std::string_view name, const Attribute& attribute,
                       onnx::AttributeProto& out);

}  // namespace opsplit::graph
