// Where each element of a resized tensor comes from.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "operators/kernels/kernel_spec.hpp"

namespace opsplit::operators {

// One index of the output along one axis: the input's at `first` (1 - part) + at `second` part.
struct Tap {
  static constexpr std::int64_t outside = -1;  // `first` beyond the region: extrapolation_value
  std::int64_t first = 0, second = 0;
  float part = 0;
};

struct Resize {
  bool linear = false;
  float extrapolation = 0;
  std::vector<std::vector<Tap>> axes = {};  // for each axis of the output, all of its indices
};

// The node's inputs behind the first, as far as they are numbers of float32; empty where absent.
struct ResizeNumbers {
  std::span<const float> region, scales;
};

// `floats(i)` gives the numbers of input i if it is there and of float32.
template <class Floats>
ResizeNumbers resize_numbers(const graph::Node& node, std::int64_t opset, Floats&& floats) {
  if (node.op_type == "Upsample" || opset < 11) return {{}, floats(1)};
  return {floats(1), floats(2)};
}

// Resize, and Upsample before it. Errors: what infer_shapes does not let pass.
Result<Resize> read_resize(const graph::Node& node, std::int64_t opset, const TensorType& input,
                           const TensorType& output, const ResizeNumbers& numbers);

}  // namespace opsplit::operators
