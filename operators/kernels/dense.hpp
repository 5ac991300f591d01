// Matrix products' attributes and shapes, checked: what their kernels and references start from.
#pragma once

#include "operators/kernels/kernel_spec.hpp"

namespace opsplit::operators {

// y = alpha a b + beta c, a and b transposed before if so said.
struct Gemm {
  bool transpose_a = false, transpose_b = false;
  float alpha = 1, beta = 1;
  std::int64_t rows = 0, inner = 0, columns = 0;
};

// `c` is null where there is none.
Result<Gemm> read_gemm(const graph::Node& node, const TensorType& a, const TensorType& b,
                       const TensorType* c, const TensorType& y);

// Shapes of equal rank, at least 2: vectors as matrices, batches of 1 where there were none.
struct MatMul {
  Shape a, b, y;
};
Result<MatMul> read_matmul(const TensorType& a, const TensorType& b, const TensorType& y);

}  // namespace opsplit::operators
