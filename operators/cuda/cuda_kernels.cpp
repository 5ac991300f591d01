#include "operators/cuda/cuda_kernels.hpp"

#include <algorithm>
#include <array>

namespace opsplit::operators::cuda {
namespace {

constexpr std::array kinds{
    CudaKernelKind{"Conv", make_convolution, true},
    CudaKernelKind{"Gemm", make_gemm, true},
    CudaKernelKind{"MatMul", make_matmul, true},
    CudaKernelKind{"MaxPool", make_pool, false},
    CudaKernelKind{"AveragePool", make_pool, false},
    CudaKernelKind{"GlobalMaxPool", make_global_pool, false},
    CudaKernelKind{"GlobalAveragePool", make_global_pool, false},
    CudaKernelKind{"BatchNormalization", make_batch_normalization, false},
    CudaKernelKind{"Softmax", make_softmax, false},
    CudaKernelKind{"Add", make_pointwise, true},
    CudaKernelKind{"Sub", make_pointwise, true},
    CudaKernelKind{"Mul", make_pointwise, true},
    CudaKernelKind{"Div", make_pointwise, true},
    CudaKernelKind{"Sum", make_pointwise, true},
    CudaKernelKind{"Max", make_pointwise, true},
    CudaKernelKind{"Min", make_pointwise, true},
    CudaKernelKind{"Relu", make_pointwise, true},
    CudaKernelKind{"LeakyRelu", make_pointwise, true},
    CudaKernelKind{"Clip", make_pointwise, true},
    CudaKernelKind{"Sigmoid", make_pointwise, true},
    CudaKernelKind{"HardSigmoid", make_pointwise, true},
    CudaKernelKind{"HardSwish", make_pointwise, true},
    CudaKernelKind{"Tanh", make_pointwise, true},
    CudaKernelKind{"Elu", make_pointwise, true},
    CudaKernelKind{"Exp", make_pointwise, true},
    CudaKernelKind{"Log", make_pointwise, true},
    CudaKernelKind{"Erf", make_pointwise, true},
    CudaKernelKind{"Sqrt", make_pointwise, true},
    CudaKernelKind{"Abs", make_pointwise, true},
    CudaKernelKind{"Neg", make_pointwise, true},
    CudaKernelKind{"Cast", make_cast, false},
    CudaKernelKind{"Concat", make_concat, false},
    CudaKernelKind{"Transpose", make_transpose, false},
    CudaKernelKind{"Pad", make_pad, false},
};

bool is_empty(const Operand& operand) {
  return operand.present && operand.type.shape.elements() == 0;
}

class NothingToDo final : public CudaKernel {
  Result<> launch(std::span<const DeviceView>, std::span<const MutableDeviceView>, std::byte*,
                  Stream) override {
    return {};
  }
};

Result<std::unique_ptr<CudaKernel>> make(const CudaKernelKind& kind, const KernelSpec& spec,
                                         Gpu& gpu) {
  for (const auto* operands : {&spec.inputs, &spec.outputs})
    for (const Operand& operand : *operands)
      if (operand.present && operand.layout != Layout::row_major)
        return fail(ErrorCode::unsupported, "a tensor in layout {}: on a GPU all are row-major",
                    to_string(operand.layout));
  if (std::ranges::all_of(
          spec.outputs, [](const Operand& output) { return !output.present || is_empty(output); }))
    return std::make_unique<NothingToDo>();
  // ONNX may want zeros of it, or a bias. Only the movements have that of themselves.
  if (kind.make != make_concat && kind.make != make_pad &&
      std::ranges::any_of(spec.inputs, is_empty))
    return fail(ErrorCode::unsupported, "{} of an empty tensor", spec.node->op_type);
  return kind.make(spec, gpu);
}

}  // namespace

std::vector<std::string> cuda_kernel_op_types() {
  std::vector<std::string> types;
  for (const CudaKernelKind& kind : kinds) types.emplace_back(kind.op_type);
  return types;
}

const CudaKernelKind* find_cuda_kernel(std::string_view op_type) {
  const auto* found = std::ranges::find(kinds, op_type, &CudaKernelKind::op_type);
  return found == kinds.end() ? nullptr : found;
}

Result<std::unique_ptr<CudaKernel>> make_cuda_kernel(const KernelSpec& spec, Gpu& gpu) {
  const graph::Node& node = *spec.node;
  const CudaKernelKind* kind = find_cuda_kernel(node.op_type);
  if (kind == nullptr)
    return fail(ErrorCode::unsupported, "node {}: operation {} has no kernel on a GPU", node.name,
                graph::named_op_type(node));
  auto kernel = make(*kind, spec, gpu);
  if (!kernel) return within("node " + node.name, kernel.error());
  return kernel;
}

Result<Element> element_of(const KernelSpec& spec, std::span<const Operand* const> operands) {
  const DType dtype = operands[0]->type.dtype;
  for (const Operand* operand : operands)
    if (operand->type.dtype != dtype)
      return fail(ErrorCode::unsupported, "{} of {} and {}", spec.node->op_type, to_string(dtype),
                  to_string(operand->type.dtype));
  if (dtype == float32) return Element::float32;
  if (dtype == float16) return Element::float16;
  return fail(ErrorCode::unsupported, "{} of {}: a GPU computes float32 and float16",
              spec.node->op_type, to_string(dtype));
}

TensorType as_float32(const TensorType& type) { return {float32, type.shape}; }

}  // namespace opsplit::operators::cuda
