#include <Eigen/Core>
#include <algorithm>

#include "graph/ops/element.hpp"

namespace opsplit::graph::ops {
namespace {

// Calls f with a null pointer to the C++ type of any element.
template <class F>
void with_any_element(DType dtype, F f) {
  if (dtype == float16) return f(static_cast<Eigen::half*>(nullptr));
  if (dtype == bfloat16) return f(static_cast<Eigen::bfloat16*>(nullptr));
  dispatch(dtype, [&](auto* type) {
    if constexpr (!std::is_void_v<std::remove_pointer_t<decltype(type)>>) f(type);
  });
}

template <class T>
constexpr bool is_short_float =
    std::is_same_v<T, Eigen::half> || std::is_same_v<T, Eigen::bfloat16>;

template <class To, class From>
To cast(Stored<From> value) {
  using Through = std::conditional_t<is_short_float<To>, float, To>;
  if constexpr (std::is_same_v<From, bool>)
    return To(static_cast<Through>(value != 0));
  else if constexpr (is_short_float<From>)
    return To(convert<Through>(static_cast<float>(value)));
  else
    return To(convert<Through>(value));
}

}  // namespace

void cast_elements(DType from_type, const std::byte* from, DType to_type, std::byte* to,
                   std::int64_t count) {
  with_any_element(from_type, [&](auto* from_element) {
    using From = std::remove_pointer_t<decltype(from_element)>;
    with_any_element(to_type, [&](auto* to_element) {
      using To = std::remove_pointer_t<decltype(to_element)>;
      std::transform(
          reinterpret_cast<const Stored<From>*>(from),
          reinterpret_cast<const Stored<From>*>(from) + count, reinterpret_cast<Stored<To>*>(to),
          [](Stored<From> value) { return static_cast<Stored<To>>(cast<To, From>(value)); });
    });
  });
}

}  // namespace opsplit::graph::ops
