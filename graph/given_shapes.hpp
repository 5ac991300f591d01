// What the user says of sizes: of inputs, and of outputs whose sizes follow from data.
#pragma once

#include "graph/model.hpp"

namespace opsplit::graph {

// Gives the graph's inputs their types. A symbol has one size wherever it stands: an input whose symbols are
// all known from others needs no entry in `shapes`. Error also: a shape is for neither an input nor an output.
Result<> bind_inputs(Graph& graph, const GivenShapes& shapes);

// Gives open outputs of the graph (Value::open) their bounds. Errors: one has none, or cannot have one; one
// contradicts what is known; one is too small for an output that is not open.
Result<> bound_outputs(Graph& graph, const GivenShapes& shapes);

}  // namespace opsplit::graph
