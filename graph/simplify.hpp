// The steps of simplify(). Each leaves dead nodes and values behind.
#pragma once

#include "graph/graph.hpp"

namespace opsplit::graph {

// BatchNormalization, and Add, Sub, Mul, Div by a constant per channel, into the Conv or
// BatchNormalization that computes their input.
Result<> fold_affine(Graph& graph);

}  // namespace opsplit::graph
