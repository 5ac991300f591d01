// What split() is made of.
#pragma once

#include "graph/split.hpp"

namespace opsplit::graph {

using NodeIds = std::vector<std::int32_t>;

// Indices of the nodes that are run: all but views, in execution order.
NodeIds run_nodes(const Graph& graph);

// For each value, the value that a chain of views starts from: itself if no view makes it.
std::vector<ValueId> view_roots(const Graph& graph);

// Contiguous pieces of the execution order, their largest cost as small as possible; among cuts
// about as good, those that fewer bytes cross. Error: more stages than nodes.
Result<std::vector<NodeIds>> cut_into_stages(const Graph& graph, int count);

// For each group the nodes that it claims. Errors: a node that no group or two groups claim, names
// that do not exist.
Result<std::vector<NodeIds>> claim_by_hand(const Graph& graph, const ByHand& spec);

// Joins connected nodes of one operator to tasks, as long as the tasks form no cycle.
// `operator_of`: for each node, -1 for views. Returns for each operator its tasks.
std::vector<std::vector<NodeIds>> join_connected(const Graph& graph,
                                                 const std::vector<std::int32_t>& operator_of,
                                                 std::size_t operators);

}  // namespace opsplit::graph
