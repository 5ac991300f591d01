// Which tensors may lie in another layout than row-major.
#pragma once

#include "graph/graph.hpp"

namespace opsplit::graph {

// Can this node's kernels read and write all its rank-4 tensors in the channel-blocked `layout` as
// well as in row-major? This is what the kernels can do: change it together with them.
bool takes_layout(const Graph& graph, const Node& node, Layout layout);

// For each value: `blocked` if it is a float32 image between nodes that all take it, and no view
// and not an input or output of the graph; else row-major. `only_row_major` says of each node whether it
// takes nothing else, whatever its kernels could do.
std::vector<Layout> choose_layouts(const Graph& graph, Layout blocked,
                                   const std::vector<bool>& only_row_major);

}  // namespace opsplit::graph
