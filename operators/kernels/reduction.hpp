// Attributes, checked, of ReduceMean, ReduceSum and ReduceMax.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/error.hpp"
#include "graph/graph.hpp"

namespace opsplit::operators {

// For each axis of the input whether it is reduced. They are an attribute of the node or, since
// opset 13 (ReduceSum) and 18, its second input; all if there are none.
Result<std::vector<bool>> reduced_axes(const graph::Node& node, std::size_t rank,
                                       std::optional<std::span<const std::int64_t>> input);

}  // namespace opsplit::operators
