// Elements as C++ types: which type stands for a dtype, and how one becomes another.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "base/tensor_type.hpp"

namespace opsplit::graph::ops {

// A bool is computed with as a byte: in C++ one that is neither 0 nor 1 would be undefined behaviour.
template <class T>
using Stored = std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, T>;

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

// `count` elements of one type as those of another, whichever, as convert() does it. Row-major both; no overlap.
void cast_elements(DType from_type, const std::byte* from, DType to_type, std::byte* to,
                   std::int64_t count);

}  // namespace opsplit::graph::ops
