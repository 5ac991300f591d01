// MaxPool, AveragePool, GlobalMaxPool, GlobalAveragePool.
#include "operators/kernels/pooling.hpp"

#include <algorithm>
#include <array>

#include "operators/cuda/cuda_kernels.hpp"

namespace opsplit::operators::cuda {
namespace {

Reduction reduction_of(const graph::Node& node) {
  return node.op_type.ends_with("MaxPool") ? Reduction::maximum : Reduction::average;
}

Result<Element> element_of_pool(const KernelSpec& spec) {
  if (spec.outputs.size() > 1 && spec.outputs[1].present)
    return fail(ErrorCode::unsupported, "{}'s indices", spec.node->op_type);
  return element_of(spec, std::array{&spec.inputs[0], &spec.outputs[0]});
}

}  // namespace

Result<std::unique_ptr<CudaKernel>> make_pool(const KernelSpec& spec, Gpu& gpu) {
  const graph::Node& node = *spec.node;
  Pool work{.reduction = reduction_of(node),
            .count_padding = node.integer("count_include_pad", 0) != 0};
  OPSPLIT_TRY(work.element, element_of_pool(spec));
  const TensorType x = as_float32(spec.inputs[0].type);
  const TensorType y = as_float32(spec.outputs[0].type);
  OPSPLIT_TRY(const Window window, read_pool(node, x, y));
  if (window.axes() > window_axes)
    return fail(ErrorCode::unsupported, "{} of {}", node.op_type, to_string(x));
  const auto ends = padded_end(node, window, x.shape);
  for (auto* sizes : {work.in, work.out, work.kernel, work.strides, work.dilations, work.ends})
    std::fill(sizes, sizes + window_axes, 1);
  for (std::size_t i = 0; i < window.axes(); ++i) {
    const std::size_t axis = i + window_axes - window.axes();
    work.in[axis] = x.shape[i + 2];
    work.out[axis] = y.shape[i + 2];
    work.kernel[axis] = window.kernel[i];
    work.strides[axis] = window.strides[i];
    work.dilations[axis] = window.dilations[i];
    work.pads[axis] = window.pads_begin[i];
    work.ends[axis] = ends[i];
  }
  work.images = x.shape[0] * x.shape[1];
  return one_work(gpu, work);
}

Result<std::unique_ptr<CudaKernel>> make_global_pool(const KernelSpec& spec, Gpu& gpu) {
  RowReduction work{.reduction = reduction_of(*spec.node)};
  OPSPLIT_TRY(work.element, element_of_pool(spec));
  const TensorType x = as_float32(spec.inputs[0].type);
  OPSPLIT_TRY(const Window window, global_window(x, as_float32(spec.outputs[0].type)));
  work.rows = x.shape[0] * x.shape[1];
  work.size = 1;
  for (const std::int64_t size : window.kernel) work.size *= size;
  return one_work(gpu, work);
}

}  // namespace opsplit::operators::cuda
