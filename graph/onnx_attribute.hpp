// ONNX's AttributeProto to an Attribute and back.
#pragma once

#include "graph/external_data.hpp"
#include "graph/graph.hpp"

namespace onnx {
class AttributeProto;
}

namespace opsplit::graph {

// Refused: an attribute that kernels know but that has another type here than they expect.
Result<> check_attribute_type(const onnx::AttributeProto& attribute);

// Error unsupported: a subgraph, say, or a tensor of strings, which only ONNX can hold.
Result<Attribute> attribute_from_onnx(const onnx::AttributeProto& attribute,
                                      ExternalData& external);

void attribute_to_onnx(std::string_view name, const Attribute& attribute,
                       onnx::AttributeProto& out);

}  // namespace opsplit::graph
