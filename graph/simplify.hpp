// The steps of simplify(). Each leaves dead nodes and values behind.
#pragma once

#include "graph/graph.hpp"

namespace opsplit::graph {

// BatchNormalization, and Add, Sub, Mul, Div by a constant per channel, into the Conv,
// ConvTranspose or BatchNormalization that computes their input.
Result<> fold_affine(Graph& graph);

// HardSigmoid written as Add, Clip and Div; x + x s as x (s + 1).
Result<> join_activations(Graph& graph);

}  // namespace opsplit::graph
