// Conv: what of it cuDNN computes, and what is done before and after.
#include "operators/kernels/convolution.hpp"

#include <algorithm>
#include <array>

#include "operators/cuda/cuda_kernels.hpp"
#include "operators/cuda/pointwise_pass.hpp"

namespace opsplit::operators::cuda {
namespace {

constexpr std::size_t bias_input = 2;
constexpr std::uint64_t alignment = 256;

bool has_bias(const KernelSpec& spec) {
  return spec.node->inputs.size() > bias_input && spec.inputs[bias_input].present;
}

// cuDNN pads alike on both sides. Where that does not give the output, x is padded before, and this
// becomes a convolution without padding.
std::optional<Pad> pad_apart(ConvolutionCall& call, const Window& window) {
  bool alike = true;
  for (std::size_t i = 0; i < window.axes(); ++i) {
    const std::int64_t reached = call.x[i + 2] + 2 * window.pads_begin[i] - window.extent(i);
    alike = alike && reached >= 0 && reached / window.strides[i] + 1 == call.y[i + 2];
  }
  if (alike) {
    call.pads = window.pads_begin;
    return std::nullopt;
  }
  Pad pad{.unit = bytes_of(call.element), .rank = static_cast<std::int32_t>(call.x.rank())};
  std::copy(call.x.begin(), call.x.end(), pad.x_dims);
  for (std::size_t i = 0; i < window.axes(); ++i) {
    pad.before[i + 2] = window.pads_begin[i];
    // Behind it, less than nothing is left of what no window reaches.
    call.x[i + 2] += window.pads_begin[i] + std::max<std::int64_t>(window.pads_end[i], 0);
  }
  std::copy(call.x.begin(), call.x.end(), pad.y_dims);
  call.pads.assign(window.axes(), 0);
  return pad;
}

// cuDNN knows images and volumes: a row is an image of height 1.
void as_image(ConvolutionCall& call) {
  if (call.x.rank() != 3) return;
  for (Shape* shape : {&call.x, &call.w, &call.y})
    *shape = Shape{(*shape)[0], (*shape)[1], 1, (*shape)[2]};
  call.pads.insert(call.pads.begin(), 0);
  call.strides.insert(call.strides.begin(), 1);
  call.dilations.insert(call.dilations.begin(), 1);
}

class ConvolutionKernel final : public CudaKernel {
 public:
  ConvolutionKernel(Gpu& gpu, PointwisePass epilogue) : gpu_(gpu), epilogue_(std::move(epilogue)) {}

  // What cuDNN is to be asked for, and what is left for the epilogue.
  static Result<std::unique_ptr<ConvolutionKernel>> make(const KernelSpec& spec, Gpu& gpu,
                                                         ConvolutionCall call, bool fuse) {
    const TensorType& y = spec.outputs[0].type;
    OPSPLIT_TRY(PointwisePass epilogue,
                PointwisePass::over(y.shape, call.element, PointwisePass::in_place, y.shape));
    auto ops = std::span(spec.post_ops);
    std::size_t addend = 0;
    call.has_bias = fuse && has_bias(spec);
    if (fuse && !ops.empty() && ops[0].kind == PostOp::Kind::binary &&
        ops[0].binary == BinaryFunction::add && spec.inputs[ops[0].operand].type == y) {
      call.has_addend = true;
      addend = ops[0].operand;
      ops = ops.subspan(1);
    }
    if (fuse && !ops.empty() && ops[0].kind == PostOp::Kind::activation &&
        ops[0].activation.function == ActivationFunction::relu) {
      call.relu = true;
      ops = ops.subspan(1);
    }
    if (has_bias(spec) && !call.has_bias) OPSPLIT_CHECK(epilogue.add_by_channel(bias_input));
    for (const PostOp& op : ops) OPSPLIT_CHECK(epilogue.then(op, spec));
    epilogue.collapse();
    auto kernel = std::make_unique<ConvolutionKernel>(gpu, std::move(epilogue));
    kernel->has_bias_ = call.has_bias;
    if (call.has_addend) kernel->addend_ = addend;
    OPSPLIT_TRY(kernel->convolver_, gpu.convolver(call));
    return kernel;
  }

  Result<> pad_first(Pad pad, const Shape& padded) {
    OPSPLIT_TRY(pad.elements, padded.elements());
    pad_ = pad;
    padded_bytes_ =
        (static_cast<std::uint64_t>(pad.elements) * static_cast<std::uint64_t>(pad.unit) +
         alignment - 1) /
        alignment * alignment;
    return {};
  }

  [[nodiscard]] std::uint64_t workspace_bytes() const override {
    return padded_bytes_ + convolver_->workspace_bytes();
  }

  Result<> launch(std::span<const DeviceView> inputs, std::span<const MutableDeviceView> outputs,
                  std::byte* workspace, Stream stream) override {
    ConvolutionPointers pointers{.x = inputs[0].data, .w = inputs[1].data, .y = outputs[0].data};
    if (has_bias_) pointers.bias = inputs[bias_input].data;
    if (addend_) pointers.addend = inputs[*addend_].data;
    if (pad_) {
      Pad bound = *pad_;
      bound.x = inputs[0].data;
      bound.y = workspace;
      OPSPLIT_CHECK(gpu_.enqueue(bound, stream));
      pointers.x = workspace;
    }
    OPSPLIT_CHECK(convolver_->launch(pointers, workspace + padded_bytes_, stream));
    return epilogue_.is_empty() ? Result<>()
                                : epilogue_.launch(gpu_, inputs, outputs[0].data, stream);
  }

 private:
  Gpu& gpu_;
  PointwisePass epilogue_;
  std::unique_ptr<Convolver> convolver_;
  bool has_bias_ = false;
  std::optional<std::size_t> addend_;
  std::optional<Pad> pad_;  // into the workspace
  std::uint64_t padded_bytes_ = 0;
};

}  // namespace

Result<std::unique_ptr<CudaKernel>> make_convolution(const KernelSpec& spec, Gpu& gpu) {
  std::vector<const Operand*> operands{&spec.outputs[0]};
  for (const Operand& input : spec.inputs)
    if (input.present) operands.push_back(&input);
  ConvolutionCall call;
  OPSPLIT_TRY(call.element, element_of(spec, operands));
  const TensorType x = as_float32(spec.inputs[0].type);
  const TensorType w = as_float32(spec.inputs[1].type);
  const TensorType y = as_float32(spec.outputs[0].type);
  const TensorType bias = has_bias(spec) ? as_float32(spec.inputs[bias_input].type) : TensorType();
  OPSPLIT_TRY(const Convolution convolution,
              read_convolution(*spec.node, x, w, has_bias(spec) ? &bias : nullptr, y));
  if (convolution.window.axes() > window_axes)
    return fail(ErrorCode::unsupported, "a convolution of {}", to_string(x));
  call.x = x.shape;
  call.w = w.shape;
  call.y = y.shape;
  call.strides = convolution.window.strides;
  call.dilations = convolution.window.dilations;
  call.groups = convolution.groups;
  const auto pad = pad_apart(call, convolution.window);
  const Shape padded = call.x;
  as_image(call);
  auto kernel = ConvolutionKernel::make(spec, gpu, call, true);
  if (!kernel && kernel.error().code == ErrorCode::unsupported)
    kernel = ConvolutionKernel::make(spec, gpu, call, false);
  if (!kernel) return tl::unexpected(kernel.error());
  if (pad) OPSPLIT_CHECK((*kernel)->pad_first(*pad, padded));
  return std::move(*kernel);
}

}  // namespace opsplit::operators::cuda
