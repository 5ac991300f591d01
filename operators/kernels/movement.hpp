// Attributes and shapes, checked, of the operations that only move elements.
#pragma once

#include "operators/kernels/kernel_spec.hpp"

namespace opsplit::operators {

// The attribute `axis`, counted from the front.
Result<std::size_t> read_axis(const graph::Node& node, std::int64_t otherwise, std::size_t rank);

// The axis along which `inputs` make up `output`.
Result<std::size_t> read_concat(const graph::Node& node, std::span<const TensorType> inputs,
                                const TensorType& output);

// For each axis of the output, the input's axis that it is.
Result<std::vector<std::size_t>> read_permutation(const graph::Node& node, const TensorType& input,
                                                  const TensorType& output);

}  // namespace opsplit::operators
