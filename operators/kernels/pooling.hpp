// A pool's attributes and shapes, checked: what its kernel and its reference start from.
#pragma once

#include "operators/kernels/kernel_spec.hpp"
#include "operators/kernels/window.hpp"

namespace opsplit::operators {

// Of MaxPool and AveragePool.
Result<Window> read_pool(const graph::Node& node, const TensorType& input,
                         const TensorType& output);

// The window of GlobalMaxPool and GlobalAveragePool: the whole image.
Result<Window> global_window(const TensorType& input, const TensorType& output);

}  // namespace opsplit::operators
