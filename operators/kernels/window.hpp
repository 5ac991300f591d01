// A window that moves over an image: what convolutions and pools have in common.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/error.hpp"
#include "graph/graph.hpp"

namespace opsplit::operators {

// One entry per spatial axis.
struct Window {
  std::vector<std::int64_t> kernel, strides, dilations;
  std::vector<std::int64_t> pads_begin, pads_end;
  bool overhangs = false;  // some window reaches beyond the padding that the model declares

  [[nodiscard]] std::size_t axes() const { return kernel.size(); }
  // Elements from the window's first to its last, dilation included.
  [[nodiscard]] std::int64_t extent(std::size_t axis) const {
    return (kernel[axis] - 1) * dilations[axis] + 1;
  }
};

// Reads strides, dilations, pads and auto_pad of a convolution or pool whose window has the sizes
// `kernel`, and checks them against what goes in and comes out (shapes with batch and channels). In
// the result pads_end is what the output's size implies: with ceil_mode more than the model says,
// where the last window does not fit exactly less, down to negative.
Result<Window> read_window(const graph::Node& node, std::span<const std::int64_t> kernel,
                           const Shape& input, const Shape& output);

// The same of a transposed convolution: its windows lie on the output, and padding is cut off there.
// Nothing is left of auto_pad and output_shape (infer_shapes).
Result<Window> read_transposed_window(const graph::Node& node, std::span<const std::int64_t> kernel,
                                      const Shape& input, const Shape& output);

}  // namespace opsplit::operators
