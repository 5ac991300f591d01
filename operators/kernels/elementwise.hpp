// Loops over elements of any type, for the kernels that are made of nothing else.
#pragma once

#include <algorithm>
#include <string_view>

#include "graph/ops/element.hpp"
#include "operators/kernels/index_space.hpp"
#include "operators/kernels/reference.hpp"

namespace opsplit::operators::reference {

using graph::ops::Stored;

inline tl::unexpected<Error> not_supported(const Call& call) {
  return fail(ErrorCode::invalid_input, "{} of {} is not supported", call.node.op_type,
              to_string(call.inputs[0].type.dtype));
}

// Calls f with a null pointer to the type of input 0's elements, which are numbers.
template <class F>
Result<> with_numbers(const Call& call, F f) {
  const bool done = graph::ops::dispatch(call.inputs[0].type.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if constexpr (std::is_void_v<T> || std::is_same_v<T, bool>)
      return false;
    else
      return f(type), true;
  });
  if (!done) return not_supported(call);
  return {};
}

// The same, which are float or double.
template <class F>
Result<> with_reals(const Call& call, F f) {
  const DType dtype = call.inputs[0].type.dtype;
  if (dtype == float32) return f(static_cast<float*>(nullptr)), Result<>();
  if (dtype == float64) return f(static_cast<double*>(nullptr)), Result<>();
  return not_supported(call);
}

// Integers wrap around, as ONNX Runtime's do.
template <class T>
T add(T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  else
    return a + b;
}
template <class T>
T subtract(T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
  else
    return a - b;
}
template <class T>
T multiply(T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
  else
    return a * b;
}

// y = f(x), element by element. Precondition: as many of X as of Y.
template <class X, class Y, class F>
void map(const TensorView& x, const MutableTensorView& y, F f) {
  const X* from = x.as<X>();
  Y* to = y.as<Y>();
  const std::int64_t elements = *y.type.shape.elements();
  for (std::int64_t i = 0; i < elements; ++i) to[i] = static_cast<Y>(f(from[i]));
}

// y = f(a, b), both broadcast to y: row by row along the last axis. Precondition: is_broadcastable.
// y may be a.
template <class A, class B, class Y, class F>
void map(const TensorView& a, const TensorView& b, const MutableTensorView& y, F f) {
  const Shape& shape = y.type.shape;
  const std::size_t rank = shape.rank();
  const Coordinates a_strides = broadcast_strides(a.type.shape, shape);
  const Coordinates b_strides = broadcast_strides(b.type.shape, shape);
  const std::int64_t size = rank == 0 ? 1 : shape[rank - 1];
  const std::int64_t a_step = rank == 0 ? 0 : a_strides[rank - 1];
  const std::int64_t b_step = rank == 0 ? 0 : b_strides[rank - 1];
  Shape rows = shape;
  if (rank > 0) rows[rank - 1] = size == 0 ? 0 : 1;
  Y* to = y.as<Y>();
  for_each_index(rows, [&](const Coordinates& at) {
    const A* from_a = a.as<A>() + offset_of(at, a_strides, rank);
    const B* from_b = b.as<B>() + offset_of(at, b_strides, rank);
    if (a_step == 1 && b_step == 1)
      for (std::int64_t i = 0; i < size; ++i) to[i] = static_cast<Y>(f(from_a[i], from_b[i]));
    else
      for (std::int64_t i = 0; i < size; ++i)
        to[i] = static_cast<Y>(f(from_a[i * a_step], from_b[i * b_step]));
    to += size;
  });
}

}  // namespace opsplit::operators::reference
