// Types of nodes that another backend runs.
#pragma once

#include "graph/model.hpp"

namespace opsplit::graph {

// Gives each output of the node a type, by ONNX's rules (none: nobody is asked), else as the model declares it;
// where neither says enough, the value is left open, with `reason` if there is one. Inputs may be open.
// Error: the node is wrong.
Result<> infer_foreign(Graph& graph, const Node& node, const OnnxRules& rules, std::string reason);

}  // namespace opsplit::graph
