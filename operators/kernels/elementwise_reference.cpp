// Functions of one element and of two, of every element type that they are defined for.
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "operators/kernels/elementwise.hpp"

namespace opsplit::operators::reference {
namespace {

using graph::ops::convert;
using graph::ops::dispatch;

// What C++ leaves undefined gives 0.
template <class T>
T divide(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    if (b == 0) return 0;
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return subtract<T>(0, a);
    return static_cast<T>(a / b);
  } else {
    return a / b;
  }
}
template <class T>
T remainder(T a, T b) {  // with the sign of a
  if constexpr (std::is_integral_v<T>) {
    if (b == 0 || (std::is_signed_v<T> && b == static_cast<T>(-1))) return 0;
    return static_cast<T>(a % b);
  } else {
    return std::fmod(a, b);
  }
}
template <class T>
T modulo(T a, T b) {  // with the sign of b, as Python's
  const T rest = remainder(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? add(rest, b) : rest;
}
template <class T>
T shift(T x, T bits, bool left) {
  if (bits >= std::numeric_limits<T>::digits) return 0;
  return static_cast<T>(left ? x << bits : x >> bits);
}
template <class T>
T sign(T x) {
  return x != x ? x : static_cast<T>((x > 0) - (x < 0));
}
// What is no number stays none, here and above.
template <class T>
T least(T a, T b) {
  return b < a || b != b ? b : a;
}
template <class T>
T greatest(T a, T b) {
  return b > a || b != b ? b : a;
}

template <class T>
T softplus(T x) {  // log(1 + exp(x)), which must not overflow
  return std::max<T>(x, 0) + std::log1p(std::exp(-std::abs(x)));
}
template <class T>
T elu(T x, T alpha) {
  return x < 0 ? alpha * std::expm1(x) : x;
}
template <class T>
T gelu(T x, bool tanh) {
  constexpr double pi = 3.14159265358979323846;
  const auto value = static_cast<double>(x);
  if (!tanh) return static_cast<T>(value * 0.5 * (1 + std::erf(value / std::sqrt(2.0))));
  const double inner = std::sqrt(2 / pi) * (value + 0.044715 * value * value * value);
  return static_cast<T>(value * 0.5 * (1 + std::tanh(inner)));
}
template <class T>
T shrink(T x, T lambda, T bias) {
  return x < -lambda ? x + bias : x > lambda ? x - bias : 0;
}

// A function of floating-point numbers only: one line each.
template <class T>
bool apply_real(const Call& call) {
  const std::string_view op = call.node.op_type;
  const auto real = [&](std::string_view name, float otherwise) {
    return static_cast<T>(call.node.real(name, otherwise));
  };
  const auto apply = [&](auto f) {
    map<T, T>(call.inputs[0], call.outputs[0], f);
    return true;
  };
  const T alpha = real("alpha", op == "LeakyRelu"     ? 0.01F
                                : op == "HardSigmoid" ? 0.2F
                                : op == "Selu"        ? 1.67326319217681884765625F
                                                      : 1.0F);
  if (op == "Acos") return apply([](T x) { return std::acos(x); });
  if (op == "Acosh") return apply([](T x) { return std::acosh(x); });
  if (op == "Asin") return apply([](T x) { return std::asin(x); });
  if (op == "Asinh") return apply([](T x) { return std::asinh(x); });
  if (op == "Atan") return apply([](T x) { return std::atan(x); });
  if (op == "Atanh") return apply([](T x) { return std::atanh(x); });
  if (op == "Ceil") return apply([](T x) { return std::ceil(x); });
  if (op == "Celu")
    return apply([=](T x) { return std::max<T>(x, 0) + std::min<T>(0, elu(x / alpha, alpha)); });
  if (op == "Cos") return apply([](T x) { return std::cos(x); });
  if (op == "Cosh") return apply([](T x) { return std::cosh(x); });
  if (op == "Elu") return apply([=](T x) { return elu(x, alpha); });
  if (op == "Erf") return apply([](T x) { return std::erf(x); });
  if (op == "Exp") return apply([](T x) { return std::exp(x); });
  if (op == "Floor") return apply([](T x) { return std::floor(x); });
  if (op == "Gelu")
    return apply(
        [tanh = call.node.text("approximate", "none") == "tanh"](T x) { return gelu(x, tanh); });
  if (op == "HardSigmoid" || op == "HardSwish") {
    const bool swish = op == "HardSwish";
    const T slope = swish ? T{1} / 6 : alpha;
    const T offset = swish ? T{1} / 2 : real("beta", 0.5F);
    return apply([=](T x) {
      const T gate = std::max<T>(0, std::min<T>(1, slope * x + offset));
      return swish ? x * gate : gate;
    });
  }
  if (op == "LeakyRelu") return apply([=](T x) { return x < 0 ? alpha * x : x; });
  if (op == "Log") return apply([](T x) { return std::log(x); });
  if (op == "Mish") return apply([](T x) { return x * std::tanh(softplus(x)); });
  if (op == "Reciprocal") return apply([](T x) { return 1 / x; });
  if (op == "Round") return apply([](T x) { return std::nearbyint(x); });
  if (op == "Selu")
    return apply([alpha, gamma = real("gamma", 1.05070102214813232421875F)](T x) {
      return gamma * elu(x, alpha);
    });
  if (op == "Sigmoid") return apply([](T x) { return 1 / (1 + std::exp(-x)); });
  if (op == "Sin") return apply([](T x) { return std::sin(x); });
  if (op == "Sinh") return apply([](T x) { return std::sinh(x); });
  if (op == "Softplus") return apply([](T x) { return softplus(x); });
  if (op == "Softsign") return apply([](T x) { return x / (1 + std::abs(x)); });
  if (op == "Sqrt") return apply([](T x) { return std::sqrt(x); });
  if (op == "Tan") return apply([](T x) { return std::tan(x); });
  if (op == "Tanh") return apply([](T x) { return std::tanh(x); });
  if (op == "ThresholdedRelu") return apply([=](T x) { return x > alpha ? x : 0; });
  return false;
}

// A function of numbers of any type.
template <class T>
bool apply_number(const Call& call) {
  const std::string_view op = call.node.op_type;
  const auto apply = [&](auto f) {
    map<T, T>(call.inputs[0], call.outputs[0], f);
    return true;
  };
  if (op == "Abs") return apply([](T x) { return x < 0 ? subtract<T>(0, x) : x; });
  if (op == "Neg") return apply([](T x) { return subtract<T>(0, x); });
  if (op == "Relu") return apply([](T x) { return x < 0 ? 0 : x; });
  if (op == "Shrink") {
    // Of integers in what holds all of them, for neither attribute need be one.
    using Wide = std::conditional_t<std::is_integral_v<T>, long double, T>;
    return apply([lambda = static_cast<Wide>(call.node.real("lambd", 0.5F)),
                  bias = static_cast<Wide>(call.node.real("bias", 0))](T x) {
      return convert<T>(shrink(static_cast<Wide>(x), lambda, bias));
    });
  }
  if (op == "Sign") return apply([](T x) { return sign(x); });
  if constexpr (std::is_integral_v<T>) {
    if (op == "BitwiseNot") return apply([](T x) { return static_cast<T>(~x); });
    return false;
  } else {
    return apply_real<T>(call);
  }
}

// Bounds are attributes until operator set 10, optional inputs since.
template <class T>
void clip(const Call& call) {
  const auto bound = [&](std::string_view attribute, std::size_t input, T otherwise) {
    if (call.has_input(input)) return call.inputs[input].as<T>()[0];
    return call.node.has(attribute) ? static_cast<T>(call.node.real(attribute, 0)) : otherwise;
  };
  const T low = bound("min", 1, std::numeric_limits<T>::lowest());
  const T high = bound("max", 2, std::numeric_limits<T>::max());
  map<T, T>(call.inputs[0], call.outputs[0], [=](T x) { return std::min(std::max(x, low), high); });
}

template <class T>
bool apply_pair(const Call& call, const TensorView& a, const TensorView& b) {
  const std::string_view op = call.node.op_type;
  const auto apply = [&](auto f) {
    map<T, T, T>(a, b, call.outputs[0], f);
    return true;
  };
  if (op == "Add" || op == "Sum" || op == "Mean") return apply(add<T>);
  if (op == "Sub") return apply(subtract<T>);
  if (op == "Mul") return apply(multiply<T>);
  if (op == "Div") return apply(divide<T>);
  if (op == "Max") return apply(greatest<T>);
  if (op == "Min") return apply(least<T>);
  if (op == "PRelu") return apply([](T x, T slope) { return x < 0 ? multiply(x, slope) : x; });
  if (op == "Mod")
    return call.node.integer("fmod", 0) != 0 ? apply(remainder<T>) : apply(modulo<T>);
  if constexpr (std::is_integral_v<T>) {
    if (op == "BitwiseAnd") return apply([](T x, T y) { return x & y; });
    if (op == "BitwiseOr") return apply([](T x, T y) { return x | y; });
    if (op == "BitwiseXor") return apply([](T x, T y) { return x ^ y; });
    if constexpr (std::is_unsigned_v<T>)
      if (op == "BitShift")
        return apply([left = call.node.text("direction", "") == "LEFT"](T x, T bits) {
          return shift(x, bits, left);
        });
  }
  return false;
}

template <class T>
bool apply_comparison(const Call& call) {
  const std::string_view op = call.node.op_type;
  const auto apply = [&](auto f) {
    map<T, T, std::uint8_t>(call.inputs[0], call.inputs[1], call.outputs[0], f);
    return true;
  };
  if (op == "Equal") return apply([](T x, T y) { return x == y; });
  if (op == "Greater") return apply([](T x, T y) { return x > y; });
  if (op == "GreaterOrEqual") return apply([](T x, T y) { return x >= y; });
  if (op == "Less") return apply([](T x, T y) { return x < y; });
  if (op == "LessOrEqual") return apply([](T x, T y) { return x <= y; });
  return false;
}

template <class T>
bool apply_question(const Call& call) {
  const auto apply = [&](auto f) {
    map<T, std::uint8_t>(call.inputs[0], call.outputs[0], f);
    return true;
  };
  if (call.node.op_type == "IsNaN") return apply([](T x) { return std::isnan(x); });
  const bool negative = call.node.integer("detect_negative", 1) != 0;
  const bool positive = call.node.integer("detect_positive", 1) != 0;
  return apply([=](T x) { return std::isinf(x) && (x > 0 ? positive : negative); });
}

// As `dispatch`, to `bool` where the type has no arithmetic: f says whether it has done something.
template <class F>
Result<> with_numbers(const Call& call, DType dtype, F f) {
  const bool done = dispatch(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (std::is_void_v<T> || std::is_same_v<T, bool>)
      return false;
    else
      return static_cast<bool>(f(type));
  });
  if (!done) return not_supported(call);
  return {};
}

Result<> check_broadcast(const Call& call) {
  const Shape& y = call.outputs[0].type.shape;
  for (std::size_t i = 0; i < call.inputs.size(); ++i)
    if (!call.has_input(i) || !is_broadcastable(call.inputs[i].type.shape, y))
      return fail(ErrorCode::invalid_input, "{} of {} giving {}", call.node.op_type,
                  to_string(call.inputs[i].type), to_string(call.outputs[0].type));
  return {};
}

Result<> check_same_size(const Call& call) {
  if (call.inputs[0].type.shape == call.outputs[0].type.shape) return {};
  return fail(ErrorCode::invalid_input, "{} of {} giving {}", call.node.op_type,
              to_string(call.inputs[0].type), to_string(call.outputs[0].type));
}

Result<> check_dtype(const Call& call, DType output) {
  for (const TensorView& input : call.inputs)
    if (input.data != nullptr && input.type.dtype != call.inputs[0].type.dtype)
      return fail(ErrorCode::invalid_input, "{} of {} and {}", call.node.op_type,
                  to_string(call.inputs[0].type), to_string(input.type));
  if (call.outputs[0].type.dtype == output) return {};
  return fail(ErrorCode::invalid_input, "{} giving {}", call.node.op_type,
              to_string(call.outputs[0].type));
}

// The elements of a tensor of numbers, as reals.
Result<std::vector<double>> reals(const TensorView& view) {
  OPSPLIT_TRY(const std::int64_t count, view.type.shape.elements());
  std::vector<double> values(static_cast<std::size_t>(count));
  const bool known = dispatch(view.type.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (std::is_void_v<T> || std::is_same_v<T, bool>) {
      return false;
    } else {
      std::transform(view.as<T>(), view.as<T>() + count, values.begin(),
                     [](T x) { return static_cast<double>(x); });
      return true;
    }
  });
  if (known) return values;
  return fail(ErrorCode::invalid_input, "numbers of type {}", to_string(view.type.dtype));
}

}  // namespace

