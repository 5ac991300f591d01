// Slice's arguments, which come as attributes or as inputs and may lie out of range.
#pragma once

#include "graph/ops/op.hpp"

namespace opsplit::graph::ops {

struct SliceAxis {
  std::int64_t start = 0;
  std::int64_t step = 1;
  std::int64_t size = 0;  // of the output
};

// For each axis of input 0. Every index start + i * step with i < size is in range.
Result<std::vector<SliceAxis>> slice_axes(const Site& site);

}  // namespace opsplit::graph::ops
