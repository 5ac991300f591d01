// Gemm and MatMul.
#include "operators/kernels/dense.hpp"

#include <algorithm>
#include <utility>

#include "operators/kernels/kernels.hpp"
#include "operators/kernels/onednn.hpp"
#include "operators/kernels/primitive_kernel.hpp"
#include "operators/kernels/sequence.hpp"

namespace opsplit::operators {
namespace {

constexpr std::size_t right_input = 1;
constexpr std::size_t addend_input = 2;

// A matrix of rows x columns as it lies in memory, or transposed.
onednn::Desc matrix(std::int64_t rows, std::int64_t columns, bool transposed) {
  return transposed ? onednn::strided_desc({rows, columns}, {1, std::max<std::int64_t>(rows, 1)})
                    : onednn::plain_desc({rows, columns});
}

// Binds a primitive's weights: packed if they are constant, else as they come.
Result<> bind_weights(PrimitiveKernel& kernel, const graph::Constant* constant,
                      const onednn::Desc& plain, std::string_view purpose,
                      const KernelResources& resources) {
  const onednn::Desc packed = kernel.operation().weights;
  if (constant == nullptr) return kernel.bind_input(DNNL_ARG_WEIGHTS, plain, right_input);
  OPSPLIT_TRY(const std::byte* data, pack_constant(*constant, plain, packed, purpose, resources));
  return kernel.bind_constant(DNNL_ARG_WEIGHTS, packed, data);
}

Result<std::unique_ptr<Kernel>> slowly(const KernelSpec& spec, const KernelResources& resources) {
  OPSPLIT_TRY(auto reference, make_reference(without_post_ops(spec), resources));
  return with_separate_post_ops(std::move(reference), spec, resources);
}

// The usual dense layer: constant weights, a bias per column or none.
Result<std::unique_ptr<Kernel>> make_inner_product(const KernelSpec& spec, const Gemm& gemm,
                                                   bool has_bias,
                                                   const KernelResources& resources) {
  std::optional<onednn::Desc> bias;
  if (has_bias) bias = onednn::plain_desc({gemm.columns});
  OPSPLIT_TRY(const auto post_ops, onednn::post_ops_of(spec, 2));
  OPSPLIT_TRY(auto operation,
              onednn::inner_product(onednn::plain_desc({gemm.rows, gemm.inner}),
                                    onednn::any_desc({gemm.columns, gemm.inner}), bias,
                                    onednn::plain_desc({gemm.rows, gemm.columns}), post_ops));
  OPSPLIT_TRY(auto kernel, make_primitive_kernel(std::move(operation), post_ops, resources));
  const onednn::Desc plain = matrix(gemm.columns, gemm.inner, !gemm.transpose_b);
  OPSPLIT_CHECK(
      bind_weights(*kernel, spec.inputs[right_input].constant, plain, "inner product", resources));
  if (bias) OPSPLIT_CHECK(kernel->bind_input(DNNL_ARG_BIAS, *bias, addend_input));
  return kernel;
}

}  // namespace

Result<std::unique_ptr<Kernel>> make_gemm(const KernelSpec& spec,
                                          const KernelResources& resources) {
  if (spec.inputs[0].type.dtype != float32) return slowly(spec, resources);
  const Operand* c =
      spec.node->inputs.size() > addend_input && spec.node->inputs[addend_input] != graph::no_value
          ? &spec.inputs[addend_input]
          : nullptr;
  OPSPLIT_TRY(const Gemm gemm,
              read_gemm(*spec.node, spec.inputs[0].type, spec.inputs[right_input].type,
                        c ? &c->type : nullptr, spec.outputs[0].type));
  const graph::Constant* weights = spec.inputs[right_input].constant;
  const Shape row{gemm.columns};
  const Shape one_row{1, gemm.columns};
  const bool bias = c && (c->type.shape == row || c->type.shape == one_row);
  if (weights && !gemm.transpose_a && gemm.alpha == 1 && (!c || (bias && gemm.beta == 1)))
    if (auto kernel = make_inner_product(spec, gemm, bias, resources)) return kernel;
  if (c && gemm.beta != 1) return slowly(spec, resources);

  KernelSpec product = spec;  // alpha and c become post-ops
  std::vector<PostOp> first;
  if (gemm.alpha != 1)
    first.push_back(post_op(Activation{ActivationFunction::linear, gemm.alpha, 0}));
  if (c) first.push_back(post_op(BinaryFunction::add, addend_input));
  product.post_ops.insert(product.post_ops.begin(), first.begin(), first.end());
  OPSPLIT_TRY(const auto post_ops, onednn::post_ops_of(product, 2));
  const onednn::Desc a = matrix(gemm.rows, gemm.inner, gemm.transpose_a);
  const onednn::Desc b = matrix(gemm.inner, gemm.columns, gemm.transpose_b);
  auto operation = onednn::matmul(a, weights ? onednn::any_desc({gemm.inner, gemm.columns}) : b, {},
                                  onednn::plain_desc({gemm.rows, gemm.columns}), post_ops);
  if (!operation) return slowly(spec, resources);
  OPSPLIT_TRY(auto kernel, make_primitive_kernel(std::move(*operation), post_ops, resources));
  OPSPLIT_CHECK(bind_weights(*kernel, weights, b, "matrix product", resources));
  return kernel;
}

Result<std::unique_ptr<Kernel>> make_matmul(const KernelSpec& spec,
                                            const KernelResources& resources) {
  if (spec.inputs[0].type.dtype != float32) return slowly(spec, resources);
  OPSPLIT_TRY(const MatMul shapes, read_matmul(spec.inputs[0].type, spec.inputs[right_input].type,
                                               spec.outputs[0].type));
  onednn::Dims a = onednn::dims_of(shapes.a);
  onednn::Dims b = onednn::dims_of(shapes.b);
  onednn::Dims y = onednn::dims_of(shapes.y);
  const std::size_t rank = y.size();
  // One right matrix for all batches: their rows are as good as one tall matrix.
  bool tall = rank > 2 && std::all_of(b.begin(), b.end() - 2, [](auto dim) { return dim == 1; }) &&
              std::equal(a.begin(), a.end() - 1, y.begin());
  for (const PostOp& op : spec.post_ops)
    tall = tall &&
           (op.kind == PostOp::Kind::activation || spec.inputs[op.operand].type.shape.rank() <= 1);
  if (tall) {
    std::int64_t rows = 1;
    for (std::size_t axis = 0; axis + 1 < rank; ++axis) rows *= y[axis];
    a = {rows, a.back()};
    b = {b[rank - 2], b[rank - 1]};
    y = {rows, y.back()};
  }
  // Where the output has lost dimensions to vectors, operands of its rank would be misaligned.
  const bool aligned = spec.outputs[0].type.shape.rank() == rank || spec.post_ops.empty();
  const graph::Constant* weights = spec.inputs[right_input].constant;
  const auto post_ops = onednn::post_ops_of(spec, y.size());
  if (!post_ops || !aligned) return slowly(spec, resources);
  auto operation =
      onednn::matmul(onednn::plain_desc(a), weights ? onednn::any_desc(b) : onednn::plain_desc(b),
                     {}, onednn::plain_desc(y), *post_ops);
  if (!operation) return slowly(spec, resources);
  OPSPLIT_TRY(auto kernel, make_primitive_kernel(std::move(*operation), *post_ops, resources));
  OPSPLIT_CHECK(bind_weights(*kernel, weights, onednn::plain_desc(b), "matrix product", resources));
  return kernel;
}

}  // namespace opsplit::operators
