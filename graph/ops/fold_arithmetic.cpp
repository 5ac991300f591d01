#include <algorithm>
#include <cmath>
#include <type_traits>

#include "graph/ops/element.hpp"
#include "graph/ops/fold.hpp"
#include "graph/ops/walk.hpp"

namespace opsplit::graph::ops {
namespace {

tl::unexpected<Error> not_evaluated(const Site& site, DType dtype) {
  return fail(ErrorCode::unsupported, "{} of constants of type {} is not evaluated",
              site.node().op_type, to_string(dtype));
}

// Integers wrap round, as they do in ONNX Runtime, but without undefined behaviour.
template <class T>
T add(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    __builtin_add_overflow(a, b, &a);
    return a;
  } else {
    return a + b;
  }
}
template <class T>
T subtract(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    __builtin_sub_overflow(a, b, &a);
    return a;
  } else {
    return a - b;
  }
}
template <class T>
T multiply(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    __builtin_mul_overflow(a, b, &a);
    return a;
  } else {
    return a * b;
  }
}
template <class T>
T divide(T a, T b) {  // precondition: an integer b is not 0
  if constexpr (std::is_integral_v<T>)
    return b == -1 ? subtract<T>(0, a) : a / b;
  else
    return a / b;
}
template <class T>
T power(T a, T b) {
  return std::pow(a, b);
}
// What is no number stays none.
template <class T>
T least(T a, T b) {
  return b < a || b != b ? b : a;
}
template <class T>
T greatest(T a, T b) {
  return b > a || b != b ? b : a;
}

template <class T>
using Binary = T (*)(T, T);

template <class T>
Binary<T> binary(std::string_view op) {
  if (op == "Add" || op == "Sum") return add<T>;
  if (op == "Sub") return subtract<T>;
  if (op == "Mul") return multiply<T>;
  if (op == "Div") return divide<T>;
  if (op == "Min") return least<T>;
  if (op == "Max") return greatest<T>;
  if constexpr (std::is_floating_point_v<T>)
    if (op == "Pow") return power<T>;
  return nullptr;
}

template <class T>
using Unary = T (*)(T);

template <class T>
Unary<T> unary(std::string_view op) {
  if (op == "Neg") return [](T x) { return subtract<T>(0, x); };
  if (op == "Abs") return [](T x) { return x < 0 ? subtract<T>(0, x) : x; };
  if (op == "Relu") return [](T x) { return x < 0 ? 0 : x; };
  if constexpr (std::is_floating_point_v<T>) {
    if (op == "Sqrt") return [](T x) { return std::sqrt(x); };
    if (op == "Exp") return [](T x) { return std::exp(x); };
    if (op == "Log") return [](T x) { return std::log(x); };
    if (op == "Tanh") return [](T x) { return std::tanh(x); };
    if (op == "Erf") return [](T x) { return std::erf(x); };
    if (op == "Sigmoid") return [](T x) { return 1 / (1 + std::exp(-x)); };
  }
  return nullptr;
}

template <class T>
Result<Constants> unary_of(const Site& site, const TensorType& output) {
  const auto function = unary<T>(site.node().op_type);
  if (function == nullptr) return not_evaluated(site, output.dtype);
  OPSPLIT_TRY(auto made, Constant::allocate(output));
  const auto input = site.constant(0)->template as<T>();
  std::transform(input.begin(), input.end(), reinterpret_cast<T*>(made.second), function);
  return Constants{made.first};
}

// ((input 0 op input 1) op input 2) ...
template <class T>
Result<Constants> arithmetic_of(const Site& site, const TensorType& output) {
  const auto function = binary<T>(site.node().op_type);
  if (function == nullptr) return not_evaluated(site, output.dtype);
  OPSPLIT_TRY(auto made, Constant::allocate(output));
  auto* out = reinterpret_cast<T*>(made.second);
  for (std::size_t i = 0; i < site.inputs(); ++i) {
    if (site.type(i).dtype != output.dtype) return not_evaluated(site, site.type(i).dtype);
    const auto input = site.constant(i)->template as<T>();
    if (std::is_integral_v<T> && i > 0 && site.node().op_type == "Div" &&
        std::find(input.begin(), input.end(), T{0}) != input.end())
      return fail(ErrorCode::invalid_input, "divides by zero");
    T* at = out;
    walk<1>(output.shape, {broadcast_strides(site.shape(i), output.shape)},
            [&](std::int64_t offset) {
              const T element = input[static_cast<std::size_t>(offset)];
              *at = i == 0 ? element : function(*at, element);
              ++at;
            });
  }
  return Constants{made.first};
}

