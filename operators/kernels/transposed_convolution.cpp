#include "operators/kernels/transposed_convolution.hpp"

#include <algorithm>
#include <utility>

#include "operators/kernels/index_space.hpp"
#include "operators/kernels/kernels.hpp"
#include "operators/kernels/onednn.hpp"
#include "operators/kernels/primitive_kernel.hpp"
#include "operators/kernels/sequence.hpp"

namespace opsplit::operators {
namespace {

constexpr std::size_t weights_input = 1;
constexpr std::size_t bias_input = 2;

bool has_bias(const KernelSpec& spec) {
  return spec.node->inputs.size() > bias_input && spec.node->inputs[bias_input] != graph::no_value;
}

Result<Convolution> read(const KernelSpec& spec) {
  return read_transposed_convolution(
      *spec.node, spec.inputs[0].type, spec.inputs[weights_input].type,
      has_bias(spec) ? &spec.inputs[bias_input].type : nullptr, spec.outputs[0].type);
}

// The weights as oneDNN sees them, with the output's channels first (behind the groups).
struct WeightsAsTheyLie {
  onednn::Dims dims, strides;
};
WeightsAsTheyLie weights_of(const Shape& weights, std::int64_t groups) {
  onednn::Dims dims = onednn::dims_of(weights);
  const Coordinates own = strides_of(weights);
  onednn::Dims strides(own.begin(), own.begin() + static_cast<std::ptrdiff_t>(dims.size()));
  dims[0] /= groups;
  std::swap(dims[0], dims[1]);
  std::swap(strides[0], strides[1]);
  if (groups > 1) {
    strides.insert(strides.begin(), dims[1] * own[0]);
    dims.insert(dims.begin(), groups);
  }
  return {dims, strides};
}

Result<onednn::Operation> operation_of(const KernelSpec& spec, const Convolution& convolution,
                                       Layout src, Layout dst, const onednn::PostOps& post_ops) {
  const Operand& weights = spec.inputs[weights_input];
  if (weights.constant == nullptr)
    return fail(ErrorCode::invalid_input, "weights that arrive are not packed");
  const auto dims = weights_of(weights.type.shape, convolution.groups).dims;
  const Shape& y = spec.outputs[0].type.shape;
  std::optional<onednn::Desc> bias;
  if (has_bias(spec)) bias = onednn::plain_desc({y[1]});
  return onednn::deconvolution(onednn::desc_of(spec.inputs[0].type.shape, src),
                               onednn::any_desc(dims), bias, onednn::desc_of(y, dst),
                               convolution.window, post_ops);
}

// Do the windows lie side by side, so that each output has one input?
bool is_tiling(const Convolution& convolution) {
  const Window& window = convolution.window;
  const auto all = [](const std::vector<std::int64_t>& values, std::int64_t value) {
    return std::all_of(values.begin(), values.end(), [&](auto each) { return each == value; });
  };
  return convolution.groups == 1 && window.axes() == 2 && window.kernel == window.strides &&
         all(window.dilations, 1) && all(window.pads_begin, 0) && all(window.pads_end, 0);
}

bool only_activations(const KernelSpec& spec) {
  return std::all_of(spec.post_ops.begin(), spec.post_ops.end(),
                     [](const PostOp& op) { return op.kind == PostOp::Kind::activation; });
}

// A row of pixels gives `height` rows of the output, each a product of matrices: pixels x channels
// times channels x (width x output channels), which in nhwc is how the row lies.
Result<std::unique_ptr<Kernel>> make_tiling(const KernelSpec& spec,
                                            const KernelResources& resources) {
  const Shape& x = spec.inputs[0].type.shape;
  const Shape& w = spec.inputs[weights_input].type.shape;
  const std::int64_t height = w[2];
  const std::int64_t row = w[3] * w[1];
  OPSPLIT_TRY(const auto post_ops, onednn::post_ops_of(spec, 4));
  std::optional<onednn::Desc> bias;
  if (has_bias(spec)) bias = onednn::plain_desc({1, 1, 1, row});
  OPSPLIT_TRY(auto operation,
              onednn::matmul(onednn::plain_desc({x[0] * x[2], 1, x[3], x[1]}),
                             onednn::plain_desc({1, height, x[1], row}), bias,
                             onednn::plain_desc({x[0] * x[2], height, x[3], row}), post_ops));
  OPSPLIT_TRY(auto kernel, make_primitive_kernel(std::move(operation), post_ops, resources));
  const onednn::Dims order{height, x[1], w[3], w[1]};
  const onednn::Desc as_it_lies =
      onednn::strided_desc(order, {w[3], w[1] * height * w[3], 1, height * w[3]});
  OPSPLIT_TRY(const std::byte* data,
              pack_constant(*spec.inputs[weights_input].constant, as_it_lies,
                            onednn::plain_desc(order), "transposed convolution", resources));
  OPSPLIT_CHECK(kernel->bind_constant(DNNL_ARG_WEIGHTS, kernel->operation().weights, data));
  if (bias) {
    const auto given = spec.inputs[bias_input].constant->as<float>();
    auto repeated = std::make_shared<AlignedMemory>(static_cast<std::size_t>(row) * sizeof(float));
    auto* out = reinterpret_cast<float*>(repeated->data());
    for (std::int64_t i = 0; i < w[3]; ++i) out = std::copy(given.begin(), given.end(), out);
    OPSPLIT_CHECK(kernel->bind_constant(DNNL_ARG_BIAS, *bias, repeated->data(), repeated));
  }
  return kernel;
}

bool takes_tiling(const KernelSpec& spec, const Convolution& convolution) {
  return is_tiling(convolution) && spec.inputs[weights_input].constant != nullptr &&
         (!has_bias(spec) || spec.inputs[bias_input].constant != nullptr);
}

}  // namespace

ConvolutionLayouts transposed_convolution_layouts(const KernelSpec& spec,
                                                  std::optional<Layout> preferred) {
  const auto convolution = read(spec);
  if (!convolution || spec.inputs[0].type.shape.rank() != 4) return {};
  // Many times as fast as a deconvolution in any layout: worth a conversion.
  if (takes_tiling(spec, *convolution)) return {Layout::nhwc, Layout::nhwc};
  const Layout layout = preferred.value_or(Layout::nhwc);
  const auto operation = operation_of(spec, *convolution, layout, layout, {});
  if (!operation || onednn::is_slow(*operation)) return {};
  return {layout, layout};
}

Result<std::unique_ptr<Kernel>> make_transposed_convolution(const KernelSpec& spec,
                                                            const KernelResources& resources) {
  OPSPLIT_TRY(const Convolution convolution, read(spec));
  const Operand& x = spec.inputs[0];
  const Operand& y = spec.outputs[0];
  const Operand& weights = spec.inputs[weights_input];
  const KernelSpec plain = without_post_ops(spec);
  if (x.layout == Layout::nhwc && y.layout == Layout::nhwc && takes_tiling(spec, convolution)) {
    if (only_activations(spec)) return make_tiling(spec, resources);
    OPSPLIT_TRY(auto kernel, make_tiling(plain, resources));
    return with_separate_post_ops(std::move(kernel), spec, resources);
  }
  OPSPLIT_TRY(const auto post_ops, onednn::post_ops_of(spec, y.type.shape.rank()));
  auto operation = operation_of(spec, convolution, x.layout, y.layout, post_ops);
  if ((!operation || onednn::is_slow(*operation)) && !spec.post_ops.empty()) {
    OPSPLIT_TRY(auto kernel, make_transposed_convolution(plain, resources));
    return with_separate_post_ops(std::move(kernel), spec, resources);
  }
  if (!operation) return make_reference(spec, resources);
  const onednn::Desc packed = operation->weights;
  OPSPLIT_TRY(auto kernel, make_primitive_kernel(std::move(*operation), post_ops, resources));
  const auto [dims, strides] = weights_of(weights.type.shape, convolution.groups);
  OPSPLIT_TRY(const std::byte* data,
              pack_constant(*weights.constant, onednn::strided_desc(dims, strides), packed,
                            "transposed convolution", resources));
  OPSPLIT_CHECK(kernel->bind_constant(DNNL_ARG_WEIGHTS, packed, data));
  if (has_bias(spec))
    OPSPLIT_CHECK(kernel->bind_input(DNNL_ARG_BIAS, kernel->operation().bias, bias_input));
  return kernel;
}

}  // namespace opsplit::operators
