// The plain meaning of every operation that there are kernels for, as ONNX defines it: no layouts, no
// fusion, no speed. What the kernels are tested against, and what computes the odd cases.
#pragma once

#include <span>

#include "graph/graph.hpp"
#include "operators/kernel.hpp"

namespace opsplit::operators::reference {

// Computes `node` on row-major tensors: its inputs (absent ones without data) and outputs in order.
// Errors: types, attributes or contents that the operation does not have.
Result<> evaluate(const graph::Node& node, std::int64_t opset, std::span<const TensorView> inputs,
                  std::span<const MutableTensorView> outputs);

// Arguments of one evaluation, as each family's reference takes them.
struct Call {
  const graph::Node& node;
  std::int64_t opset;
  std::span<const TensorView> inputs;
  std::span<const MutableTensorView> outputs;

  [[nodiscard]] bool has_input(std::size_t index) const {
    return index < inputs.size() && inputs[index].data != nullptr;
  }
};

// One file each: <family>_reference.cpp, beside the family's kernels.
Result<> convolution(const Call& call);
Result<> transposed_convolution(const Call& call);
Result<> max_pool(const Call& call);
Result<> average_pool(const Call& call);
Result<> global_pool(const Call& call);
Result<> gemm(const Call& call);
Result<> matmul(const Call& call);
Result<> softmax(const Call& call);  // and LogSoftmax
Result<> lrn(const Call& call);
Result<> batch_normalization(const Call& call);
Result<> binary(const Call& call);  // Add, Sub, Mul, Div, Sum, Max, Min, Pow, PRelu
Result<> activation(const Call& call);
Result<> concat(const Call& call);
Result<> transpose(const Call& call);
Result<> resize(const Call& call);  // and Upsample
Result<> reduce(const Call& call);  // ReduceMean, ReduceSum, ReduceMax
Result<> slice(const Call& call);
Result<> gather(const Call& call);
Result<> pad(const Call& call);
Result<> split(const Call& call);
Result<> view(const Call& call);  // Reshape and the like: the same bytes

}  // namespace opsplit::operators::reference
