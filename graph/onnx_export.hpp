// A graph's pieces as ONNX's protobuf messages: what models that are written are made of.
#pragma once

#include <string>
#include <utility>

#include "graph/graph.hpp"

namespace onnx {
class FunctionProto;
class GraphProto;
class ModelProto;
class ValueInfoProto;
}  // namespace onnx

namespace opsplit::graph {

// With the graph's operator sets, and nothing in it.
onnx::ModelProto empty_model(const Graph& graph, const std::string& name);

void add_node(const Graph& graph, const Node& node, onnx::GraphProto& to);

// The functions that the model's nodes call, and those that these call; or all that there are.
void add_called_functions(const Graph& graph, onnx::ModelProto& to);
void add_all_functions(const Graph& graph, onnx::ModelProto& to);
// With what it calls.
std::pair<std::string, ModelFunction> function_from_onnx(const onnx::FunctionProto& function);

// An initializer: its bytes, or where they are stored.
void add_constant(const Value& value, onnx::GraphProto& to);
// The same for whoever has no folder of weights.
void add_constant_bytes(const Value& value, onnx::GraphProto& to);

void describe(const std::string& name, const TensorType& type, onnx::ValueInfoProto& info);

}  // namespace opsplit::graph
