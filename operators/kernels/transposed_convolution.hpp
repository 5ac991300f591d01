// A transposed convolution's attributes and shapes, checked: what its kernel and its reference start
// from.
#pragma once

#include "operators/kernels/convolution.hpp"

namespace opsplit::operators {

// `bias` is null where there is none.
Result<Convolution> read_transposed_convolution(const graph::Node& node, const TensorType& input,
                                                const TensorType& weights, const TensorType* bias,
                                                const TensorType& output);

}  // namespace opsplit::operators
