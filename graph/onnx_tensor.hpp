// ONNX's TensorProto to a Constant and back.
#pragma once

#include "graph/external_data.hpp"
#include "graph/graph.hpp"

namespace onnx {
class TensorProto;
}

namespace opsplit::graph {

// Reads every encoding: raw bytes, the typed fields, and external data. Errors do not name the
// tensor; the caller knows better what to call it. Error unsupported: an element type that opsplit has not.
Result<Constant> constant_from_onnx(const onnx::TensorProto& tensor, ExternalData& external);

// Type, and the bytes or where they are stored; the name is the caller's to set.
void constant_to_onnx(const Constant& constant, onnx::TensorProto& tensor);

}  // namespace opsplit::graph
