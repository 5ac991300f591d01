// Attributes and shapes, checked, of the operations that scale elements by what surrounds them:
// Softmax, LRN, BatchNormalization.
#pragma once

#include "operators/kernels/kernel_spec.hpp"

namespace opsplit::operators {

// Softmax over `size` elements that lie `inner` apart, `outer` times. Until opset 12 the tensor is
// seen as a matrix, all axes from `axis` on its columns; since 13 one axis is normalised.
struct Softmax {
  std::int64_t outer = 1, size = 1, inner = 1;
};
Result<Softmax> read_softmax(const graph::Node& node, std::int64_t opset, const TensorType& input,
                             const TensorType& output);

struct Lrn {
  std::int64_t size = 1;
  float alpha = 0.0001F, beta = 0.75F, bias = 1.0F;
};
Result<Lrn> read_lrn(const graph::Node& node, const TensorType& input, const TensorType& output);

// y = x factor[channel] + addend[channel].
struct BatchNormalization {
  std::vector<double> factor, addend;
};
// Scale, shift, mean and variance as the node has them, one per channel.
Result<BatchNormalization> read_batch_normalization(const graph::Node& node,
                                                    const TensorType& input,
                                                    std::span<const TensorView> parameters,
                                                    const TensorType& output);

}  // namespace opsplit::operators