Result<> elementwise_unary(const Call& call) {
  OPSPLIT_CHECK(check_same_size(call));
  OPSPLIT_CHECK(check_dtype(call, call.inputs[0].type.dtype));
  return with_numbers(call, call.inputs[0].type.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if (call.node.op_type != "Clip") return apply_number<T>(call);
    clip<T>(call);
    return true;
  });
}

Result<> elementwise_question(const Call& call) {
  OPSPLIT_CHECK(check_same_size(call));
  OPSPLIT_CHECK(check_dtype(call, bool8));
  return with_numbers(call, call.inputs[0].type.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (std::is_floating_point_v<T>)
      return apply_question<T>(call);
    else
      return false;
  });
}

// ((input 0 op input 1) op input 2) ...
Result<> elementwise_binary(const Call& call) {
  OPSPLIT_CHECK(check_broadcast(call));
  const MutableTensorView& y = call.outputs[0];
  OPSPLIT_CHECK(check_dtype(call, call.inputs[0].type.dtype));
  return with_numbers(call, y.type.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const TensorView so_far{y.type, Layout::row_major, y.data};
    if (call.inputs.size() == 1)
      map<T, T, T>(call.inputs[0], call.inputs[0], y, [](T x, T) { return x; });
    for (std::size_t i = 1; i < call.inputs.size(); ++i)
      if (!apply_pair<T>(call, i == 1 ? call.inputs[0] : so_far, call.inputs[i])) return false;
    if (call.node.op_type == "Mean")
      map<T, T>(so_far, y,
                [count = static_cast<T>(call.inputs.size())](T x) { return divide(x, count); });
    return true;
  });
}

