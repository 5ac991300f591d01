// A convolution's attributes and shapes, checked: what its kernel and its reference start from.
#pragma once

#include "operators/kernels/kernel_spec.hpp"
#include "operators/kernels/window.hpp"

namespace opsplit::operators {

struct Convolution {
  Window window;
  std::int64_t groups = 1;
};

// `bias` is null where there is none.
Result<Convolution> read_convolution(const graph::Node& node, const TensorType& input,
                                     const TensorType& weights, const TensorType* bias,
                                     const TensorType& output);

}  // namespace opsplit::operators