template <class T>
Result<Constants> comparison_of(const Site& site, const TensorType& output) {
  OPSPLIT_TRY(auto made, Constant::allocate(output));
  const std::string_view op = site.node().op_type;
  const auto a = site.constant(0)->template as<Stored<T>>();
  const auto b = site.constant(1)->template as<Stored<T>>();
  std::byte* out = made.second;
  walk<2>(output.shape,
          {broadcast_strides(site.shape(0), output.shape),
           broadcast_strides(site.shape(1), output.shape)},
          [&](std::int64_t left, std::int64_t right) {
            const auto x = static_cast<T>(a[static_cast<std::size_t>(left)]);
            const auto y = static_cast<T>(b[static_cast<std::size_t>(right)]);
            *out++ = std::byte{op == "Equal"            ? x == y
                               : op == "Greater"        ? x > y
                               : op == "GreaterOrEqual" ? x >= y
                               : op == "Less"           ? x < y
                                                        : x <= y};
          });
  return Constants{made.first};
}

template <class T>
constexpr bool is_arithmetic = std::is_same_v<T, float> || std::is_same_v<T, double> ||
                               std::is_same_v<T, std::int32_t> || std::is_same_v<T, std::int64_t>;

}  // namespace

Result<Constants> fold_unary(const Site& site, const Types& outputs) {
  return dispatch(outputs[0].dtype, [&](auto* type) -> Result<Constants> {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (is_arithmetic<T>)
      return unary_of<T>(site, outputs[0]);
    else
      return not_evaluated(site, outputs[0].dtype);
  });
}

Result<Constants> fold_arithmetic(const Site& site, const Types& outputs) {
  return dispatch(outputs[0].dtype, [&](auto* type) -> Result<Constants> {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (is_arithmetic<T>)
      return arithmetic_of<T>(site, outputs[0]);
    else
      return not_evaluated(site, outputs[0].dtype);
  });
}

Result<Constants> fold_comparison(const Site& site, const Types& outputs) {
  return dispatch(site.type(0).dtype, [&](auto* type) -> Result<Constants> {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (is_arithmetic<T> || std::is_same_v<T, bool>)
      return comparison_of<T>(site, outputs[0]);
    else
      return not_evaluated(site, site.type(0).dtype);
  });
}

Result<Constants> fold_range(const Site& site, const Types& outputs) {
  return dispatch(outputs[0].dtype, [&](auto* type) -> Result<Constants> {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (is_arithmetic<T>) {
      OPSPLIT_TRY(auto made, Constant::allocate(outputs[0]));
      const T step = site.constant(2)->template as<T>()[0];
      T* out = reinterpret_cast<T*>(made.second);
      for (std::int64_t i = 0; i < outputs[0].shape[0]; ++i)
        out[i] = add(site.constant(0)->template as<T>()[0], multiply(static_cast<T>(i), step));
      return Constants{made.first};
    } else {
      return not_evaluated(site, outputs[0].dtype);
    }
  });
}

Result<Constants> fold_cast(const Site& site, const Types& outputs) {
  const Constant& input = *site.constant(0);
  if (input.type.dtype == outputs[0].dtype) return fold_view(site, outputs);
  OPSPLIT_TRY(auto made, Constant::allocate(outputs[0]));
  OPSPLIT_TRY(const std::int64_t elements, outputs[0].shape.elements());
  cast_elements(input.type.dtype, input.bytes.data(), outputs[0].dtype, made.second, elements);
  return Constants{made.first};
}

}  // namespace opsplit::graph::ops
