// oneDNN, with what differs between 2.6 (Debian 12) and 3.x (Debian 13) hidden here, and its
// exceptions turned into errors. float32 only. Included by kernels only, never by their users.
#pragma once

#include <cstddef>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/tensor_type.hpp"
#include "operators/kernels/kernel_spec.hpp"
#include "operators/kernels/window.hpp"

namespace opsplit::operators::onednn {

using Desc = dnnl::memory::desc;
using Dims = dnnl::memory::dims;

const dnnl::engine& engine();
const dnnl::stream& stream();  // each thread has its own

// Library version and source revision, and the instruction set that it uses: what is packed by one
// build may be noise to another.
std::string build_name();
std::string library_version();  // "2.6.3"

// How a float32 tensor lies in memory. A scalar becomes one dimension of 1.
// Precondition: byte_size(type, layout) succeeds.
Desc desc_of(const Shape& shape, Layout layout);
Desc plain_desc(const Dims& dims);  // row-major
Desc strided_desc(const Dims& dims, const Dims& strides);
Desc any_desc(const Dims& dims);  // oneDNN chooses
Dims dims_of(const Shape& shape);
// An operand of a pointwise operation on tensors of `rank`: with leading dimensions of 1, as ONNX
// broadcasts. Precondition: its rank is no larger.
Desc operand_desc(const Operand& operand, std::size_t rank);

// The layout that a descriptor of rank 4 stands for, if it is one of ours.
std::optional<Layout> layout_of(const Desc& desc);

// The same string for the same memory format, and only for that: part of a packed weight's key.
std::string key_of(const Desc& desc);

// A primitive and what it takes. Descriptors of arguments that it has not are empty.
struct Operation {
  dnnl::primitive primitive;
  Desc src, weights, bias, dst, scratchpad;
  std::string implementation;  // oneDNN's name, "brgconv:avx512_core"
};

// oneDNN's own fallbacks, which take many times as long as any other implementation.
bool is_slow(const Operation& operation);

// The post-ops of a kernel, and the operands to bind.
struct PostOps {
  struct Operand {
    int argument = 0;
    Desc desc;
    std::size_t input = 0;
  };
  dnnl::post_ops functions;
  std::vector<Operand> operands;
};
// The output has `rank` dimensions.
Result<PostOps> post_ops_of(const KernelSpec& spec, std::size_t rank);

enum class PoolingAlgorithm { maximum, average_with_padding, average_without_padding };

Result<Operation> convolution(const Desc& src, const Desc& weights, const std::optional<Desc>& bias,
                              const Desc& dst, const Window& window, const PostOps& post_ops);
// `weights` has the output's channels before the input's, as a convolution's; the padding is cut off.
Result<Operation> deconvolution(const Desc& src, const Desc& weights,
                                const std::optional<Desc>& bias, const Desc& dst,
                                const Window& window, const PostOps& post_ops);
Result<Operation> pooling(PoolingAlgorithm algorithm, const Desc& src, const Desc& dst,
                          const Window& window);
Result<Operation> inner_product(const Desc& src, const Desc& weights,
                                const std::optional<Desc>& bias, const Desc& dst,
                                const PostOps& post_ops);
Result<Operation> matmul(const Desc& src, const Desc& weights, const std::optional<Desc>& bias,
                         const Desc& dst, const PostOps& post_ops);
Result<Operation> binary(BinaryFunction function, const Desc& a, const Desc& b, const Desc& dst,
                         const PostOps& post_ops);
Result<Operation> softmax(const Desc& src, int axis);
// Divides by (bias + alpha / size x the sum of squares over `size` channels) to the power of beta.
Result<Operation> local_response_normalization(const Desc& src, std::int64_t size, float alpha,
                                               float beta, float bias);
Result<Operation> reorder(const Desc& from, const Desc& to);

// The activation as eltwise functions of oneDNN, to be applied one after the other.
struct Eltwise {
  dnnl::algorithm algorithm;
  float alpha = 0;
  float beta = 0;
};
std::vector<Eltwise> eltwise_of(const Activation& activation);
Result<Operation> eltwise(const Eltwise& function, const Desc& desc);

// Runs a reorder now, outside any kernel: packing of weights.
Result<> reorder_now(const Desc& from, const std::byte* source, const Desc& to,
                     std::byte* destination);

}  // namespace opsplit::operators::onednn
