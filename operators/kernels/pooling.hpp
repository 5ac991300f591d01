// A pool's attributes and shapes, checked: what its kernel and its reference start from.
#pragma once

#include "operators/kernels/kernel_spec.hpp"
#include "operators/kernels/window.hpp"

namespace opsplit::operators {

// Of MaxPool and AveragePool.
Result<Window> read_pool(const graph::Node& node, const TensorType& input,
                         const TensorType& output);

// Where the padding that the model declares ends behind the image, per axis: what ceil_mode adds beyond
// it counts for nothing.
std::vector<std::int64_t> padded_end(const graph::Node& node, const Window& window,
                                     const Shape& input);

// The window of GlobalMaxPool and GlobalAveragePool: the whole image.
Result<Window> global_window(const TensorType& input, const TensorType& output);

}  // namespace opsplit::operators
