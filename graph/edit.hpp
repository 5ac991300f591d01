// Changes to a graph that more than one step makes.
#pragma once

#include <string>

#include "graph/graph.hpp"
#include "graph/names.hpp"

namespace opsplit::graph {

// All names of values that are taken.
UniqueNames value_names(const Graph& graph);

// A new constant under the wanted name, or one like it.
ValueId add_constant(Graph& graph, UniqueNames& names, std::string_view wanted, Constant constant);
Result<ValueId> add_constant(Graph& graph, UniqueNames& names, std::string_view wanted,
                             const Shape& numbers);  // as a list of int64

// Removes nodes that no output depends on, and values that no node reads or writes; the graph's
// inputs stay. Values are numbered anew.
void remove_dead(Graph& graph);

}  // namespace opsplit::graph