// The exponent may be of another type.
Result<> power(const Call& call) {
  OPSPLIT_CHECK(check_broadcast(call));
  const MutableTensorView& y = call.outputs[0];
  if (call.inputs.size() != 2 || call.inputs[0].type.dtype != y.type.dtype)
    return not_supported(call);
  if (call.inputs[1].type.dtype == y.type.dtype) {
    const auto apply = [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      map<T, T, T>(call.inputs[0], call.inputs[1], y, [](T x, T to) { return std::pow(x, to); });
      return Result<>();
    };
    if (y.type.dtype == float32) return apply(static_cast<float*>(nullptr));
    if (y.type.dtype == float64) return apply(static_cast<double*>(nullptr));
  }
  OPSPLIT_TRY(const auto exponents, reals(call.inputs[1]));
  const TensorView exponent{{float64, call.inputs[1].type.shape},
                            Layout::row_major,
                            reinterpret_cast<const std::byte*>(exponents.data())};
  return with_numbers(call, y.type.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    map<T, double, T>(call.inputs[0], exponent, y, [](T x, double to) {
      return convert<T>(std::pow(static_cast<double>(x), to));
    });
    return true;
  });
}

Result<> comparison(const Call& call) {
  OPSPLIT_CHECK(check_broadcast(call));
  OPSPLIT_CHECK(check_dtype(call, bool8));
  if (call.inputs[0].type.dtype == bool8) {
    if (call.node.op_type != "Equal") return not_supported(call);
    map<std::uint8_t, std::uint8_t, std::uint8_t>(
        call.inputs[0], call.inputs[1], call.outputs[0],
        [](std::uint8_t x, std::uint8_t y) { return (x != 0) == (y != 0); });
    return {};
  }
  return with_numbers(call, call.inputs[0].type.dtype, [&](auto* type) {
    return apply_comparison<std::remove_pointer_t<decltype(type)>>(call);
  });
}

