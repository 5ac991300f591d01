// Gives the graph's inputs their types: from the model, and from what the user says.
#pragma once

#include "graph/model.hpp"

namespace opsplit::graph {

// A symbol has one size wherever it stands: an input whose symbols are all known from others needs
// no entry in `shapes`.
Result<> bind_inputs(Graph& graph, const InputShapes& shapes);

}  // namespace opsplit::graph
