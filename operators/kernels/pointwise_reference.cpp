#include <algorithm>
#include <cmath>

#include "operators/kernels/pointwise.hpp"
#include "operators/kernels/reference.hpp"

namespace opsplit::operators::reference {
namespace {

float apply(const Activation& activation, float x) {
  const auto [function, alpha, beta] = activation;
  const auto hard_sigmoid = [&] { return std::clamp(alpha * x + beta, 0.0F, 1.0F); };
  switch (function) {
    case ActivationFunction::relu:
      return x < 0 ? 0 : x;
    case ActivationFunction::leaky_relu:
      return x < 0 ? alpha * x : x;
    case ActivationFunction::clip:
      return std::min(std::max(x, alpha), beta);
    case ActivationFunction::sigmoid:
      return 1 / (1 + std::exp(-x));
    case ActivationFunction::hard_sigmoid:
      return hard_sigmoid();
    case ActivationFunction::hard_swish:
      return x * hard_sigmoid();
    case ActivationFunction::tanh:
      return std::tanh(x);
    case ActivationFunction::elu:
      return x < 0 ? alpha * std::expm1(x) : x;
    case ActivationFunction::exp:
      return std::exp(x);
    case ActivationFunction::log:
      return std::log(x);
    case ActivationFunction::erf:
      return std::erf(x);
    case ActivationFunction::sqrt:
      return std::sqrt(x);
    case ActivationFunction::abs:
      return std::abs(x);
    case ActivationFunction::linear:
      return alpha * x + beta;
  }
  return x;
}

}  // namespace

Result<> activation(const Call& call) {
  const TensorView& x = call.inputs[0];
  const MutableTensorView& y = call.outputs[0];
  if (x.type.dtype != float32) return elementwise_unary(call);
  if (x.type != y.type)
    return fail(ErrorCode::invalid_input, "{} of {} giving {}", call.node.op_type,
                to_string(x.type), to_string(y.type));
  // Parameters that are inputs (Clip's bounds) are constants here: they have arrived.
  std::vector<graph::Constant> values(call.inputs.size());
  std::vector<const graph::Constant*> constants(call.inputs.size(), nullptr);
  for (std::size_t i = 1; i < call.inputs.size(); ++i) {
    if (!call.has_input(i)) continue;
    OPSPLIT_TRY(const std::uint64_t bytes, byte_size(call.inputs[i].type));
    values[i] = {call.inputs[i].type, {call.inputs[i].data, bytes}, nullptr};
    constants[i] = &values[i];
  }
  const auto function = activation_of(call.node, call.opset, constants);
  if (!function)
    return fail(ErrorCode::invalid_input, "{} with such parameters", call.node.op_type);
  OPSPLIT_TRY(const std::int64_t elements, y.type.shape.elements());
  std::transform(x.as<float>(), x.as<float>() + elements, y.as<float>(),
                 [&](float value) { return apply(*function, value); });
  return {};
}

}  // namespace opsplit::operators::reference
