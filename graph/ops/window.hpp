// The geometry of operations that slide a window: convolutions and pools.
#pragma once

#include "graph/ops/op.hpp"

namespace opsplit::graph::ops {

// One spatial axis, everything resolved: defaults, and auto_pad made into padding.
struct WindowAxis {
  std::int64_t in = 0;
  std::int64_t kernel = 1;
  std::int64_t stride = 1;
  std::int64_t dilation = 1;
  std::int64_t pad_begin = 0;
  std::int64_t pad_end = 0;
  std::int64_t out = 0;
};

// Of a Conv, MaxPool or AveragePool. Checks all attributes that say something about the window.
Result<std::vector<WindowAxis>> window(const Site& site);

// Of a ConvTranspose: padding is what is cut off its output. One larger than the windows reach (by
// output_padding or output_shape) ends in elements that none has.
Result<std::vector<WindowAxis>> transposed_window(const Site& site);

}  // namespace opsplit::graph::ops
