#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "graph/ops/fold.hpp"
#include "graph/ops/walk.hpp"

namespace opsplit::graph::ops {
namespace {

tl::unexpected<Error> not_evaluated(const Site& site, DType dtype) {
  return fail(ErrorCode::invalid_input,
              "{} of constants of type {} is not evaluated: fold it when exporting the model",
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
template <class T>
T least(T a, T b) {
  return std::min(a, b);
}
template <class T>
T greatest(T a, T b) {
  return std::max(a, b);
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
  if (op == "Relu") return [](T x) { return std::max<T>(0, x); };
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

// Out of range ends at the nearest there is; what is not a number becomes 0.
template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<To, bool>) return value != 0;
  if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (std::isnan(value)) return 0;
    if (value >= std::ldexp(From{1}, std::numeric_limits<To>::digits))
      return std::numeric_limits<To>::max();
    if (value <= static_cast<From>(std::numeric_limits<To>::lowest()))
      return std::numeric_limits<To>::lowest();
  }
  return static_cast<To>(value);
}

// Calls f with a null pointer to the C++ type that stands for `dtype`; to void if there is none.
template <class F>
auto dispatch(DType dtype, F f) -> decltype(f(static_cast<float*>(nullptr))) {
  if (dtype == float32) return f(static_cast<float*>(nullptr));
  if (dtype == float64) return f(static_cast<double*>(nullptr));
  if (dtype == int64) return f(static_cast<std::int64_t*>(nullptr));
  if (dtype == int32) return f(static_cast<std::int32_t*>(nullptr));
  if (dtype == int16) return f(static_cast<std::int16_t*>(nullptr));
  if (dtype == int8) return f(static_cast<std::int8_t*>(nullptr));
  if (dtype == uint64) return f(static_cast<std::uint64_t*>(nullptr));
  if (dtype == uint32) return f(static_cast<std::uint32_t*>(nullptr));
  if (dtype == uint16) return f(static_cast<std::uint16_t*>(nullptr));
  if (dtype == uint8) return f(static_cast<std::uint8_t*>(nullptr));
  if (dtype == bool8) return f(static_cast<bool*>(nullptr));
  return f(static_cast<void*>(nullptr));
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

template <class From>
static Result<Constants> cast_from(const Site& site, const Constant& input, const Types& outputs) {
  return dispatch(outputs[0].dtype, [&](auto* to_type) -> Result<Constants> {
    using To = std::remove_pointer_t<decltype(to_type)>;
    if constexpr (std::is_void_v<To>) {
      return not_evaluated(site, float16);
    } else {
      OPSPLIT_TRY(auto made, Constant::allocate(outputs[0]));
      const auto elements = input.as<From>();
      std::transform(elements.begin(), elements.end(), reinterpret_cast<To*>(made.second),
                     convert<To, From>);
      return Constants{made.first};
    }
  });
}

Result<Constants> fold_cast(const Site& site, const Types& outputs) {
  const Constant& input = *site.constant(0);
  if (input.type.dtype == outputs[0].dtype) return fold_view(site, outputs);
  // A bool is read as a byte: one that is neither 0 nor 1 would be undefined behaviour.
  return dispatch(input.type.dtype == bool8 ? uint8 : input.type.dtype,
                  [&](auto* from_type) -> Result<Constants> {
                    using From = std::remove_pointer_t<decltype(from_type)>;
                    if constexpr (std::is_void_v<From>)
                      return not_evaluated(site, float16);
                    else
                      return cast_from<From>(site, input, outputs);
                  });
}

}  // namespace opsplit::graph::ops
