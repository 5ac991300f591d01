// Activations, arithmetic, Cast, BatchNormalization.
#include <array>
#include <limits>

#include "operators/cuda/cuda_kernels.hpp"
#include "operators/cuda/pointwise_pass.hpp"

namespace opsplit::operators::cuda {
namespace {

class PointwiseKernel final : public CudaKernel {
 public:
  PointwiseKernel(Gpu& gpu, PointwisePass pass) : gpu_(gpu), pass_(std::move(pass)) {}

  Result<> launch(std::span<const DeviceView> inputs, std::span<const MutableDeviceView> outputs,
                  std::byte*, Stream stream) override {
    return pass_.launch(gpu_, inputs, outputs[0].data, stream);
  }

 private:
  Gpu& gpu_;
  PointwisePass pass_;
};

std::optional<Activation> read_activation(const KernelSpec& spec) {
  std::vector<const graph::Constant*> constants;
  for (std::size_t i = 0; i < spec.node->inputs.size(); ++i)
    constants.push_back(spec.inputs[i].constant);
  return activation_of(*spec.node, spec.opset, constants);
}

// Bounds that are no float32 constants: operands like any other.
Result<> clip_to_operands(PointwisePass& pass, const KernelSpec& spec) {
  constexpr std::array functions{BinaryFunction::maximum, BinaryFunction::minimum};
  for (std::size_t i = 1; i < 3 && i < spec.node->inputs.size(); ++i)
    if (spec.inputs[i].present)
      OPSPLIT_CHECK(pass.then(functions[i - 1], i, spec.inputs[i].type.shape));
  return {};
}

// What the node computes of more than one tensor.
Result<> add_operands(PointwisePass& pass, const KernelSpec& spec) {
  if (spec.node->op_type == "Clip") return clip_to_operands(pass, spec);
  const auto function = binary_function_of(spec.node->op_type);
  if (!function) return fail(ErrorCode::unsupported, "{} with such parameters", spec.node->op_type);
  for (std::size_t i = 1; i < spec.node->inputs.size(); ++i)
    OPSPLIT_CHECK(pass.then(*function, i, spec.inputs[i].type.shape));
  return {};
}

}  // namespace

Result<std::unique_ptr<CudaKernel>> make_pointwise(const KernelSpec& spec, Gpu& gpu) {
  std::vector<const Operand*> operands{&spec.outputs[0]};
  for (const Operand& input : spec.inputs)
    if (input.present) operands.push_back(&input);
  OPSPLIT_TRY(const Element element, element_of(spec, operands));
  const Shape& y = spec.outputs[0].type.shape;
  const auto activation = read_activation(spec);
  // Arithmetic with one number may have the number first.
  const bool number_first =
      activation && binary_function_of(spec.node->op_type) && spec.inputs[0].constant != nullptr;
  const std::size_t first = number_first ? 1 : 0;
  OPSPLIT_TRY(PointwisePass pass,
              PointwisePass::over(y, element, first, spec.inputs[first].type.shape));
  if (activation)
    OPSPLIT_CHECK(pass.then(*activation));
  else
    OPSPLIT_CHECK(add_operands(pass, spec));
  for (const PostOp& op : spec.post_ops) OPSPLIT_CHECK(pass.then(op, spec));
  pass.collapse();
  return std::make_unique<PointwiseKernel>(gpu, std::move(pass));
}

Result<std::unique_ptr<CudaKernel>> make_cast(const KernelSpec& spec, Gpu& gpu) {
  OPSPLIT_TRY(const Element from, element_of(spec, std::array{&spec.inputs[0]}));
  OPSPLIT_TRY(const Element to, element_of(spec, std::array{&spec.outputs[0]}));
  if (from == to) return make_copy(spec.inputs[0].type, gpu);
  OPSPLIT_TRY(const std::int64_t elements, spec.outputs[0].type.shape.elements());
  return one_work(gpu, Cast{.from = from, .to = to, .elements = elements});
}

Result<std::unique_ptr<CudaKernel>> make_batch_normalization(const KernelSpec& spec, Gpu& gpu) {
  const Operand& x = spec.inputs[0];
  for (std::size_t i = 1; i < spec.outputs.size(); ++i)
    if (spec.outputs[i].present)
      return fail(ErrorCode::unsupported, "BatchNormalization has one output, except in training");
  if (spec.node->integer("training_mode", 0) != 0)
    return fail(ErrorCode::unsupported, "BatchNormalization in training mode");
  const Shape& shape = x.type.shape;
  if (shape.rank() < 2 || x.type != spec.outputs[0].type || spec.inputs.size() < 5)
    return fail(ErrorCode::invalid_input, "BatchNormalization of {}", to_string(x.type));
  for (std::size_t i = 1; i < 5; ++i)
    if (spec.inputs[i].type.shape != Shape{shape[1]})
      return fail(ErrorCode::invalid_input, "BatchNormalization of {} with a parameter {}",
                  to_string(x.type), to_string(spec.inputs[i].type));
  Normalization work{.channels = shape[1], .epsilon = spec.node->real("epsilon", 1e-5F)};
  OPSPLIT_TRY(work.element, element_of(spec, std::array{&x, &spec.outputs[0]}));
  OPSPLIT_TRY(work.parameter, element_of(spec, std::array{&spec.inputs[1], &spec.inputs[2],
                                                          &spec.inputs[3], &spec.inputs[4]}));
  if (work.element == Element::float32 && work.parameter != Element::float32)
    return fail(ErrorCode::unsupported, "BatchNormalization of {} with parameters of {}",
                to_string(x.type.dtype), to_string(spec.inputs[1].type.dtype));
  OPSPLIT_TRY(work.elements, shape.elements());
  for (std::size_t axis = 2; axis < shape.rank(); ++axis) work.inner *= shape[axis];
  return one_work(gpu, work, [](Normalization& bound, auto inputs, auto outputs) {
    bound.x = inputs[0].data;
    bound.scale = inputs[1].data;
    bound.shift = inputs[2].data;
    bound.mean = inputs[3].data;
    bound.variance = inputs[4].data;
    bound.y = outputs[0].data;
  });
}

}  // namespace opsplit::operators::cuda