Result<> logic(const Call& call) {
  OPSPLIT_CHECK(check_broadcast(call));
  OPSPLIT_CHECK(check_dtype(call, bool8));
  if (call.inputs[0].type.dtype != bool8) return not_supported(call);
  const std::string_view op = call.node.op_type;
  const auto apply = [&](auto f) {
    map<std::uint8_t, std::uint8_t, std::uint8_t>(
        call.inputs[0], call.inputs.back(), call.outputs[0],
        [f](std::uint8_t x, std::uint8_t y) { return f(x != 0, y != 0); });
  };
  if (op == "And") apply([](bool x, bool y) { return x && y; });
  if (op == "Or") apply([](bool x, bool y) { return x || y; });
  if (op == "Xor") apply([](bool x, bool y) { return x != y; });
  if (op == "Not") apply([](bool x, bool) { return !x; });
  return {};
}

Result<> where(const Call& call) {
  OPSPLIT_CHECK(check_broadcast(call));
  const MutableTensorView& y = call.outputs[0];
  if (call.inputs[0].type.dtype != bool8 || call.inputs[1].type.dtype != y.type.dtype ||
      call.inputs[2].type.dtype != y.type.dtype)
    return not_supported(call);
  const std::size_t rank = y.type.shape.rank();
  const std::size_t size = y.type.dtype.bytes();
  std::array<Coordinates, 3> strides;
  for (std::size_t i = 0; i < 3; ++i)
    strides[i] = broadcast_strides(call.inputs[i].type.shape, y.type.shape);
  std::byte* to = y.data;
  for_each_index(y.type.shape, [&](const Coordinates& at) {
    const bool first = call.inputs[0].as<std::uint8_t>()[offset_of(at, strides[0], rank)] != 0;
    const std::size_t from = first ? 1 : 2;
    const auto offset = static_cast<std::size_t>(offset_of(at, strides[from], rank)) * size;
    std::copy_n(call.inputs[from].data + offset, size, to);
    to += size;
  });
  return {};
}

Result<> cast(const Call& call) {
  OPSPLIT_CHECK(check_same_size(call));
  const TensorView& x = call.inputs[0];
  const MutableTensorView& y = call.outputs[0];
  graph::ops::cast_elements(x.type.dtype, x.data, y.type.dtype, y.data, *y.type.shape.elements());
  return {};
}

}  // namespace opsplit::operators::reference
