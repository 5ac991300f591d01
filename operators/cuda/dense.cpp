// Gemm and MatMul: what of them cuBLAS computes, and what is done after.
#include "operators/kernels/dense.hpp"

#include <algorithm>
#include <array>

#include "operators/cuda/cuda_kernels.hpp"
#include "operators/cuda/pointwise_pass.hpp"
#include "operators/kernels/index_space.hpp"

namespace opsplit::operators::cuda {
namespace {

// One product for each of the outer batches, then one pass over all of y.
class ProductKernel final : public CudaKernel {
 public:
  // Where in a, b and y a product begins, in elements.
  struct Offsets {
    std::int64_t a = 0, b = 0, y = 0;
  };

  ProductKernel(Gpu& gpu, const MatrixProduct& product, std::vector<Offsets> batches,
                PointwisePass epilogue)
      : gpu_(gpu), product_(product), batches_(std::move(batches)), epilogue_(std::move(epilogue)) {
    epilogue_.collapse();
  }

  [[nodiscard]] std::uint64_t workspace_bytes() const override {
    return gpu_.product_workspace_bytes();
  }

  Result<> launch(std::span<const DeviceView> inputs, std::span<const MutableDeviceView> outputs,
                  std::byte* workspace, Stream stream) override {
    const auto at = [&](auto* data, std::int64_t offset) {
      return data + offset * bytes_of(product_.element);
    };
    const auto* a = static_cast<const std::byte*>(inputs[0].data);
    const auto* b = static_cast<const std::byte*>(inputs[1].data);
    auto* y = static_cast<std::byte*>(outputs[0].data);
    for (const Offsets& offsets : batches_)
      OPSPLIT_CHECK(gpu_.multiply(product_, at(a, offsets.a), at(b, offsets.b), at(y, offsets.y),
                                  workspace, stream));
    return epilogue_.is_empty() ? Result<>()
                                : epilogue_.launch(gpu_, inputs, outputs[0].data, stream);
  }

 private:
  Gpu& gpu_;
  const MatrixProduct product_;
  const std::vector<Offsets> batches_;
  PointwisePass epilogue_;
};

Result<Element> element_of_all(const KernelSpec& spec) {
  std::vector<const Operand*> operands{&spec.outputs[0]};
  for (const Operand& input : spec.inputs)
    if (input.present) operands.push_back(&input);
  return element_of(spec, operands);
}

// A batch axis, and how far a and b move along it.
struct BatchAxis {
  std::int64_t size, a, b, y;
};

// From the outermost to the innermost; adjacent ones that all three walk as one are one.
std::vector<BatchAxis> batch_axes(const MatMul& shapes) {
  const Coordinates a = broadcast_strides(shapes.a, shapes.y);
  const Coordinates b = broadcast_strides(shapes.b, shapes.y);
  const Coordinates y = strides_of(shapes.y);
  std::vector<BatchAxis> axes;
  for (std::size_t axis = 0; axis + 2 < shapes.y.rank(); ++axis) {
    const BatchAxis next{shapes.y[axis], a[axis], b[axis], y[axis]};
    if (next.size == 1) continue;
    if (!axes.empty() && axes.back().a == next.a * next.size &&
        axes.back().b == next.b * next.size) {
      axes.back() = {axes.back().size * next.size, next.a, next.b, next.y};
      continue;
    }
    axes.push_back(next);
  }
  return axes;
}

}  // namespace

Result<std::unique_ptr<CudaKernel>> make_gemm(const KernelSpec& spec, Gpu& gpu) {
  OPSPLIT_TRY(const Element element, element_of_all(spec));
  const bool has_c = spec.node->inputs.size() > 2 && spec.inputs[2].present;
  const TensorType c = has_c ? as_float32(spec.inputs[2].type) : TensorType();
  OPSPLIT_TRY(const Gemm gemm, read_gemm(*spec.node, as_float32(spec.inputs[0].type),
                                         as_float32(spec.inputs[1].type), has_c ? &c : nullptr,
                                         as_float32(spec.outputs[0].type)));
  const MatrixProduct product{.element = element,
                              .rows = gemm.rows,
                              .inner = gemm.inner,
                              .columns = gemm.columns,
                              .transpose_a = gemm.transpose_a,
                              .transpose_b = gemm.transpose_b,
                              .alpha = gemm.alpha};
  const Shape& y = spec.outputs[0].type.shape;
  OPSPLIT_TRY(PointwisePass epilogue, PointwisePass::over(y, element, PointwisePass::in_place, y));
  if (has_c) OPSPLIT_CHECK(epilogue.then(BinaryFunction::add, 2, c.shape, gemm.beta));
  for (const PostOp& op : spec.post_ops) OPSPLIT_CHECK(epilogue.then(op, spec));
  return std::make_unique<ProductKernel>(gpu, product, std::vector{ProductKernel::Offsets{}},
                                         std::move(epilogue));
}

Result<std::unique_ptr<CudaKernel>> make_matmul(const KernelSpec& spec, Gpu& gpu) {
  OPSPLIT_TRY(const Element element, element_of_all(spec));
  OPSPLIT_TRY(const MatMul shapes,
              read_matmul(as_float32(spec.inputs[0].type), as_float32(spec.inputs[1].type),
                          as_float32(spec.outputs[0].type)));
  const std::size_t rank = shapes.y.rank();
  MatrixProduct product{.element = element,
                        .rows = shapes.y[rank - 2],
                        .inner = shapes.a[rank - 1],
                        .columns = shapes.y[rank - 1]};
  std::vector<BatchAxis> axes = batch_axes(shapes);
  if (!axes.empty()) {
    const BatchAxis innermost = axes.back();
    axes.pop_back();
    if (innermost.b == 0 && innermost.a == product.rows * product.inner) {
      product.rows *= innermost.size;  // the same b for all: the batch is rows of one matrix
    } else {
      product.batch = innermost.size;
      product.a_stride = innermost.a;
      product.b_stride = innermost.b;
      product.y_stride = innermost.y;
    }
  }
  std::vector<ProductKernel::Offsets> batches{{}};
  for (const BatchAxis& axis : axes) {
    std::vector<ProductKernel::Offsets> finer;
    for (const ProductKernel::Offsets& at : batches)
      for (std::int64_t i = 0; i < axis.size; ++i)
        finer.push_back({at.a + i * axis.a, at.b + i * axis.b, at.y + i * axis.y});
    batches = std::move(finer);
  }
  const Shape& y = spec.outputs[0].type.shape;
  OPSPLIT_TRY(PointwisePass epilogue, PointwisePass::over(y, element, PointwisePass::in_place, y));
  for (const PostOp& op : spec.post_ops) OPSPLIT_CHECK(epilogue.then(op, spec));
  return std::make_unique<ProductKernel>(gpu, product, std::move(batches), std::move(epilogue));
}

}  // namespace opsplit::operators::cuda
