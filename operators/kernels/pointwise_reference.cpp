#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "operators/kernels/index_space.hpp"
#include "operators/kernels/pointwise.hpp"
#include "operators/kernels/reference.hpp"

namespace opsplit::operators::reference {
namespace {

float apply(const Activation& activation, float x) {
  const auto [function, alpha, beta] = activation;
  const auto hard_sigmoid = [&] { return std::clamp(alpha * x + beta, 0.0F, 1.0F); };
  switch (function) {
    case ActivationFunction::relu:
      return x > 0 ? x : 0;
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

// Integers wrap around, as ONNX Runtime's do; what C++ leaves undefined gives 0.
template <class T>
T apply(BinaryFunction function, T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    switch (function) {
      case BinaryFunction::add:
        return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
      case BinaryFunction::subtract:
        return static_cast<T>(static_cast<U>(a) - static_cast<U>(b));
      case BinaryFunction::multiply:
        return static_cast<T>(static_cast<U>(a) * static_cast<U>(b));
      case BinaryFunction::divide:
        if (b == 0) return 0;
        if (b == -1) return static_cast<T>(U{0} - static_cast<U>(a));
        return a / b;
      default:
        break;
    }
  }
  switch (function) {
    case BinaryFunction::add:
      return a + b;
    case BinaryFunction::subtract:
      return a - b;
    case BinaryFunction::multiply:
      return a * b;
    case BinaryFunction::divide:
      return a / b;
    case BinaryFunction::maximum:
      return std::max(a, b);
    case BinaryFunction::minimum:
      return std::min(a, b);
  }
  return a;
}

// f(output element, operand element) over a broadcast operand.
template <class T, class F>
void combine(const MutableTensorView& y, const TensorView& operand, F&& f) {
  const Coordinates strides = broadcast_strides(operand.type.shape, y.type.shape);
  const std::size_t rank = y.type.shape.rank();
  T* out = y.as<T>();
  for_each_index(y.type.shape, [&](const Coordinates& at) {
    f(*out, operand.as<T>()[offset_of(at, strides, rank)]);
    ++out;
  });
}

template <class T>
Result<> fold(const Call& call) {
  const MutableTensorView& y = call.outputs[0];
  combine<T>(y, call.inputs[0], [](T& out, T in) { out = in; });
  const std::string_view op = call.node.op_type;
  const auto function = binary_function_of(op);
  if (!function && op != "Pow" && op != "PRelu")
    return fail(ErrorCode::invalid_input, "{} is no pointwise operation", op);
  for (const TensorView& operand : call.inputs.subspan(1))
    combine<T>(y, operand, [&](T& out, T in) {
      if (function)
        out = apply(*function, out, in);
      else if (op == "PRelu")
        out = out < 0 ? apply(BinaryFunction::multiply, out, in) : out;
      else if constexpr (std::is_floating_point_v<T>)
        out = std::pow(out, in);
    });
  return {};
}

}  // namespace

Result<> binary(const Call& call) {
  const TensorType& y = call.outputs[0].type;
  for (std::size_t i = 0; i < call.inputs.size(); ++i)
    if (!call.has_input(i) || call.inputs[i].type.dtype != y.dtype ||
        !is_broadcastable(call.inputs[i].type.shape, y.shape))
      return fail(ErrorCode::invalid_input, "{} of {} giving {}", call.node.op_type,
                  to_string(call.inputs[i].type), to_string(y));
  return y.dtype == float32 ? fold<float>(call) : elementwise_binary(call);
}

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
