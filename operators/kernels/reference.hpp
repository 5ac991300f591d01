// The plain meaning of every operation that there are kernels for, as ONNX defines it: no layouts, no
// fusion, no speed. What the kernels are tested against, and what computes the odd cases.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "graph/graph.hpp"
#include "operators/kernel.hpp"

namespace opsplit::operators::reference {

// Computes `node` on row-major tensors: its inputs (absent ones without data) and outputs in order.
// Errors: types, attributes or contents that the operation does not have.
Result<> evaluate(const graph::Node& node, std::int64_t opset, std::span<const TensorView> inputs,
                  std::span<const MutableTensorView> outputs);

// What evaluate() knows, views apart.
bool knows(std::string_view op_type);
std::vector<std::string_view> op_types();

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
Result<> lp_pool(const Call& call);
Result<> gemm(const Call& call);
Result<> matmul(const Call& call);
Result<> softmax(const Call& call);  // and LogSoftmax
Result<> lrn(const Call& call);
Result<> batch_normalization(const Call& call);
// group_normalization_reference.cpp
Result<> layer_normalization(const Call& call);
Result<> group_normalization(const Call& call);  // and InstanceNormalization
Result<> loss(const Call& call);  // NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss
Result<> activation(const Call& call);
// elementwise_reference.cpp
Result<> elementwise_unary(const Call& call);     // the same, and more, of any type
Result<> elementwise_binary(const Call& call);    // Add, Max, Mod, PRelu ...
Result<> elementwise_question(const Call& call);  // IsNaN, IsInf
Result<> power(const Call& call);
Result<> comparison(const Call& call);
Result<> logic(const Call& call);  // And, Or, Xor, Not
Result<> where(const Call& call);
Result<> cast(const Call& call);  // and CastLike
Result<> concat(const Call& call);
Result<> transpose(const Call& call);
Result<> resize(const Call& call);  // and Upsample
Result<> grid_sample(const Call& call);
// quantization_reference.cpp
Result<> quantize(const Call& call);
Result<> dequantize(const Call& call);
Result<> dynamic_quantize(const Call& call);
Result<> reduce(const Call& call);  // ReduceMean, ReduceSum, ReduceMax ...
Result<> cumulative_sum(const Call& call);
// ranking_reference.cpp
Result<> arg_extreme(const Call& call);  // ArgMax, ArgMin
Result<> hardmax(const Call& call);
Result<> top_k(const Call& call);
Result<> slice(const Call& call);
Result<> gather(const Call& call);
Result<> pad(const Call& call);
Result<> split(const Call& call);
// arrangement_reference.cpp
Result<> expand(const Call& call);
Result<> tile(const Call& call);
Result<> trilu(const Call& call);
Result<> depth_to_space(const Call& call);  // and SpaceToDepth
Result<> reverse_sequence(const Call& call);
Result<> eye_like(const Call& call);
Result<> range(const Call& call);
// indexing_reference.cpp
Result<> gather_elements(const Call& call);
Result<> gather_nd(const Call& call);
Result<> scatter_elements(const Call& call);  // and Scatter
Result<> scatter_nd(const Call& call);
Result<> one_hot(const Call& call);
Result<> view(const Call& call);  // Reshape and the like: the same bytes

}  // namespace opsplit::operators::reference
